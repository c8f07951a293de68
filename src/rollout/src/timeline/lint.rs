//! The rules of the linter, one function each.

use std::time::Duration;

use super::finding::{CannotFire, Finding, MissingDataFault};
use super::reach::{Counts, Firing, Needs};
use super::{Plan, PlanError, Traffic, Watched, window};
use crate::alarm::{Comparison, Definition, Metric, MissingData};
use crate::deployment::Side;
use crate::simulate::plan::until_abort;
use crate::simulate::{Alarm, Exposure, Phase, Scenario, Scope, exact};
use crate::traffic::TrafficRouting;

/// How often an alarm may stop a version without a fault before it is found: as often as the
/// judge may.
const TOLERATED: f64 = 0.01;

/// Everything in a plan that will not work as it is meant, the worst first. A plan that is
/// refused altogether has no findings but its error.
pub fn findings(plan: &Plan) -> Result<Vec<Finding>, PlanError> {
    plan.validate()?;
    let mut found = Vec::new();
    for alarm in &plan.alarms {
        found.extend(timely(plan, &alarm.definition));
        found.extend(target_group(plan, alarm));
        found.extend(test_listener(plan, alarm));
        found.extend(missing_data(&alarm.definition));
        found.extend(good_version(plan, &alarm.definition));
    }
    if !plan.spec.alarms.names.is_empty() && !plan.spec.auto_rollback.on_alarm {
        found.push(Finding::StopsWithoutRollback);
    }
    found.extend(dead_green(plan));
    found.extend(judge(plan));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    Ok(found)
}

/// Whether an alarm stops a version whose every request fails while green has only a part of
/// the traffic.
fn timely(plan: &Plan, definition: &Definition) -> Option<Finding> {
    if Counts::of(&definition.metric) == Counts::Hosts {
        return None;
    }
    let window = plan.window();
    let exposure = Exposure::new(&plan.spec.routing);
    let end = (plan.spec.routing.duration() + plan.spec.termination_wait).as_secs_f64();
    let in_time = |seconds: f64| seconds <= window.length.as_secs_f64();
    let alarm = definition.name.clone();
    let firing = Firing::of(plan, definition, &exposure, end);
    if let Some(Firing { earliest, latest }) = firing.filter(|firing| in_time(firing.earliest)) {
        let late = latest.is_none_or(|latest| !in_time(latest));
        return late.then(|| Finding::MayFireTooLate {
            alarm,
            window,
            earliest: seconds(earliest),
            latest: latest.map(seconds),
        });
    }
    let why = if Needs::of(definition) == Needs::Never {
        CannotFire::Statistic {
            statistic: definition.statistic,
        }
    } else {
        let plenty = Plan {
            traffic: None,
            ..plan.clone()
        };
        let firing = Firing::of(&plenty, definition, &exposure, end);
        let fastest = firing.map(|firing| firing.earliest);
        match (Needs::of(definition), plan.traffic) {
            (Needs::Failures(needed), Some(traffic)) if fastest.is_some_and(in_time) => {
                too_few(plan, definition, &exposure, (needed, traffic))
            }
            _ => CannotFire::TooSlow {
                earliest: fastest.map(seconds),
                latest: firing.and_then(|firing| firing.latest).map(seconds),
            },
        }
    };
    Some(Finding::CannotFire { alarm, window, why })
}

fn too_few(
    plan: &Plan,
    definition: &Definition,
    exposure: &Exposure,
    (needed, traffic): (f64, Traffic),
) -> CannotFire {
    let window = plan.window().length.as_secs_f64();
    let period = definition.period.as_secs_f64();
    // The last period that ends in the window has the greatest weights.
    let most = exposure.exposure(window) - exposure.exposure((window - period).max(0.0));
    let most = most * traffic.rate;
    let fires = |threshold: f64| {
        let definition = Definition {
            threshold,
            ..definition.clone()
        };
        Firing::of(plan, &definition, exposure, window).is_some()
    };
    CannotFire::TooFewRequests {
        most,
        needed,
        enough: greatest(most, fires),
    }
}

/// The greatest whole number up to `limit` of which something holds that holds of all smaller
/// ones, too.
fn greatest(limit: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    let (mut low, mut high) = (0.0, limit.floor().max(0.0));
    if !holds(low) {
        return None;
    }
    while low < high {
        let middle = f64::midpoint(low, high).ceil();
        if holds(middle) {
            low = middle;
        } else {
            high = middle - 1.0;
        }
    }
    Some(low)
}

fn target_groups(alarm: &Watched) -> impl Iterator<Item = &String> {
    std::iter::once(&alarm.definition.metric)
        .chain(&alarm.also)
        .filter_map(|metric| metric.dimensions.get("TargetGroup"))
}

