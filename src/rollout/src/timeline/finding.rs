//! What a linter of releases says.
//!
//! A finding is typed, so that a program can act on it; its [`Display`](std::fmt::Display) says what
//! is wrong in a sentence, and [`Finding::mend`] the change that mends it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alarm::{MissingData, Statistic};
use crate::deployment::Side;
use crate::time::millis;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// It works, but not as well as somebody believes.
    Warning,
    /// It does not do what it is there for.
    Error,
}

/// Something in a plan that will not work as it is meant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "finding", rename_all = "kebab-case")]
pub enum Finding {
    /// An alarm that cannot stop a dead version while it has only a part of the traffic.
    CannotFire {
        /// The alarm.
        alarm: String,
        /// In which it would have to fire.
        window: Window,
        /// Why it cannot.
        why: CannotFire,
    },
    /// An alarm that stops a dead version in time only if its periods happen to lie well.
    MayFireTooLate {
        /// The alarm.
        alarm: String,
        /// In which it would have to fire.
        window: Window,
        /// When it stops it at the earliest.
        #[serde(with = "millis", rename = "earliest_ms")]
        earliest: Duration,
        /// When at the latest; `None` for not at all.
        #[serde(with = "crate::time::optional_millis", rename = "latest_ms")]
        latest: Option<Duration>,
    },
    /// An alarm on one target group of a pair that swaps its roles at every release.
    OneTargetGroup {
        /// The alarm.
        alarm: String,
        /// The target group that it watches.
        watched: String,
        /// The one that nothing like it watches.
        unwatched: String,
    },
    /// An alarm on a target group that is none of the pair.
    ForeignTargetGroup {
        /// The alarm.
        alarm: String,
        /// What it watches.
        watched: String,
    },
    /// An alarm that requests to the test listener can trip.
    TestListener {
        /// The alarm.
        alarm: String,
        /// Its metric.
        metric: String,
        /// Whether the metric is known for each target group.
        per_target_group: bool,
    },
    /// Missing data that are treated so that they hide trouble, or invent it.
    MissingData {
        /// The alarm.
        alarm: String,
        /// How it treats them.
        treatment: MissingData,
        /// What comes of it.
        fault: MissingDataFault,
    },
    /// A threshold that a version without a fault would trip.
    GoodVersionTrips {
        /// The alarm.
        alarm: String,
        /// The threshold.
        threshold: f64,
        /// The probability that it stops a release of such a version.
        probability: f64,
        /// Whose good requests trip it most often; `None` for both together.
        #[serde(skip_serializing_if = "Option::is_none")]
        side: Option<Side>,
        /// Requests a second.
        rate: f64,
        /// The share of them that fails when all is well.
        failing: f64,
        /// The least threshold that trips in at most 1 % of such releases.
        #[serde(skip_serializing_if = "Option::is_none")]
        enough: Option<f64>,
    },
    /// The judge does not find a regression while green has only a part of the traffic.
    CanaryTooShort {
        /// In which it would have to find it.
        window: Window,
        /// Requests a second.
        rate: f64,
        /// The share that fails in the regression.
        regression: f64,
        /// How long the judge takes; `None` for longer than the release.
        #[serde(with = "crate::time::optional_millis", rename = "needed_ms")]
        needed: Option<Duration>,
        /// The least interval of the strategy, in minutes, in which it does find it.
        #[serde(skip_serializing_if = "Option::is_none")]
        minutes: Option<u64>,
        /// The least share of traffic, in percent, with which it finds it in the present one.
        #[serde(skip_serializing_if = "Option::is_none")]
        percent: Option<u8>,
    },
    /// The judge compares with a blue that has no traffic, and has no objective either.
    NoVerdict,
    /// Alarms stop a deployment, and nothing takes the traffic back.
    StopsWithoutRollback,
    /// No alarm sees a green that refuses connections.
    DeadGreenUnseen,
}

/// The time in which a bad version has to be found: while green has only a part of the traffic.
/// Without such a time, while there is a blue to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Window {
    /// How long it is.
    #[serde(with = "millis", rename = "length_ms")]
    pub length: Duration,
    /// What ends it.
    pub of: WindowOf,
}

/// What a [`Window`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowOf {
    /// A canary, ended by the full shift.
    Canary,
    /// A linear shift, ended by its last step.
    Shift,
    /// The bake time, ended by the end of blue.
    Bake,
}

/// Why an alarm cannot fire in time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum CannotFire {
    /// Its periods and delays take longer, however much traffic there is.
    TooSlow {
        /// When it would fire; `None` for after the end.
        #[serde(with = "crate::time::optional_millis", rename = "earliest_ms")]
        earliest: Option<Duration>,
        /// When it would have fired wherever its periods lie; `None` for after the end.
        #[serde(with = "crate::time::optional_millis", rename = "latest_ms")]
        latest: Option<Duration>,
    },
    /// Green has too few requests in a period, even if all of them fail.
    TooFewRequests {
        /// The most that it has in one.
        most: f64,
        /// How many must fail.
        needed: f64,
        /// The greatest threshold that would fire in time.
        #[serde(skip_serializing_if = "Option::is_none")]
        enough: Option<f64>,
    },
    /// The statistic of a count of single events never exceeds 1.
    Statistic {
        /// Which.
        statistic: Statistic,
    },
}

