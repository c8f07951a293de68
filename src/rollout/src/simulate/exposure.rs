//! Green's weight over time, and its integral: how much of the traffic has met green.

use std::time::Duration;

use crate::traffic::TrafficRouting;

/// A strategy as a step function of seconds since green's first production request.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposure {
    /// Start in seconds and green's share (0 to 1) of each stage.
    stages: Vec<(f64, f64)>,
}

impl Exposure {
    /// The weights of this strategy.
    pub fn new(routing: &TrafficRouting) -> Exposure {
        let stage = |(at, percent): (Duration, u8)| (at.as_secs_f64(), f64::from(percent) / 100.0);
        Exposure {
            stages: routing.steps().into_iter().map(stage).collect(),
        }
    }

    /// Weights (in percent) that were seen, each with its start in seconds.
    pub(crate) fn seen(stages: impl IntoIterator<Item = (f64, u8)>) -> Exposure {
        let stage = |(at, percent): (f64, u8)| (at, f64::from(percent) / 100.0);
        Exposure {
            stages: stages.into_iter().map(stage).collect(),
        }
    }

    /// Start in seconds and green's share of each stage.
    pub fn stages(&self) -> &[(f64, f64)] {
        &self.stages
    }

    /// When green has all traffic, in seconds.
    pub fn full_at(&self) -> f64 {
        self.stages.last().map_or(0.0, |stage| stage.0)
    }

    /// w(t): green's share at `t` seconds, right-continuous; zero before the start.
    pub fn weight(&self, t: f64) -> f64 {
        let past = self.stages.iter().rev().find(|stage| stage.0 <= t);
        past.map_or(0.0, |stage| stage.1)
    }

    /// W(t): the integral of w from 0 to `t`, in seconds of full traffic.
    pub fn exposure(&self, t: f64) -> f64 {
        let ends = self.stages.iter().skip(1).map(|stage| stage.0);
        self.stages
            .iter()
            .zip(ends.chain([f64::INFINITY]))
            .map(|((start, weight), end)| weight * (t.min(end) - start).max(0.0))
            .sum()
    }
}

/// A strategy as people write it, for `#[serde(with = "rollout::simulate::strategy")]`:
/// `{"type": "TimeBasedCanary", "percent": 10, "minutes": 5}`, and for all at once the type
/// alone. What CodeDeploy would refuse is refused.
pub mod strategy {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::traffic::TrafficRouting;

    #[derive(Serialize, Deserialize)]
    #[serde(tag = "type", deny_unknown_fields)]
    enum Strategy {
        AllAtOnce {},
        TimeBasedCanary { percent: u8, minutes: u64 },
        TimeBasedLinear { percent: u8, minutes: u64 },
    }

    /// Writes a strategy.
    pub fn serialize<S: Serializer>(
        routing: &TrafficRouting,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match *routing {
            TrafficRouting::AllAtOnce => Strategy::AllAtOnce {},
            TrafficRouting::TimeBasedCanary {
                percentage: percent,
                interval,
            } => Strategy::TimeBasedCanary {
                percent,
                minutes: interval.as_secs() / 60,
            },
            TrafficRouting::TimeBasedLinear {
                percentage: percent,
                interval,
            } => Strategy::TimeBasedLinear {
                percent,
                minutes: interval.as_secs() / 60,
            },
        }
        .serialize(serializer)
    }

    /// Reads a strategy.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<TrafficRouting, D::Error> {
        let routing = match Strategy::deserialize(deserializer)? {
            Strategy::AllAtOnce {} => TrafficRouting::AllAtOnce,
            Strategy::TimeBasedCanary { percent, minutes } => {
                TrafficRouting::canary(percent, minutes)
            }
            Strategy::TimeBasedLinear { percent, minutes } => {
                TrafficRouting::linear(percent, minutes)
            }
        };
        routing.validate().map_err(D::Error::custom)?;
        Ok(routing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposure_is_the_integral_of_the_weight() {
        for name in TrafficRouting::predefined_names() {
            let routing = TrafficRouting::predefined(name).expect("predefined");
            let exposure = Exposure::new(&routing);
            let mut sum = 0.0;
            for second in 0..2000_u32 {
                let t = f64::from(second);
                let moment = Duration::from_secs(second.into());
                let weight = f64::from(routing.weight_at(moment)) / 100.0;
                assert!((exposure.weight(t) - weight).abs() < 1e-12, "{name} {t}");
                assert!((exposure.exposure(t) - sum).abs() < 1e-9, "{name} {t}");
                sum += weight;
            }
        }
        let all = Exposure::new(&TrafficRouting::AllAtOnce);
        assert!(all.weight(-1.0) == 0.0 && all.exposure(-1.0) == 0.0);
    }
}
