//! What is to be simulated. In JSON a scenario looks as in the test vectors.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exposure::Exposure;
use crate::judge::{Config, ConfigError};
use crate::smoke::{self, SmokeError};
use crate::traffic::{InvalidTrafficRouting, TrafficRouting};

/// A release under traffic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Requests a second, of both sides together; more than 0.
    pub rate: f64,
    /// The share of blue's requests that fail.
    pub p_blue: f64,
    /// The share of green's requests that fail.
    pub p_green: f64,
    /// From a detection until green gets no traffic, during which the weight is frozen.
    pub rollback_seconds: f64,
    /// How long blue is kept after green has all traffic; a later detection cannot roll back.
    pub bake_minutes: f64,
    /// How traffic moves.
    #[serde(with = "super::exposure::strategy")]
    pub strategy: TrafficRouting,
    /// An alarm that watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<Alarm>,
    /// A judge that watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeDetector>,
    /// A smoke test before any user traffic, whose probes fail as green's requests do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoke: Option<smoke::Config>,
}

/// A `CloudWatch` alarm on a sum of 5xx responses; missing data do not breach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// A period breaches when its sum is greater than this.
    pub threshold: f64,
    /// Seconds of a period.
    pub period: f64,
    /// M: how many of the last N periods must breach.
    pub datapoints: u32,
    /// N, at most 64.
    pub evaluation_periods: u32,
    /// Whose responses are summed.
    pub scope: Scope,
    /// Seconds from a period's end until its sum is published.
    pub metric_delay: f64,
    /// Seconds from there until somebody acts.
    pub poll_delay: f64,
    /// How the periods lie against the start of the release.
    pub phase: Phase,
}

/// Whose responses an alarm sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Green's target group alone.
    Green,
    /// Blue's target group alone: what trips it is no fault of green's.
    Blue,
    /// The whole load balancer.
    All,
}

impl Scope {
    /// Whether green's responses are summed, and whether blue's are.
    pub(super) fn sees(self) -> (bool, bool) {
        match self {
            Scope::Green => (true, false),
            Scope::Blue => (false, true),
            Scope::All => (true, true),
        }
    }
}

/// Periods end at `i * period - phase`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// Known: at least 0, below a period.
    At(f64),
    /// Unknown: the mean over 60 phases spread evenly.
    Uniform,
}

/// The judge as a detector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeDetector {
    /// Batches end at multiples of this, and where the weight changes.
    pub batch_seconds: f64,
    /// Seconds from a batch's end until the judge has acted on it.
    pub delay: f64,
    /// What it was told.
    #[serde(default)]
    pub config: Config,
}

