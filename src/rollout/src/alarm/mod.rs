//! How CloudWatch decides the state of a metric alarm.
//!
//! The rules are few and surprising, and a canary lives by them, so they stand here alone, as a
//! function of data points:
//!
//! - An evaluation looks at more than N periods (the *evaluation range*, [`evaluation_range`]).
//! - With at least N real data points in the range, the last N **real** ones decide, wherever
//!   they lie, and the treatment of missing data is ignored. Hence the trap: with N = 1 and a
//!   metric that is only published when it is not zero, one bad minute keeps the alarm in
//!   `ALARM` until it has left the range, even with `notBreaching`.
//! - With fewer, the gap up to N is filled by the treatment, and all real points count.
//! - With none, the treatment alone decides.
//! - Under `missing`, an alarm also fires when all real points breach and the oldest of them is
//!   at least M periods old: nothing since has contradicted it. A younger one does not yet
//!   ("avoiding premature transitions").
//!
//! Source: CloudWatch user guide, "Configuring how CloudWatch alarms treat missing data", both of
//! whose tables are tests below. Where the guide is silent, the choice is named at the code.

mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::time::millis;
use words::Words;

/// A metric alarm (`PutMetricAlarm`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Name, unique in an account and Region.
    pub name: String,
    /// What is watched.
    pub metric: Metric,
    /// How a period's samples become one data point.
    pub statistic: Statistic,
    /// Length of a period: 10, 20 or 30 s, or a multiple of 60 s.
    #[serde(with = "millis", rename = "period_ms")]
    pub period: Duration,
    /// N: how many data points an evaluation wants.
    pub evaluation_periods: u32,
    /// M: how many of the N must breach. At most N; 0 stands for N, the API's default.
    #[serde(default)]
    pub datapoints_to_alarm: u32,
    /// What data points are compared to.
    pub threshold: f64,
    /// How they are compared.
    pub comparison: Comparison,
    /// What stands in for a data point that is not there.
    #[serde(default)]
    pub treat_missing_data: MissingData,
}

/// The identity of a metric: every set of dimensions is a metric of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Metric {
    /// Such as `AWS/ApplicationELB`.
    pub namespace: String,
    /// Such as `HTTPCode_Target_5XX_Count`.
    pub name: String,
    /// All dimensions, by name.
    #[serde(default)]
    pub dimensions: BTreeMap<String, String>,
}

/// How the samples of a period become one data point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Statistic {
    /// How many samples there were.
    SampleCount,
    /// Their mean.
    Average,
    /// Their sum.
    Sum,
    /// The least of them.
    Minimum,
    /// The greatest of them.
    Maximum,
}

impl Statistic {
    /// The statistic as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Statistic::SampleCount => "SampleCount",
            Statistic::Average => "Average",
            Statistic::Sum => "Sum",
            Statistic::Minimum => "Minimum",
            Statistic::Maximum => "Maximum",
        }
    }

    /// The data point of a period with these samples; `None` when there are none.
    pub fn of(self, samples: &[f64]) -> Option<f64> {
        if samples.is_empty() {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of samples in memory")]
        let count = samples.len() as f64;
        let sum = || samples.iter().sum::<f64>();
        Some(match self {
            Statistic::SampleCount => count,
            Statistic::Average => sum() / count,
            Statistic::Sum => sum(),
            Statistic::Minimum => samples.iter().copied().fold(f64::INFINITY, f64::min),
            Statistic::Maximum => samples.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

/// When a data point breaches: it stands to the threshold as the name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Comparison {
    /// `>=`
    GreaterThanOrEqualToThreshold,
    /// `>`
    GreaterThanThreshold,
    /// `<`
    LessThanThreshold,
    /// `<=`
    LessThanOrEqualToThreshold,
}

impl Comparison {
    /// The operator as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Comparison::GreaterThanOrEqualToThreshold => "GreaterThanOrEqualToThreshold",
            Comparison::GreaterThanThreshold => "GreaterThanThreshold",
            Comparison::LessThanThreshold => "LessThanThreshold",
            Comparison::LessThanOrEqualToThreshold => "LessThanOrEqualToThreshold",
        }
    }

    /// Whether `value` is on the bad side of `threshold`. Nothing is on any side of NaN.
    pub fn breaches(self, value: f64, threshold: f64) -> bool {
        match self {
            Comparison::GreaterThanOrEqualToThreshold => value >= threshold,
            Comparison::GreaterThanThreshold => value > threshold,
            Comparison::LessThanThreshold => value < threshold,
            Comparison::LessThanOrEqualToThreshold => value <= threshold,
        }
    }

    /// The operator in CloudWatch's sentences.
    const fn words(self) -> &'static str {
        match self {
            Comparison::GreaterThanOrEqualToThreshold => "greater than or equal to",
            Comparison::GreaterThanThreshold => "greater than",
            Comparison::LessThanThreshold => "less than",
            Comparison::LessThanOrEqualToThreshold => "less than or equal to",
        }
    }
}

