//! Findings in plain words.

use std::fmt;
use std::time::Duration;

use super::finding::{CannotFire, Finding, MissingDataFault, Window, WindowOf};
use crate::deployment::Side;

/// Seconds as people say them.
fn spoken(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if time.as_secs().is_multiple_of(60) {
        format!("{} min", time.as_secs() / 60)
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

/// Two decimals at most.
fn rounded(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

fn percent(share: f64) -> String {
    // Through a rounding: 0.07 * 100 is not 7 in binary.
    format!("{} %", (share * 1e6).round() / 1e4)
}

/// A probability as people say it.
fn likely(probability: f64) -> String {
    if probability >= 0.995 {
        "nearly every release".to_owned()
    } else {
        format!("{:.0} % of the releases", probability * 100.0)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::CannotFire { alarm, window, why } => {
                write!(f, "alarm {alarm} cannot fire within {window}: ")?;
                why.fmt(f)
            }
            Finding::MayFireTooLate {
                alarm,
                window,
                earliest,
                latest,
            } => {
                let earliest = spoken(*earliest);
                let latest = latest.map_or("never".to_owned(), |latest| {
                    format!("after {}", spoken(latest))
                });
                write!(
                    f,
                    "alarm {alarm} may fire only after {window}: a dead version trips it after {earliest} at best, and {latest} where its periods lie badly"
                )
            }
            Finding::OneTargetGroup {
                alarm,
                watched,
                unwatched,
            } => write!(
                f,
                "alarm {alarm} watches {watched} alone: the pair swaps its roles at every release, and half of the time green is {unwatched}"
            ),
            Finding::ForeignTargetGroup { alarm, watched } => write!(
                f,
                "alarm {alarm} watches {watched}, which is no target group of this deployment"
            ),
            Finding::TestListener { alarm, metric, .. } => write!(
                f,
                "alarm {alarm} counts {metric} of the whole load balancer: requests to the test listener trip it, too"
            ),
            Finding::MissingData {
                alarm,
                treatment,
                fault,
            } => write!(f, "alarm {alarm} treats missing data as {}: {fault}", treatment.as_str()),
            Finding::GoodVersionTrips {
                alarm,
                threshold,
                probability,
                side,
                rate,
                failing,
                ..
            } => {
                let whose = match side {
                    Some(Side::Blue) => "as blue's",
                    Some(Side::Green) => "as green's",
                    None => "on both sides together",
                };
                write!(
                    f,
                    "alarm {alarm} (threshold {threshold}) stops {} of a version without a fault: at {} requests a second {} fail when all is well, and {whose} they trip it",
                    likely(*probability),
                    rounded(*rate),
                    percent(*failing)
                )
            }
            Finding::CanaryTooShort {
                window,
                rate,
                regression,
                needed,
                ..
            } => {
                write!(
                    f,
                    "the judge cannot find a version that fails {} of requests within {window}, at {} requests a second: ",
                    percent(*regression),
                    rounded(*rate)
                )?;
                match needed {
                    Some(needed) => write!(f, "it takes about {}", spoken(*needed)),
                    None => f.write_str("it takes longer than the release"),
                }
            }
            Finding::NoVerdict => f.write_str(
                "the judge will say nothing: blue has no traffic to compare with, and there is no objective",
            ),
            Finding::StopsWithoutRollback => f.write_str(
                "an alarm stops the deployment, but traffic stays where it is: the group does not roll back on alarms",
            ),
            Finding::DeadGreenUnseen => f.write_str(
                "no alarm sees a green that refuses connections: the load balancer answers those requests itself, and they count for no target",
            ),
        }
    }
}

impl fmt::Display for CannotFire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CannotFire::TooSlow {
                earliest: Some(earliest),
                ..
            } => write!(
                f,
                "its periods and delays take {} even if every request fails",
                spoken(*earliest)
            ),
            CannotFire::TooSlow { earliest: None, .. } => {
                f.write_str("its periods and delays take longer than the release")
            }
            CannotFire::TooFewRequests { most, needed, .. } => write!(
                f,
                "it needs {needed} failures a period, and green has at most {most:.0} requests in one"
            ),
            CannotFire::Statistic { statistic } => write!(
                f,
                "the {} of a count of single failures never exceeds 1",
                statistic.as_str()
            ),
        }
    }
}

impl fmt::Display for MissingDataFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MissingDataFault::RedWithoutFailures => {
                "the metric is published only when something fails, so the alarm is red while nothing does"
            }
            MissingDataFault::OneBadPeriodIsEnough => {
                "the metric is published only when something fails, so a single bad period is an alarm, whatever number it asks for"
            }
            MissingDataFault::KeepsItsState => {
                "the metric is published only when something fails, so the alarm stays red when that has ended, and stops the next release"
            }
            MissingDataFault::HidesWhatIsGone => {
                "a target group without targets has no data, and that passes for healthy"
            }
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = spoken(self.length);
        match self.of {
            WindowOf::Canary => write!(f, "the canary of {length}"),
            WindowOf::Shift => write!(f, "the shift of {length}"),
            WindowOf::Bake => write!(f, "the {length} for which blue is kept"),
        }
    }
}