/// Why a scenario cannot be simulated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScenarioError {
    /// No traffic, or more than is plausible.
    #[error("a rate of {0} requests a second: give more than 0 and at most {MAX_RATE}")]
    Rate(f64),
    /// A failure share is not within 0 to 1.
    #[error("{field} = {value} is not a share of requests: give 0 to 1")]
    Share {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// A time is negative, longer than is plausible or not a number.
    #[error("{field} = {value} is not a time: give 0 to {MAX_SECONDS} seconds")]
    Time {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// A period or an interval between batches is too short.
    #[error("{field} = {value}: give {MIN_PERIOD} to {MAX_SECONDS} seconds")]
    Period {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// The release is cut into more pieces than anybody waits for.
    #[error(
        "{pieces:.0} periods or batches in one release: give longer ones; at most {MAX_PIECES} are simulated"
    )]
    TooFine {
        /// How many there would be.
        pieces: f64,
    },
    /// The phase is not within a period.
    #[error("a phase of {0} seconds: give at least 0 and less than a period, or \"uniform\"")]
    Phase(f64),
    /// The alarm's threshold is negative or not a number.
    #[error("a threshold of {0} failed requests: give 0 or more")]
    Threshold(f64),
    /// M of N is not possible.
    #[error("{datapoints} of {periods} data points to alarm: give 1 to N of at most 64")]
    Datapoints {
        /// M.
        datapoints: u32,
        /// N.
        periods: u32,
    },
    /// `CodeDeploy` would refuse the strategy.
    #[error(transparent)]
    Strategy(#[from] InvalidTrafficRouting),
    /// The judge's configuration is refused.
    #[error(transparent)]
    Judge(#[from] ConfigError),
    /// The smoke test's configuration is refused.
    #[error(transparent)]
    Smoke(#[from] SmokeError),
    /// There is no formula for the judge.
    #[error("what the judge detects cannot be computed exactly: simulate it")]
    NotExact,
    /// The alarm remembers more than can be followed exactly.
    #[error("{datapoints} of {periods} data points have too many histories: simulate it")]
    TooManyHistories {
        /// M.
        datapoints: u32,
        /// N.
        periods: u32,
    },
    /// No run, or too many.
    #[error("{0} runs: give 1 to {max}", max = super::MAX_RUNS)]
    Runs(u32),
}

const MAX_RATE: f64 = 1e7;
/// Thirty days.
const MAX_SECONDS: f64 = 30.0 * 86_400.0;
const MIN_PERIOD: f64 = 1.0;
/// Two days of ten-second periods.
const MAX_PIECES: f64 = 20_000.0;

impl Scenario {
    /// Checks every field's range.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        if !(self.rate > 0.0 && self.rate <= MAX_RATE) {
            return Err(ScenarioError::Rate(self.rate));
        }
        for (field, value) in [("p_blue", self.p_blue), ("p_green", self.p_green)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(ScenarioError::Share { field, value });
            }
        }
        self.strategy.validate()?;
        time("rollback_seconds", self.rollback_seconds)?;
        time("bake_minutes", self.bake_minutes * 60.0).map_err(|_| ScenarioError::Time {
            field: "bake_minutes",
            value: self.bake_minutes,
        })?;
        if let Some(alarm) = &self.alarm {
            alarm.validate()?;
        }
        if let Some(judge) = &self.judge {
            period("batch_seconds", judge.batch_seconds)?;
            time("delay", judge.delay)?;
            judge.config.validate()?;
        }
        self.smoke.map_or(Ok(()), |smoke| smoke.validate())?;
        let cuts = [
            self.alarm.map(|alarm| alarm.period),
            self.judge.as_ref().map(|judge| judge.batch_seconds),
        ];
        let pieces: f64 = cuts.into_iter().flatten().map(|s| self.done_at() / s).sum();
        if pieces > MAX_PIECES {
            return Err(ScenarioError::TooFine { pieces });
        }
        Ok(())
    }

    /// The same release of a version that is as good as blue: what detects it is mistaken.
    #[must_use]
    pub fn of_a_good_version(&self) -> Scenario {
        Scenario {
            p_green: self.p_blue,
            ..self.clone()
        }
    }

    /// Green's weights.
    pub fn exposure(&self) -> Exposure {
        Exposure::new(&self.strategy)
    }

    /// When the release is over and blue is gone, in seconds.
    pub fn done_at(&self) -> f64 {
        self.exposure().full_at() + self.bake_minutes * 60.0
    }

    /// P(the smoke test lets green pass); 1 without one.
    pub(super) fn passes_smoke(&self) -> Result<f64, ScenarioError> {
        match &self.smoke {
            None => Ok(1.0),
            Some(config) => Ok(smoke::characteristic(config, self.p_green)?.pass),
        }
    }
}

impl Alarm {
    fn validate(&self) -> Result<(), ScenarioError> {
        period("period", self.period)?;
        time("metric_delay", self.metric_delay)?;
        time("poll_delay", self.poll_delay)?;
        if !(self.threshold >= 0.0 && self.threshold.is_finite()) {
            return Err(ScenarioError::Threshold(self.threshold));
        }
        let (datapoints, periods) = (self.datapoints, self.evaluation_periods);
        if !(1..=64).contains(&periods) || !(1..=periods).contains(&datapoints) {
            return Err(ScenarioError::Datapoints {
                datapoints,
                periods,
            });
        }
        match self.phase {
            Phase::At(phase) if !(phase >= 0.0 && phase < self.period) => {
                Err(ScenarioError::Phase(phase))
            }
            Phase::At(_) | Phase::Uniform => Ok(()),
        }
    }