/// What stands in for a missing data point (`TreatMissingData`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MissingData {
    /// Nothing does; without any data point the alarm is `INSUFFICIENT_DATA`.
    #[default]
    Missing,
    /// A good one.
    NotBreaching,
    /// A bad one.
    Breaching,
    /// Nothing does; the alarm keeps its state.
    Ignore,
}

impl MissingData {
    /// The treatment as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            MissingData::Missing => "missing",
            MissingData::NotBreaching => "notBreaching",
            MissingData::Breaching => "breaching",
            MissingData::Ignore => "ignore",
        }
    }
}

/// The state of an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// The metric is within the threshold.
    #[serde(rename = "OK")]
    Ok,
    /// The metric is beyond the threshold.
    #[serde(rename = "ALARM")]
    Alarm,
    /// Not known; also the state of a new alarm.
    #[default]
    #[serde(rename = "INSUFFICIENT_DATA")]
    InsufficientData,
}

impl State {
    /// The state as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Alarm => "ALARM",
            State::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The alarm's state from now on.
    pub state: State,
    /// Why, in CloudWatch's words (`StateReason`).
    pub reason: String,
    /// The newest real data point that was looked at.
    pub value: Option<f64>,
}

/// Why CloudWatch would refuse an alarm.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidAlarm {
    /// See [`Definition::period`].
    #[error(
        "alarm {name:?}: a period of {period:?} is not possible: give 10, 20 or 30 s, or a multiple of 60 s"
    )]
    Period {
        /// The alarm.
        name: String,
        /// Its period.
        period: Duration,
    },
    /// N is zero.
    #[error("alarm {name:?}: no evaluation periods: give at least 1")]
    NoEvaluationPeriods {
        /// The alarm.
        name: String,
    },
    /// M is greater than N.
    #[error(
        "alarm {name:?}: {wanted} data points to alarm of {periods} evaluation periods can never be reached"
    )]
    DatapointsToAlarm {
        /// The alarm.
        name: String,
        /// M.
        wanted: u32,
        /// N.
        periods: u32,
    },
    /// The evaluation periods together are longer than CloudWatch allows.
    #[error("alarm {name:?}: {periods} periods of {period:?} are longer than {limit:?}")]
    TooLong {
        /// The alarm.
        name: String,
        /// N.
        periods: u32,
        /// Its period.
        period: Duration,
        /// A day, or a week where the period is an hour or more.
        limit: Duration,
    },
    /// The threshold is not a number.
    #[error("alarm {name:?}: the threshold is not a number")]
    Threshold {
        /// The alarm.
        name: String,
    },
}

const MINUTE: u64 = 60;
const DAY: Duration = Duration::from_secs(24 * 60 * MINUTE);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * MINUTE);

impl Definition {
    /// N, at least 1.
    fn n(&self) -> usize {
        usize::try_from(self.evaluation_periods.max(1)).unwrap_or(usize::MAX)
    }

    /// M, from 1 to N.
    fn m(&self) -> usize {
        match usize::try_from(self.datapoints_to_alarm).unwrap_or(usize::MAX) {
            0 => self.n(),
            m => m.min(self.n()),
        }
    }

    /// Checks what CloudWatch checks when an alarm is put (API reference, `PutMetricAlarm`).
    pub fn validate(&self) -> Result<(), InvalidAlarm> {
        let name = || self.name.clone();
        let seconds = self.period.as_secs();
        let whole = self.period.subsec_nanos() == 0;
        if !whole
            || !(matches!(seconds, 10 | 20 | 30) || seconds > 0 && seconds.is_multiple_of(MINUTE))
        {
            return Err(InvalidAlarm::Period {
                name: name(),
                period: self.period,
            });
        }
        if self.evaluation_periods == 0 {
            return Err(InvalidAlarm::NoEvaluationPeriods { name: name() });
        }
        if self.datapoints_to_alarm > self.evaluation_periods {
            return Err(InvalidAlarm::DatapointsToAlarm {
                name: name(),
                wanted: self.datapoints_to_alarm,
                periods: self.evaluation_periods,
            });
        }
        let limit = if seconds >= 60 * MINUTE { WEEK } else { DAY };
        if self.period.saturating_mul(self.evaluation_periods) > limit {
            return Err(InvalidAlarm::TooLong {
                name: name(),
                periods: self.evaluation_periods,
                period: self.period,
                limit,
            });
        }
        if !self.threshold.is_finite() {
            return Err(InvalidAlarm::Threshold { name: name() });
        }
        Ok(())
    }

