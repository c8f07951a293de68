//! The transitions.
//!
//! Every observation is taken in the same way: first time goes on (whatever is due by `now`
//! happens, a time limit that has passed wins over what is observed after it), then the
//! observation counts, then time goes on once more for what it opened. Nothing is ever dated
//! back: a tick that comes late finds its events late, because their commands were.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::end::HookFailure;
use super::messages;
use super::spec::{Kind, Spec, Weights, limits};
use super::step::{Command, ErrorCode, Observation, Step, StopReason};
use crate::Timestamp;
use crate::event::{Entry, Event};
use crate::lifecycle::{DeploymentStatus, LifecycleEvent};
use crate::replay::View;

/// A deployment: what it was created with, its public state, and what it waits for.
///
/// It can be stored and read back between two observations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    pub(super) spec: Spec,
    pub(super) view: View,
    pub(super) phase: Phase,
    /// The latest time that was observed; time does not go back.
    pub(super) now: Timestamp,
    /// When the alarms are to be looked at next.
    pub(super) next_poll: Option<Timestamp>,
    /// Since when green is unsteady, after it had been stable.
    pub(super) unstable_since: Option<Timestamp>,
}

/// What is being waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The beginning, and before it the first look at the alarms.
    Created { alarms_known: bool },
    /// A hook's answer.
    Hook {
        event: LifecycleEvent,
        execution_id: String,
        deadline: Timestamp,
    },
    /// A stable green.
    Install { deadline: Timestamp },
    /// The test listener's change to be effective.
    AllowTestTraffic { until: Timestamp },
    /// `ContinueDeployment`.
    ReadyWait { until: Timestamp },
    /// Green to be stable again before traffic moves.
    Settle { deadline: Timestamp },
    /// The next step of traffic; `done` is when the last one is effective.
    Shift {
        start: Timestamp,
        done: Option<Timestamp>,
    },
    /// The end of blue.
    TerminationWait { until: Timestamp },
    /// Nothing.
    Ended,
}

impl Deployment {
    /// Creates a deployment. Its first step tells that it exists and, where alarms are
    /// configured, asks for their states: no lifecycle event begins before they are known.
    pub fn new(spec: Spec, now: Timestamp) -> (Deployment, Step) {
        let rollback_of = match &spec.kind {
            Kind::Forward { .. } => None,
            Kind::Rollback { of } => Some(of.clone()),
        };
        let lifecycle_events: Vec<_> = LifecycleEvent::of_deployment(spec.test_listener).collect();
        let view = View::new(
            now,
            spec.deployment_id.clone(),
            rollback_of.clone(),
            spec.routing,
            &lifecycle_events,
        );
        let alarms_known = spec.alarms.names.is_empty();
        let mut step = Step::default();
        step.events.push(Entry::new(
            now,
            Event::DeploymentCreated {
                deployment_id: spec.deployment_id.clone(),
                rollback_of,
                routing: spec.routing,
                lifecycle_events,
            },
        ));
        let mut deployment = Deployment {
            spec,
            view,
            phase: Phase::Created { alarms_known },
            now,
            next_poll: (!alarms_known).then_some(now),
            unstable_since: None,
        };
        deployment.poll(&mut step);
        (deployment, step)
    }

    /// Takes in what was seen at `now`. A `now` before that of an earlier observation counts as
    /// that one's. After the end nothing happens any more.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) -> Step {
        self.now = self.now.max(now);
        let mut step = Step::default();
        self.advance(&mut step);
        self.take(observation, &mut step);
        self.advance(&mut step);
        self.poll(&mut step);
        step
    }

    /// When to observe a [`Observation::Tick`] if nothing else is observed before: always later
    /// than the last observation. `None` when the deployment has ended.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let due = match &self.phase {
            Phase::Created { alarms_known: true } => self.view.created + limits::CREATED,
            Phase::Created {
                alarms_known: false,
            } => self.view.created + limits::START,
            Phase::Hook { deadline, .. }
            | Phase::Install { deadline }
            | Phase::Settle { deadline } => *deadline,
            Phase::AllowTestTraffic { until }
            | Phase::ReadyWait { until }
            | Phase::TerminationWait { until }
            | Phase::Shift {
                done: Some(until), ..
            } => *until,
            Phase::Shift { start, done: None } => {
                let step = self.spec.routing.next_step_after(self.now - *start);
                let step = step.map(|step| *start + step);
                step.into_iter()
                    .chain(self.unstable_deadline())
                    .min()
                    .unwrap_or(self.now)
            }
            Phase::Ended => return None,
        };
        let due = self.next_poll.map_or(due, |poll| poll.min(due));
        Some(due.max(self.now + Duration::from_millis(1)))
    }

    /// What the deployment was created with.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The deployment's public state.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// The deployment's status.
    pub const fn status(&self) -> DeploymentStatus {
        self.view.status
    }

    /// How production traffic was last divided.
    pub const fn weights(&self) -> Weights {
        self.view.weights
    }

    /// Lets happen what is due.
    pub(super) fn advance(&mut self, step: &mut Step) {
        let now = self.now;
        match self.phase {
            Phase::Created { alarms_known: true } if now >= self.view.created + limits::CREATED => {
                self.begin(step);
            }
            Phase::Created {
                alarms_known: false,
            } if now >= self.view.created + limits::START => {
                self.fail(ErrorCode::Timeout, messages::NOT_STARTED.to_owned(), step);
            }
            Phase::Hook {
                event, deadline, ..
            } if now >= deadline => {
                self.fail_hook(event, HookFailure::TimedOut, step);
            }
            Phase::Install { deadline } | Phase::Settle { deadline } if now >= deadline => {
                self.fail(ErrorCode::Timeout, messages::NEVER_HEALTHY.to_owned(), step);
            }
            Phase::AllowTestTraffic { until } if now >= until => {
                self.leave(LifecycleEvent::AllowTestTraffic, step);
            }
            Phase::ReadyWait { until } if now >= until => {
                let error = messages::not_continued(self.spec.ready_wait.unwrap_or_default());
                let roll_back = self.spec.auto_rollback.on_request;
                self.end_badly(StopReason::ReadyWaitExpired, error, None, roll_back, step);
            }
            Phase::Shift {
                done: Some(done), ..
            } if now >= done => {
                self.leave(LifecycleEvent::AllowTraffic, step);
            }
            Phase::Shift { start, done: None } => self.shift(start, step),
            Phase::TerminationWait { until } if now >= until => self.succeed(step),
            _ => {}
        }
    }

    /// Asks for the alarms' states if it is time. They are looked at in every phase, the
    /// termination wait included: whether CodeDeploy does so there is undocumented, and looking
    /// is the side on which users are safer.
    pub(super) fn poll(&mut self, step: &mut Step) {
        if self.next_poll.is_some_and(|at| self.now >= at) {
            self.next_poll = Some(self.now + limits::ALARM_POLL);
            step.commands.push(Command::PollAlarms {
                names: self.spec.alarms.names.clone(),
            });
        }
    }
}
