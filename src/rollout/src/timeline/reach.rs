//! When an alarm can fire, and who has met green by then.

use std::time::Duration;

use serde::Serialize;

use super::{Plan, Traffic, Watched};
use crate::alarm::{Comparison, Definition, Metric, Statistic};
use crate::simulate::Exposure;
use crate::time::millis;

/// What an alarm can do for a release.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AlarmOutlook {
    /// The alarm's name.
    pub name: String,
    /// When it stops the deployment at the earliest: all of green's requests fail, and the
    /// alarm's periods lie as they are best. `None` where it cannot before the end.
    pub earliest: Option<Reach>,
    /// When it has stopped such a deployment at the latest: the periods lie as they are worst.
    pub latest: Option<Reach>,
}

/// A moment of a release, and how far the new version has come by then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reach {
    /// Since green's first production request.
    #[serde(with = "millis", rename = "after_ms")]
    pub after: Duration,
    /// Green's share of the traffic then, in percent.
    pub weight: f64,
    /// Who has met green; `None` where the traffic is not known.
    pub met: Option<Met>,
}

/// Who has met the new version.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Met {
    /// Requests that green has answered, or not.
    pub requests: f64,
    /// Users with at least one such request.
    pub users: f64,
    /// Their share of all users since green's first request, 0 to 1.
    pub share_of_users: f64,
}

impl Reach {
    fn at(seconds: f64, exposure: &Exposure, traffic: Option<&Traffic>) -> Reach {
        Reach {
            after: Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
            weight: 100.0 * exposure.weight(seconds),
            met: traffic.map(|traffic| Met::by(seconds, exposure, traffic)),
        }
    }
}

impl Met {
    /// Users come evenly; one with k requests under a weight w meets green with probability
    /// `1 - (1-w)^k`.
    fn by(seconds: f64, exposure: &Exposure, traffic: &Traffic) -> Met {
        let ends = exposure.stages().iter().skip(1).map(|stage| stage.0);
        let met: f64 = exposure
            .stages()
            .iter()
            .zip(ends.chain([f64::INFINITY]))
            .map(|((start, weight), end)| {
                let meets = 1.0 - (1.0 - weight).powf(traffic.requests_per_user);
                meets * (seconds.min(end) - start).max(0.0)
            })
            .sum();
        Met {
            requests: traffic.rate * exposure.exposure(seconds),
            users: traffic.rate / traffic.requests_per_user * met,
            share_of_users: if seconds > 0.0 { met / seconds } else { 0.0 },
        }
    }
}

/// What a metric of a load balancer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// Failures that a target made or met: known for each target group.
    TargetFailures,
    /// Failures that the load balancer made itself: not known for each target group.
    BalancerFailures,
    /// Hosts.
    Hosts,
    /// Anything else.
    Other,
}

impl Counts {
    pub fn of(metric: &Metric) -> Counts {
        if metric.namespace != "AWS/ApplicationELB" {
            return Counts::Other;
        }
        match metric.name.as_str() {
            "HTTPCode_Target_5XX_Count" | "TargetConnectionErrorCount" => Counts::TargetFailures,
            "HTTPCode_ELB_5XX_Count"
            | "HTTPCode_ELB_500_Count"
            | "HTTPCode_ELB_502_Count"
            | "HTTPCode_ELB_503_Count"
            | "HTTPCode_ELB_504_Count" => Counts::BalancerFailures,
            "HealthyHostCount" => Counts::Hosts,
            _ => Counts::Other,
        }
    }

    /// Whether the metric counts failures, and is published only when there are some.
    pub fn failures(self) -> bool {
        matches!(self, Counts::TargetFailures | Counts::BalancerFailures)
    }
}

/// How many failures a period needs to breach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Needs {
    /// So many.
    Failures(f64),
    /// More than any period can give it.
    Never,
    /// It is no count of failures: whatever it watches, some traffic must be seen.
    Traffic,
}