/// Whether green is watched whichever of the two groups it is.
fn target_group(plan: &Plan, alarm: &Watched) -> Option<Finding> {
    let name = || alarm.definition.name.clone();
    let watched = target_groups(alarm).next()?;
    let has = |alarm: &Watched, group: &String| target_groups(alarm).any(|g| g == group);
    if let Some(foreign) = target_groups(alarm).find(|group| !plan.target_groups.contains(*group)) {
        return Some(Finding::ForeignTargetGroup {
            alarm: name(),
            watched: foreign.clone(),
        });
    }
    let same = |other: &Watched| {
        let (a, b) = (&alarm.definition.metric, &other.definition.metric);
        a.namespace == b.namespace && a.name == b.name
    };
    let unwatched = plan.target_groups.iter().find(|group| {
        let mut others = plan.alarms.iter().filter(|other| same(other));
        !others.any(|other| has(other, group))
    })?;
    Some(Finding::OneTargetGroup {
        alarm: name(),
        watched: watched.clone(),
        unwatched: unwatched.clone(),
    })
}

/// Whether requests to the test listener count.
fn test_listener(plan: &Plan, alarm: &Watched) -> Option<Finding> {
    if !plan.spec.test_listener {
        return None;
    }
    let whole = |metric: &&Metric| !metric.dimensions.contains_key("TargetGroup");
    let metrics = std::iter::once(&alarm.definition.metric).chain(&alarm.also);
    metrics.filter(whole).find_map(|metric| {
        let per_target_group = match Counts::of(metric) {
            Counts::TargetFailures => true,
            // A dead green makes 502 and 504, by whatever listener: that is worth an alarm. An
            // empty group makes 503, and is no fault of anybody's.
            Counts::BalancerFailures => {
                let dead = ["HTTPCode_ELB_502_Count", "HTTPCode_ELB_504_Count"];
                if dead.contains(&metric.name.as_str()) {
                    return None;
                }
                false
            }
            Counts::Hosts | Counts::Other => return None,
        };
        Some(Finding::TestListener {
            alarm: alarm.definition.name.clone(),
            metric: metric.name.clone(),
            per_target_group,
        })
    })
}

/// Whether what is missing is taken for what it is.
fn missing_data(definition: &Definition) -> Option<Finding> {
    let treatment = definition.treat_missing_data;
    let counts = Counts::of(&definition.metric);
    let high = matches!(
        definition.comparison,
        Comparison::GreaterThanThreshold | Comparison::GreaterThanOrEqualToThreshold
    );
    let several = definition.datapoints_to_alarm.max(1) > 1
        || definition.datapoints_to_alarm == 0 && definition.evaluation_periods > 1;
    let fault = match treatment {
        MissingData::Breaching if counts.failures() && high => MissingDataFault::RedWithoutFailures,
        MissingData::Missing if counts.failures() && high && several => {
            MissingDataFault::OneBadPeriodIsEnough
        }
        MissingData::Ignore if counts.failures() && high => MissingDataFault::KeepsItsState,
        MissingData::NotBreaching | MissingData::Ignore | MissingData::Missing
            if counts == Counts::Hosts && !high =>
        {
            MissingDataFault::HidesWhatIsGone
        }
        _ => return None,
    };
    Some(Finding::MissingData {
        alarm: definition.name.clone(),
        treatment,
        fault,
    })
}

