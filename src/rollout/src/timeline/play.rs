//! From a plan to what the simulator plays.

use super::reach::{Counts, Needs};
use super::{Plan, Traffic};
use crate::alarm::Definition;
use crate::simulate::{Alarm, Phase, Scenario, Scope};
use crate::traffic::TrafficRouting;

impl Plan {
    /// An alarm as the simulator knows it; `None` for one that does not add up targets' failures.
    /// With a target group it watches green, else both. Where its periods lie is not known.
    pub fn detector(&self, definition: &Definition) -> Option<Alarm> {
        let Needs::Failures(least) = Needs::of(definition) else {
            return None;
        };
        let group = definition.metric.dimensions.contains_key("TargetGroup");
        (Counts::of(&definition.metric) == Counts::TargetFailures).then_some(Alarm {
            // The least count that breaches, whatever the comparison.
            threshold: least - 1.0,
            period: definition.period.as_secs_f64(),
            datapoints: match definition.datapoints_to_alarm {
                0 => definition.evaluation_periods,
                m => m,
            },
            evaluation_periods: definition.evaluation_periods,
            scope: if group { Scope::Green } else { Scope::All },
            metric_delay: self.metric_delay.as_secs_f64(),
            poll_delay: self.poll_delay.as_secs_f64(),
            phase: Phase::Uniform,
        })
    }

    /// The release of the regression that the plan's traffic names, watched by the first alarm
    /// that can be simulated and by the judge; taking traffic back takes `rollback_seconds`.
    /// `None` where the traffic is not known.
    pub fn scenario(&self, rollback_seconds: f64) -> Option<Scenario> {
        let mut alarms = self.alarms.iter();
        Some(Scenario {
            rollback_seconds,
            alarm: alarms.find_map(|watched| self.detector(&watched.definition)),
            ..self.unwatched(&self.spec.routing, self.traffic?)
        })
    }

    /// The same under another strategy, with the judge alone.
    pub(super) fn unwatched(&self, strategy: &TrafficRouting, traffic: Traffic) -> Scenario {
        Scenario {
            rate: traffic.rate,
            p_blue: traffic.failing,
            p_green: traffic.regression,
            rollback_seconds: 0.0,
            bake_minutes: self.spec.termination_wait.as_secs_f64() / 60.0,
            strategy: *strategy,
            alarm: None,
            judge: self.judge.clone(),
            smoke: None,
        }
    }
}