/// What comes of how missing data are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingDataFault {
    /// Without a failure there are no data, and the alarm is red.
    RedWithoutFailures,
    /// One bad period among missing ones is an alarm, whatever number of periods it asks for.
    OneBadPeriodIsEnough,
    /// What the alarm was once, it stays until data come: red after the failures ended, green
    /// through a failure in between.
    KeepsItsState,
    /// Targets that are gone send no data, and that passes for good.
    HidesWhatIsGone,
}

impl Finding {
    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Finding::CannotFire { .. }
            | Finding::OneTargetGroup { .. }
            | Finding::ForeignTargetGroup { .. }
            | Finding::StopsWithoutRollback
            | Finding::MissingData {
                fault: MissingDataFault::RedWithoutFailures | MissingDataFault::HidesWhatIsGone,
                ..
            } => Severity::Error,
            Finding::TestListener {
                per_target_group: false,
                ..
            } => Severity::Note,
            _ => Severity::Warning,
        }
    }

    /// The alarm that it is about, if it is about one.
    pub fn alarm(&self) -> Option<&str> {
        match self {
            Finding::CannotFire { alarm, .. }
            | Finding::MayFireTooLate { alarm, .. }
            | Finding::OneTargetGroup { alarm, .. }
            | Finding::ForeignTargetGroup { alarm, .. }
            | Finding::TestListener { alarm, .. }
            | Finding::MissingData { alarm, .. }
            | Finding::GoodVersionTrips { alarm, .. } => Some(alarm),
            _ => None,
        }
    }

    /// The change that mends it, as an order.
    pub fn mend(&self) -> String {
        match self {
            Finding::CannotFire { why, .. } => why.mend(),
            Finding::MayFireTooLate { latest, .. } => match latest {
                Some(latest) => faster(*latest),
                None => "ask for fewer or shorter periods".to_owned(),
            },
            Finding::OneTargetGroup { unwatched, .. } => {
                format!("add the same alarm on {unwatched}, or sum both groups by metric math")
            }
            Finding::ForeignTargetGroup { .. } => {
                "set the dimension TargetGroup to a group of the pair, and add an alarm on the other"
                    .to_owned()
            }
            Finding::TestListener {
                per_target_group: true,
                ..
            } => "add the dimension TargetGroup: one alarm on each group of the pair".to_owned(),
            Finding::TestListener { .. } => {
                "watch HTTPCode_ELB_502_Count and HTTPCode_ELB_504_Count, which a request to an \
                 empty test target group (503) does not raise"
                    .to_owned()
            }
            Finding::MissingData {
                fault: MissingDataFault::HidesWhatIsGone,
                ..
            } => "set TreatMissingData to breaching".to_owned(),
            Finding::MissingData { .. } => "set TreatMissingData to notBreaching".to_owned(),
            Finding::GoodVersionTrips { enough, .. } => match enough {
                Some(enough) => format!(
                    "raise the threshold to {enough}, or ask for more periods in a row"
                ),
                None => "ask for more periods in a row, or watch a ratio".to_owned(),
            },
            Finding::CanaryTooShort {
                minutes, percent, ..
            } => match (minutes, percent) {
                (Some(minutes), Some(percent)) => format!(
                    "let the interval be {minutes} min or longer, or give green {percent} % of the traffic"
                ),
                (Some(minutes), None) => format!("let the interval be {minutes} min or longer"),
                (None, Some(percent)) => format!("give green {percent} % of the traffic"),
                (None, None) => {
                    "test with more traffic: at this rate a regression of this size is not found"
                        .to_owned()
                }
            },
            Finding::NoVerdict => {
                "give the judge an objective, or choose a strategy with a canary".to_owned()
            }
            Finding::StopsWithoutRollback => {
                "add DEPLOYMENT_STOP_ON_ALARM to the events of autoRollbackConfiguration".to_owned()
            }
            Finding::DeadGreenUnseen => {
                "add an alarm on the load balancer's HTTPCode_ELB_502_Count and \
                 HTTPCode_ELB_504_Count, or on TargetConnectionErrorCount of both groups"
                    .to_owned()
            }
        }
    }
}

impl CannotFire {
    fn mend(self) -> String {
        match self {
            CannotFire::TooSlow {
                latest: Some(latest),
                ..
            } => faster(latest),
            CannotFire::TooSlow { latest: None, .. } => {
                "ask for fewer or shorter periods".to_owned()
            }
            CannotFire::TooFewRequests {
                enough: Some(enough),
                ..
            } => format!("lower the threshold to {enough}, or give green a greater share"),
            CannotFire::TooFewRequests { enough: None, .. } => {
                "ask for fewer or longer periods, or give green a greater share".to_owned()
            }
            CannotFire::Statistic { .. } => "set the statistic to Sum".to_owned(),
        }
    }
}

fn faster(needed: Duration) -> String {
    format!(
        "ask for fewer or shorter periods, or let the interval be {} min or longer",
        needed.as_secs().div_ceil(60)
    )
}