    /// The phases that are averaged.
    pub(super) fn phases(&self) -> Vec<f64> {
        match self.phase {
            Phase::At(phase) => vec![phase],
            Phase::Uniform => (0..60_u8)
                .map(|i| (f64::from(i) + 0.5) * self.period / 60.0)
                .collect(),
        }
    }

    /// The greatest sum that does not breach.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and a float beyond u64 saturates"
    )]
    pub(super) fn limit(&self) -> u64 {
        self.threshold.floor() as u64
    }

    /// Seconds from the end of a period until it can have made anybody act.
    pub(super) fn delay(&self) -> f64 {
        self.metric_delay + self.poll_delay
    }

    /// What an alarm remembers once one more period is complete: which of the last N breached,
    /// the newest in the lowest bit. With every period's sum known, this and
    /// [`fires`](Alarm::fires) are what [`crate::alarm::evaluate`] does, without its words.
    pub(super) fn remember(&self, history: u64, breach: bool) -> u64 {
        let window = u64::MAX >> (64 - self.evaluation_periods);
        (history << 1 | u64::from(breach)) & window
    }

    /// Whether M of the last N breached.
    pub(super) fn fires(&self, history: u64) -> bool {
        history.count_ones() >= self.datapoints
    }
}

fn time(field: &'static str, value: f64) -> Result<(), ScenarioError> {
    if (0.0..=MAX_SECONDS).contains(&value) {
        Ok(())
    } else {
        Err(ScenarioError::Time { field, value })
    }
}

fn period(field: &'static str, value: f64) -> Result<(), ScenarioError> {
    if (MIN_PERIOD..=MAX_SECONDS).contains(&value) {
        Ok(())
    } else {
        Err(ScenarioError::Period { field, value })
    }
}

impl Serialize for Phase {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Phase::At(phase) => serializer.serialize_f64(*phase),
            Phase::Uniform => serializer.serialize_str("uniform"),
        }
    }
}

impl<'de> Deserialize<'de> for Phase {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Phase, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a phase is a number of seconds or \"uniform\"")]
        enum Written {
            At(f64),
            Named(Uniform),
        }
        #[derive(Deserialize)]
        enum Uniform {
            #[serde(rename = "uniform")]
            Uniform,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::At(phase) => Phase::At(phase),
            Written::Named(Uniform::Uniform) => Phase::Uniform,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::alarm;

    proptest! {
        /// M of N here is CloudWatch's M of N: the state machine's own alarms, asked period by
        /// period with all sums known and good ones before the first.
        #[test]
        fn fires_when_cloudwatch_would(
            n in 1..8_u32,
            m in 1..8_u32,
            breaches in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let m = m.min(n);
            let here = Alarm {
                threshold: 10.0,
                period: 60.0,
                datapoints: m,
                evaluation_periods: n,
                scope: Scope::Green,
                metric_delay: 0.0,
                poll_delay: 0.0,
                phase: Phase::At(0.0),
            };
            let there = alarm::Definition {
                name: "5xx".to_owned(),
                metric: alarm::Metric {
                    namespace: "AWS/ApplicationELB".to_owned(),
                    name: "HTTPCode_Target_5XX_Count".to_owned(),
                    dimensions: BTreeMap::new(),
                },
                statistic: alarm::Statistic::Sum,
                period: Duration::from_mins(1),
                evaluation_periods: n,
                datapoints_to_alarm: m,
                threshold: 10.0,
                comparison: alarm::Comparison::GreaterThanThreshold,
                treat_missing_data: alarm::MissingData::NotBreaching,
            };
            let mut history = 0;
            let mut points = vec![Some(0.0); 10];
            for breach in breaches {
                history = here.remember(history, breach);
                points.push(Some(if breach { 11.0 } else { 10.0 }));
                let state = alarm::evaluate(&there, alarm::State::Ok, &points).state;
                prop_assert_eq!(here.fires(history), state == alarm::State::Alarm);
            }
        }
    }
}