    /// How often the alarm is evaluated: every minute, or every 10 seconds where its period is
    /// shorter than a minute (CloudWatch user guide, "Using Amazon CloudWatch alarms").
    pub const fn evaluation_interval(&self) -> Duration {
        if self.period.as_secs() < MINUTE {
            Duration::from_secs(10)
        } else {
            Duration::from_secs(MINUTE)
        }
    }
}

/// How many periods an evaluation looks at: N + 2.
///
/// CloudWatch documents that the range is longer than N and that its length depends on the
/// period, but not how. N + 2 is a choice that agrees with all that is known: 5 for N = 3 at
/// five-minute periods (the guide's tables), about three days for one daily period, and, for
/// N = 1 at one minute, an alarm that outlived its one bad minute by more than the three minutes
/// by which its data had arrived late (a published record).
pub fn evaluation_range(definition: &Definition) -> usize {
    definition.n().saturating_add(2)
}

/// Evaluates an alarm.
///
/// `points` are the data points of the evaluation range, one a period, oldest first, `None` where
/// nothing was published; of more than [`evaluation_range`] the newest are taken, and what lacks
/// at the old end counts as missing. `previous` is the state before, which an evaluation that
/// decides nothing keeps.
pub fn evaluate(definition: &Definition, previous: State, points: &[Option<f64>]) -> Evaluation {
    evaluation(definition, previous, points, None)
}

/// Evaluates an alarm like [`evaluate`], and dates the data points in the reason, as CloudWatch
/// does. `end` is the end of the newest period.
pub fn evaluate_ending_at(
    definition: &Definition,
    previous: State,
    points: &[Option<f64>],
    end: Timestamp,
) -> Evaluation {
    evaluation(definition, previous, points, Some(end))
}

/// A real data point: how many periods before the newest one it lies, and its value.
#[derive(Clone, Copy)]
struct Point {
    age: usize,
    value: f64,
    breaches: bool,
}

fn evaluation(
    definition: &Definition,
    previous: State,
    points: &[Option<f64>],
    end: Option<Timestamp>,
) -> Evaluation {
    let (n, m) = (definition.n(), definition.m());
    // Newest first, and only as many as can matter: the last N of the range.
    let real: Vec<Point> = points
        .iter()
        .rev()
        .take(evaluation_range(definition))
        .enumerate()
        .filter_map(|(age, value)| {
            // CloudWatch takes no NaN from a publisher; here one would be a missing point.
            let value = value.filter(|value| !value.is_nan())?;
            let breaches = definition.comparison.breaches(value, definition.threshold);
            Some(Point {
                age,
                value,
                breaches,
            })
        })
        .take(n)
        .collect();
    let gap = n - real.len();
    let breaching = real.iter().filter(|point| point.breaches).count();
    let words = Words {
        definition,
        end,
        real: &real,
        gap,
    };
    let state = decide(definition.treat_missing_data, &real, (n, m), breaching);
    let (state, reason) = match state {
        Decision::Alarm => (State::Alarm, words.alarm()),
        Decision::Ok => (State::Ok, words.ok()),
        Decision::InsufficientData => (State::InsufficientData, words.insufficient()),
        Decision::Keep => (previous, words.kept(previous)),
    };
    Evaluation {
        state,
        reason,
        value: real.first().map(|point| point.value),
    }
}

enum Decision {
    Alarm,
    Ok,
    InsufficientData,
    Keep,
}

fn decide(
    treatment: MissingData,
    real: &[Point],
    (n, m): (usize, usize),
    breaching: usize,
) -> Decision {
    let gap = n - real.len();
    let by_count = |breaching: usize| {
        if breaching >= m {
            Decision::Alarm
        } else {
            Decision::Ok
        }
    };
    if gap == 0 {
        return by_count(breaching);
    }
    // All real points are bad, and the oldest has been for M periods. (The guide's table keeps
    // `0 - X - -` at OK for M = 2: a good point anywhere in the range turns the rule off.)
    let oldest_age = real.last().map_or(0, |point| point.age + 1);
    let only_bad = breaching == real.len();
    match treatment {
        MissingData::Breaching => by_count(breaching + gap),
        MissingData::Missing if real.is_empty() => Decision::InsufficientData,
        MissingData::Missing if only_bad && oldest_age >= m => Decision::Alarm,
        MissingData::Missing | MissingData::NotBreaching => by_count(breaching),
        MissingData::Ignore if breaching >= m => Decision::Alarm,
        // Only bad points, fewer than M: the table keeps the state for `- - X - -`; keeping it
        // for a younger one too is the same rule.
        MissingData::Ignore if only_bad => Decision::Keep,
        MissingData::Ignore => Decision::Ok,
    }
}

#[cfg(test)]
mod tests;