/// Whether the failures that are always there trip an alarm.
fn good_version(plan: &Plan, definition: &Definition) -> Option<Finding> {
    let traffic = plan.traffic?;
    let Needs::Failures(least) = Needs::of(definition) else {
        return None;
    };
    // Roles swap: an alarm on a group watches blue one time and green the other.
    let scopes: &[(Scope, Option<Side>)] =
        if definition.metric.dimensions.contains_key("TargetGroup") {
            &[
                (Scope::Blue, Some(Side::Blue)),
                (Scope::Green, Some(Side::Green)),
            ]
        } else {
            &[(Scope::All, None)]
        };
    let trips = |least: f64, phase: Phase| {
        let trips = |scope| trips(plan, definition, (traffic, least), (scope, phase));
        let each = scopes
            .iter()
            .filter_map(|(scope, side)| Some((trips(*scope)?, *side)));
        each.max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let (probability, side) = trips(least, Phase::Uniform)?;
    if probability <= TOLERATED {
        return None;
    }
    // The least that is enough: above all that trips too often. Searched for at one position of
    // the periods, as their mean is dear, and then made sure of.
    let often = |least: f64, phase| trips(least, phase).is_some_and(|(p, _)| p > TOLERATED);
    let middle = Phase::At(definition.period.as_secs_f64() / 2.0);
    let per_period = traffic.rate * definition.period.as_secs_f64();
    let enough = greatest(per_period, |least| often(least.max(1.0), middle)).and_then(|least| {
        (1..=ROUNDS)
            .map(|more| least + f64::from(more))
            .find(|least| !often(*least, Phase::Uniform))
    });
    let enough = enough.map(|least| match definition.comparison {
        Comparison::GreaterThanOrEqualToThreshold => least,
        _ => least - 1.0,
    });
    Some(Finding::GoodVersionTrips {
        alarm: definition.name.clone(),
        threshold: definition.threshold,
        probability,
        side,
        rate: traffic.rate,
        failing: traffic.failing,
        enough,
    })
}

/// The probability that a good version's release is stopped, where it can be computed soon.
fn trips(
    plan: &Plan,
    definition: &Definition,
    (traffic, least): (Traffic, f64),
    (scope, phase): (Scope, Phase),
) -> Option<f64> {
    let release = plan.spec.routing.duration() + plan.spec.termination_wait;
    let periods = release.as_secs_f64() / definition.period.as_secs_f64();
    let histories = f64::from(definition.evaluation_periods.saturating_sub(1)).exp2();
    if periods * histories > DEAR {
        return None;
    }
    let alarm = Alarm {
        threshold: least - 1.0,
        scope,
        phase,
        ..plan.detector(definition)?
    };
    let good = Scenario {
        alarm: Some(alarm),
        judge: None,
        ..plan
            .unwatched(&plan.spec.routing, traffic)
            .of_a_good_version()
    };
    exact(&good).ok().map(|exact| exact.p_detect)
}

/// Whether anything sees a green that refuses connections. Without any alarm nobody expects it.
fn dead_green(plan: &Plan) -> Option<Finding> {
    let metrics = |alarm: &'_ Watched| {
        let own = std::iter::once(alarm.definition.metric.clone());
        own.chain(alarm.also.clone()).collect::<Vec<_>>()
    };
    let sees = |metric: &Metric| {
        let wrong = ["HTTPCode_ELB_500_Count", "HTTPCode_ELB_503_Count"];
        Counts::of(metric) == Counts::BalancerFailures && !wrong.contains(&metric.name.as_str())
            || metric.name == "TargetConnectionErrorCount"
    };
    let anything = plan.alarms.iter().flat_map(metrics).any(|m| sees(&m));
    (!plan.alarms.is_empty() && !anything).then_some(Finding::DeadGreenUnseen)
}

/// Whether the judge can say anything, and soon enough.
fn judge(plan: &Plan) -> Option<Finding> {
    let judge = plan.judge.as_ref()?;
    let routing = plan.spec.routing;
    if routing == TrafficRouting::AllAtOnce && !judge.config.judges_without_baseline() {
        return Some(Finding::NoVerdict);
    }
    let traffic = plan.traffic.filter(|t| t.regression > t.failing)?;
    let takes = |routing: &TrafficRouting| {
        let seconds = until_abort(&plan.unwatched(routing, traffic))?;
        let window = window(routing, plan.spec.termination_wait);
        Some((seconds, seconds <= window.length.as_secs_f64()))
    };
    let found = takes(&routing);
    if found.is_some_and(|(_, in_time)| in_time) {
        return None;
    }
    let with = |percentage: u8, interval: Duration| match routing {
        TrafficRouting::AllAtOnce => None,
        TrafficRouting::TimeBasedCanary { .. } => Some(TrafficRouting::TimeBasedCanary {
            percentage,
            interval,
        }),
        TrafficRouting::TimeBasedLinear { .. } => Some(TrafficRouting::TimeBasedLinear {
            percentage,
            interval,
        }),
    };
    let mends = |percentage: u8, interval: Duration| {
        with(percentage, interval)
            .filter(|routing| routing.validate().is_ok())
            .is_some_and(|routing| takes(&routing).is_some_and(|(_, in_time)| in_time))
    };
    let (minutes, percent) = match routing {
        TrafficRouting::AllAtOnce => (None, None),
        TrafficRouting::TimeBasedCanary {
            percentage,
            interval,
        }
        | TrafficRouting::TimeBasedLinear {
            percentage,
            interval,
        } => (
            (1..=LONGEST_INTERVAL).find(|m| mends(percentage, Duration::from_secs(60 * m))),
            (percentage..=50).find(|percent| mends(*percent, interval)),
        ),
    };
    Some(Finding::CanaryTooShort {
        window: plan.window(),
        rate: traffic.rate,
        regression: traffic.regression,
        needed: found.map(|(takes, _)| seconds(takes)),
        minutes,
        percent,
    })
}

/// How many steps are worth a false alarm's probability: periods times the 2^(N-1) histories that
/// an alarm can have.
const DEAR: f64 = 100_000.0;

/// How far the mean over all positions of the periods may lie above one in the middle.
const ROUNDS: u8 = 5;

/// The longest interval that is proposed, in minutes.
const LONGEST_INTERVAL: u64 = 240;

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
