//! A deployment in virtual time, in a world where all goes well.
//!
//! A timeline and a simulation want to know what a deployment *would* do. The answer is not
//! computed from its plan by other rules: the state machine itself is driven, by a world that
//! takes as long as it is told for what the real one does (green becomes stable, hooks answer,
//! somebody continues) and never fails. Hours pass in microseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timestamp;
use crate::alarm;
use crate::deployment::{Command, Deployment, HookStatus, Observation, Spec, Step, WaitType};
use crate::event::{Entry, Event};

/// How long things take that no rule of CodeDeploy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// From the creation of green to its being stable.
    pub install: Duration,
    /// From a hook's call to its answer; `None` for hooks that are left unanswered.
    pub hook: Option<Duration>,
    /// From the start of the ready wait to `ContinueDeployment`; `None` for the last moment at
    /// which that is possible.
    pub ready: Option<Duration>,
}

impl World {
    /// A world in which everything is done at once.
    pub const INSTANT: World = World {
        install: Duration::ZERO,
        hook: Some(Duration::ZERO),
        ready: Some(Duration::ZERO),
    };
}

/// A deployment and what the world will say to it.
#[derive(Clone, Debug)]
pub struct Course {
    deployment: Deployment,
    world: World,
    now: Timestamp,
    answers: Vec<(Timestamp, Observation)>,
    events: Vec<Entry>,
}

impl Course {
    /// A deployment that is created at `start`.
    pub fn new(spec: Spec, start: Timestamp, world: World) -> Course {
        let (deployment, step) = Deployment::new(spec, start);
        let mut course = Course {
            deployment,
            world,
            now: start,
            answers: Vec::new(),
            events: Vec::new(),
        };
        course.carry_out(step);
        course
    }

    /// Goes on to the next moment at which anything happens; `false` when the deployment has
    /// ended.
    pub fn advance(&mut self) -> bool {
        let Some(wake) = self.deployment.wake_at() else {
            return false;
        };
        let next = self
            .answers
            .iter()
            .enumerate()
            .filter(|(_, (at, _))| *at <= wake)
            .min_by_key(|(place, (at, _))| (*at, *place))
            .map(|(place, _)| place);
        let (at, observation) = match next {
            Some(place) => self.answers.remove(place),
            None => (wake, Observation::Tick),
        };
        self.now = self.now.max(at);
        let step = self.deployment.observe(self.now, observation);
        self.carry_out(step);
        true
    }

    /// Goes on until something holds of the deployment, or until its end.
    pub fn advance_until(&mut self, holds: impl Fn(&Deployment) -> bool) {
        while !holds(&self.deployment) && self.advance() {}
    }

    /// The deployment as it is now.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The present.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Everything that happened so far.
    pub fn events(&self) -> &[Entry] {
        &self.events
    }

    fn carry_out(&mut self, step: Step) {
        for command in step.commands {
            let answer = match command {
                Command::CreateGreen => Some((self.world.install, Observation::TaskSetStable)),
                Command::InvokeHook { execution_id, .. } => self.world.hook.map(|takes| {
                    let status = HookStatus::Succeeded;
                    let answer = Observation::HookResult {
                        execution_id,
                        status,
                    };
                    (takes, answer)
                }),
                Command::PollAlarms { names } => Some((
                    Duration::ZERO,
                    Observation::Alarms(all(&names, alarm::State::Ok)),
                )),
                _ => None,
            };
            if let Some((takes, observation)) = answer {
                self.answers.push((self.now + takes, observation));
            }
        }
        for entry in &step.events {
            if let Event::ReadyWaitStarted { until, .. } = entry.event {
                let last = until - Duration::from_millis(1);
                let at = self
                    .world
                    .ready
                    .map_or(last, |wait| (self.now + wait).min(last));
                let go_on = Observation::ContinueRequested(WaitType::ReadyWait);
                self.answers.push((at, go_on));
            }
        }
        self.events.extend(step.events);
    }
}

/// All of these alarms in one state.
pub(crate) fn all(names: &[String], state: alarm::State) -> BTreeMap<String, alarm::State> {
    names.iter().map(|name| (name.clone(), state)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::{Alarms, limits};
    use crate::lifecycle::{DeploymentStatus, LifecycleEvent};
    use crate::traffic::TrafficRouting;

    #[test]
    fn takes_as_long_as_its_rules_and_its_world() {
        let spec = Spec {
            routing: TrafficRouting::canary(10, 5),
            test_listener: true,
            hooks: [(LifecycleEvent::AfterAllowTestTraffic, "probe".to_owned())].into(),
            ready_wait: Some(Duration::from_mins(3)),
            termination_wait: Duration::from_mins(2),
            alarms: Alarms {
                names: vec!["5xx".to_owned()],
                ignore_poll_failure: false,
            },
            ..Spec::new("d-AAAAAAAAA", "d-BBBBBBBBB")
        };
        let world = World {
            install: Duration::from_secs(40),
            hook: Some(Duration::from_secs(7)),
            ready: Some(Duration::from_mins(1)),
        };
        let start = Timestamp::from_secs(1_800_000_000);
        let mut course = Course::new(spec.clone(), start, world);
        while course.advance() {}
        assert_eq!(course.deployment().status(), DeploymentStatus::Succeeded);
        let fixed = limits::CREATED + limits::COMMAND * 2;
        let waits = Duration::from_secs(40 + 7 + 60 + 300 + 120);
        assert_eq!(course.now() - start, fixed + waits);

        // Nobody is told to hurry: the wait may last to its end.
        let mut course = Course::new(
            spec.clone(),
            start,
            World {
                ready: None,
                ..world
            },
        );
        while course.advance() {}
        assert_eq!(course.deployment().status(), DeploymentStatus::Succeeded);

        // A hook that nobody answers ends a deployment; until then it waits there.
        let mut course = Course::new(
            spec,
            start,
            World {
                hook: None,
                ..world
            },
        );
        course.advance_until(|deployment| deployment.status().is_terminal());
        assert_eq!(course.deployment().status(), DeploymentStatus::Failed);
        assert!(course.now() - start > limits::HOOK);
    }
}