impl Needs {
    pub fn of(definition: &Definition) -> Needs {
        if !Counts::of(&definition.metric).failures() {
            return Needs::Traffic;
        }
        let threshold = definition.threshold;
        let least = match definition.comparison {
            Comparison::GreaterThanThreshold => threshold.floor() + 1.0,
            Comparison::GreaterThanOrEqualToThreshold => threshold.ceil(),
            Comparison::LessThanThreshold | Comparison::LessThanOrEqualToThreshold => {
                return Needs::Traffic;
            }
        };
        match definition.statistic {
            Statistic::Sum | Statistic::SampleCount => Needs::Failures(least.max(1.0)),
            // Each failure is published as a sample of 1: no mean, least or greatest exceeds it.
            _ if least > 1.0 => Needs::Never,
            _ => Needs::Failures(1.0),
        }
    }
}

impl AlarmOutlook {
    pub(super) fn of(
        plan: &Plan,
        alarm: &Watched,
        exposure: &Exposure,
        end: Duration,
    ) -> AlarmOutlook {
        let reach = |seconds| Reach::at(seconds, exposure, plan.traffic.as_ref());
        let firing = Firing::of(plan, &alarm.definition, exposure, end.as_secs_f64());
        AlarmOutlook {
            name: alarm.definition.name.clone(),
            earliest: firing.map(|firing| reach(firing.earliest)),
            latest: firing.and_then(|firing| firing.latest).map(reach),
        }
    }
}

/// Seconds from green's first request until an alarm has stopped a version whose every request
/// fails.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Firing {
    pub earliest: f64,
    /// `None` where it has not until the end, for some positions of its periods.
    pub latest: Option<f64>,
}

impl Firing {
    /// `None` where it has not, wherever its periods lie.
    pub fn of(
        plan: &Plan,
        definition: &Definition,
        exposure: &Exposure,
        end: f64,
    ) -> Option<Firing> {
        let needs = match (Needs::of(definition), &plan.traffic) {
            (Needs::Never, _) => return None,
            (Needs::Failures(failures), Some(traffic)) => failures / traffic.rate,
            (Needs::Traffic, Some(traffic)) => 1.0 / traffic.rate,
            // Plenty of traffic: any part of a period will do.
            (_, None) => 0.0,
        };
        let period = definition.period.as_secs_f64();
        let delay = (plan.metric_delay + plan.poll_delay).as_secs_f64();
        let phases = phases(period);
        let mut earliest: Option<f64> = None;
        let mut latest: Option<f64> = Some(0.0);
        for phase in 0..phases {
            let phase = period * f64::from(phase) / f64::from(phases);
            let fires =
                fires(definition, exposure, (needs, phase), end - delay).map(|fires| fires + delay);
            earliest = match (earliest, fires) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            latest = latest.zip(fires).map(|(a, b)| a.max(b));
        }
        earliest.map(|earliest| Firing { earliest, latest })
    }
}

/// How many positions of the periods are tried: every second, of long periods every 1/120.
fn phases(period: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "10 to 120"
    )]
    let phases = period.clamp(10.0, 120.0) as u32;
    phases
}

/// The end of the period with which M of the last N breach, periods ending at `i * period -
/// phase`; a period breaches when green has had `needs` seconds of full traffic in it.
fn fires(
    definition: &Definition,
    exposure: &Exposure,
    (needs, phase): (f64, f64),
    until: f64,
) -> Option<f64> {
    let period = definition.period.as_secs_f64();
    let wanted = match definition.datapoints_to_alarm {
        0 => definition.evaluation_periods,
        m => m,
    };
    let window = usize::try_from(definition.evaluation_periods).unwrap_or(usize::MAX);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    let mut breaches = std::collections::VecDeque::new();
    let mut breaching = 0_usize;
    let mut start = -phase;
    for index in 1_u32.. {
        let end = f64::from(index) * period - phase;
        if end > until {
            break;
        }
        let seen = exposure.exposure(end) - exposure.exposure(start);
        start = end;
        let breach = seen > 0.0 && seen >= needs - 1e-9;
        breaches.push_back(breach);
        breaching += usize::from(breach);
        if breaches.len() > window && breaches.pop_front() == Some(true) {
            breaching -= 1;
        }
        if breaching >= wanted {
            return Some(end);
        }
    }
    None
}
