//! The state machine that is simulated.
//!
//! What the weights do, and what becomes of a deployment that an alarm, the judge or a hook
//! stops, is not known here: [`Deployment`] is asked, for the weights of an undisturbed deployment,
//! and for what it does at each moment at which a detector can act. It is pure, so it is asked
//! each question once, however many simulated deployments have it. Only its waiting is left out:
//! it is woken where its plan has a step, not for every look at alarms that are good.

use std::collections::BTreeMap;
use std::time::Duration;

use super::exposure::Exposure;
use super::monte_carlo::Detector;
use super::scenario::Scenario;
use crate::Timestamp;
use crate::alarm;
use crate::course::{Course, World, all};
use crate::deployment::{
    Alarms, AutoRollback, Deployment, HookStatus, Observation, Spec, Weights, limits,
};
use crate::event::Event;
use crate::lifecycle::{DeploymentStatus, LifecycleEvent};

/// A scenario's deployment at the moments from which it is played.
pub(super) struct Machine {
    /// At the hook, with the id to answer it by; `None` without a smoke test.
    gate: Option<(Deployment, String)>,
    /// At green's first production request.
    begun: Deployment,
    origin: Timestamp,
    /// When it has something to do of itself, from then on.
    wakes: Vec<Duration>,
    stages: Vec<(f64, u8)>,
    red: BTreeMap<String, alarm::State>,
}

impl Machine {
    pub fn new(scenario: &Scenario) -> Machine {
        let names = vec!["errors".to_owned()];
        let hook = scenario.smoke.map(|_| {
            let event = LifecycleEvent::AfterAllowTestTraffic;
            (event, "smoke".to_owned())
        });
        let spec = Spec {
            routing: scenario.strategy,
            test_listener: hook.is_some(),
            hooks: hook.into_iter().collect(),
            termination_wait: Duration::from_secs_f64(scenario.bake_minutes * 60.0),
            auto_rollback: AutoRollback::ALL,
            alarms: Alarms {
                names: names.clone(),
                ignore_poll_failure: false,
            },
            ..Spec::new("d-SIMULATED", "d-ROLLBACK")
        };
        let unanswered = World {
            hook: None,
            ..World::INSTANT
        };
        let gate = scenario.smoke.map(|_| {
            let called = |course: &Course| {
                course.events().iter().find_map(|entry| match &entry.event {
                    Event::HookInvoked { execution_id, .. } => Some(execution_id.clone()),
                    _ => None,
                })
            };
            let mut course = Course::new(spec.clone(), Timestamp::EPOCH, unanswered);
            while called(&course).is_none() && course.advance() {}
            (
                course.deployment().clone(),
                called(&course).unwrap_or_default(),
            )
        });
        let mut course = Course::new(spec, Timestamp::EPOCH, World::INSTANT);
        course.advance_until(|deployment| deployment.weights() != Weights::BLUE);
        let begun = course.deployment().clone();
        let origin = course.now();
        let mut stages = vec![(0.0, begun.weights().green())];
        let mut wakes = Vec::new();
        while course.advance() && course.deployment().view().termination_until.is_none() {
            let (now, green) = (course.now() - origin, course.deployment().weights().green());
            if stages.last().is_none_or(|(_, last)| *last != green) {
                stages.push((now.as_secs_f64(), green));
                wakes.push(now);
            }
        }
        // The last step is effective a moment later, and the termination wait begins.
        let last = wakes.last().copied().unwrap_or_default();
        wakes.push(last + limits::COMMAND);
        Machine {
            gate,
            begun,
            origin,
            wakes,
            stages,
            red: all(&names, alarm::State::Alarm),
        }
    }

    /// Green's weights in an undisturbed deployment.
    pub fn exposure(&self) -> Exposure {
        Exposure::seen(self.stages.iter().copied())
    }

    /// Plays a deployment up to the moment at which a detector acts, `at` seconds after
    /// green's first request: whether all traffic is back on blue then.
    pub fn stopped(&self, by: Detector, at: f64) -> bool {
        let mut deployment = self.begun.clone();
        let elapsed = Duration::try_from_secs_f64(at).unwrap_or_default();
        for wake in self.wakes.iter().take_while(|wake| **wake <= elapsed) {
            let _ = deployment.observe(self.origin + *wake, Observation::Tick);
        }
        let observation = match by {
            Detector::Alarm => Observation::Alarms(self.red.clone()),
            Detector::Judge | Detector::Smoke => Observation::StopRequested {
                auto_rollback: Some(true),
            },
        };
        let _ = deployment.observe(self.origin + elapsed, observation);
        deployment.status() == DeploymentStatus::Stopped && deployment.weights() == Weights::BLUE
    }

    /// Plays a deployment whose hook says no: whether no user ever meets green.
    pub fn refused(&self) -> bool {
        let Some((deployment, execution_id)) = &self.gate else {
            return false;
        };
        let mut deployment = deployment.clone();
        let now = self.origin;
        let _ = deployment.observe(
            now,
            Observation::HookResult {
                execution_id: execution_id.clone(),
                status: HookStatus::Failed,
            },
        );
        deployment.status() == DeploymentStatus::Failed && deployment.weights() == Weights::BLUE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulate::Scenario;
    use crate::smoke;
    use crate::traffic::TrafficRouting;

    fn scenario(strategy: TrafficRouting, bake_minutes: f64) -> Scenario {
        Scenario {
            rate: 20.0,
            p_blue: 0.001,
            p_green: 0.02,
            rollback_seconds: 30.0,
            bake_minutes,
            strategy,
            alarm: None,
            judge: None,
            smoke: Some(smoke::Config::default()),
        }
    }

    proptest! {
        /// The weights that the state machine sets are those of the plan, which the exact
        /// results are computed from; and whoever acts at any moment up to the end, and whatever
        /// that moment's weight, the machine takes all traffic back.
        #[test]
        fn the_machine_follows_the_plan_and_takes_traffic_back(
            percent in 1..99_u8,
            minutes in 1..20_u64,
            linear: bool,
            bake in 0..60_u8,
            share in 0.0..=1.0_f64,
        ) {
            let strategy = if linear {
                TrafficRouting::linear(percent, minutes)
            } else {
                TrafficRouting::canary(percent, minutes)
            };
            let scenario = scenario(strategy, f64::from(bake));
            let machine = Machine::new(&scenario);
            prop_assert_eq!(machine.exposure(), Exposure::new(&strategy));
            let at = scenario.done_at() * share;
            for by in [Detector::Alarm, Detector::Judge] {
                prop_assert!(machine.stopped(by, at));
            }
            prop_assert!(machine.refused());
        }
    }

    #[test]
    fn after_the_end_there_is_nothing_to_take_back() {
        let scenario = scenario(TrafficRouting::AllAtOnce, 5.0);
        let machine = Machine::new(&scenario);
        assert_eq!(
            machine.exposure(),
            Exposure::new(&TrafficRouting::AllAtOnce)
        );
        assert!(machine.stopped(Detector::Alarm, 300.0));
        // The last command takes half a second, and the bake time follows it.
        assert!(!machine.stopped(Detector::Alarm, 301.0));
        assert!(!machine.stopped(Detector::Judge, 301.0));
    }
}
