//! The transitions.
//!
//! Every observation is taken in the same way: first time goes on (whatever is due by `now`
//! happens, a time limit that has passed wins over what is observed after it), then the
//! observation counts, then time goes on once more for what it opened. Nothing is ever dated
//! back: a tick that comes late finds its events late, because their commands were.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::messages;
use super::spec::{Kind, Side, Spec, Weights, limits};
use super::step::{
    Command, Diagnostics, ErrorCode, ErrorInformation, HookStatus, LifecycleErrorCode, Observation,
    Refusal, Step, StopReason, TaskSetState, WaitType,
};
use crate::Timestamp;
use crate::alarm;
use crate::event::{Entry, Event};
use crate::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use crate::replay::View;

/// A deployment: what it was created with, its public state, and what it waits for.
///
/// It can be stored and read back between two observations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    spec: Spec,
    view: View,
    phase: Phase,
    /// The latest time that was observed; time does not go back.
    now: Timestamp,
    /// When the alarms are to be looked at next.
    next_poll: Option<Timestamp>,
    /// Since when green is unsteady, after it had been stable.
    unstable_since: Option<Timestamp>,
}

/// What is being waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
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
                    .chain(self.unstable_deadline(*start))
                    .min()?
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

    /// Records an event, and lets it change the public state.
    fn emit(&mut self, event: Event, step: &mut Step) {
        let entry = Entry::new(self.now, event);
        self.view.apply(&entry);
        step.events.push(entry);
    }

    fn id(&self) -> String {
        self.spec.deployment_id.clone()
    }

    // ---- time ----

    /// Lets happen what is due.
    fn advance(&mut self, step: &mut Step) {
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
    fn poll(&mut self, step: &mut Step) {
        if self.next_poll.is_some_and(|at| self.now >= at) {
            self.next_poll = Some(self.now + limits::ALARM_POLL);
            step.commands.push(Command::PollAlarms {
                names: self.spec.alarms.names.clone(),
            });
        }
    }

    // ---- observations ----

    fn take(&mut self, observation: Observation, step: &mut Step) {
        let ended = self.status().is_terminal();
        match observation {
            Observation::HookResult {
                execution_id,
                status,
            } => {
                step.refused = self.hook_answered(&execution_id, status, step).err();
            }
            Observation::StopRequested { .. } | Observation::ContinueRequested(_) if ended => {
                step.refused = Some(Refusal::DeploymentAlreadyCompleted);
            }
            _ if ended => {}
            Observation::Tick => {}
            Observation::TaskSetStable => self.green_is_stable(step),
            Observation::TaskSetUnstable => self.green_is_unstable(step),
            Observation::Alarms(states) => self.alarms_are(&states, step),
            Observation::AlarmPollFailed => self.alarms_unknown(step),
            Observation::StopRequested { auto_rollback } => {
                let roll_back = auto_rollback.unwrap_or(self.spec.auto_rollback.on_request);
                let error = messages::error(ErrorCode::ManualStop, messages::STOPPED);
                self.end_badly(StopReason::Request, error, None, roll_back, step);
            }
            Observation::ContinueRequested(wait) => {
                step.refused = self.go_on(wait, step).err();
            }
            Observation::CommandFailed(error) => {
                let roll_back = self.spec.auto_rollback.on_failure;
                self.end_badly(StopReason::Failure, error, None, roll_back, step);
            }
        }
    }

    fn green_is_stable(&mut self, step: &mut Step) {
        match (&self.phase, self.view.green) {
            (Phase::Install { .. }, _) => {
                self.task_set(Side::Green, TaskSetState::Stable, step);
                self.leave(LifecycleEvent::Install, step);
            }
            (phase, Some(TaskSetState::Unstable)) => {
                let settled = matches!(phase, Phase::Settle { .. });
                self.unstable_since = None;
                self.task_set(Side::Green, TaskSetState::Stable, step);
                if settled {
                    self.phase = Phase::Shift {
                        start: self.now,
                        done: None,
                    };
                }
            }
            _ => {}
        }
    }

    fn green_is_unstable(&mut self, step: &mut Step) {
        if self.view.green == Some(TaskSetState::Stable) {
            self.unstable_since = Some(self.now);
            self.task_set(Side::Green, TaskSetState::Unstable, step);
        }
    }

    fn alarms_are(&mut self, states: &BTreeMap<String, alarm::State>, step: &mut Step) {
        let state = |name: &String| states.get(name).copied();
        let names = &self.spec.alarms.names;
        let active: Vec<&str> = names
            .iter()
            .filter(|name| state(name) == Some(alarm::State::Alarm))
            .map(String::as_str)
            .collect();
        if !active.is_empty() {
            let error = messages::alarms_active(&active);
            let roll_back = self.spec.auto_rollback.on_alarm;
            self.end_badly(StopReason::Alarm, error, None, roll_back, step);
        } else if names.iter().any(|name| state(name).is_none()) {
            self.alarms_unknown(step);
        } else {
            self.alarms_known();
        }
    }

    /// The alarms, or one of them, could not be polled. That counts as an alarm for the
    /// rollback (a choice: the events of `autoRollbackConfiguration` name no other).
    fn alarms_unknown(&mut self, step: &mut Step) {
        if self.spec.alarms.names.is_empty() || self.spec.alarms.ignore_poll_failure {
            self.alarms_known();
        } else {
            let error = messages::error(ErrorCode::InternalError, messages::ALARMS_UNKNOWN);
            let roll_back = self.spec.auto_rollback.on_alarm;
            self.end_badly(StopReason::Alarm, error, None, roll_back, step);
        }
    }

    fn alarms_known(&mut self) {
        if let Phase::Created { alarms_known } = &mut self.phase {
            *alarms_known = true;
        }
    }

    fn go_on(&mut self, wait: WaitType, step: &mut Step) -> Result<(), Refusal> {
        match (wait, &self.phase) {
            _ if matches!(self.spec.kind, Kind::Rollback { .. }) => {
                Err(Refusal::UnsupportedActionForDeploymentType)
            }
            (WaitType::ReadyWait, Phase::ReadyWait { .. }) => {
                self.status_is(DeploymentStatus::InProgress, step);
                self.enter(LifecycleEvent::BeforeAllowTraffic, step);
                Ok(())
            }
            (WaitType::TerminationWait, Phase::TerminationWait { .. }) => {
                self.succeed(step);
                Ok(())
            }
            _ => Err(Refusal::DeploymentIsNotInReadyState),
        }
    }

    fn hook_answered(
        &mut self,
        answered: &str,
        status: HookStatus,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        match &self.phase {
            Phase::Hook {
                event,
                execution_id,
                ..
            } if execution_id == answered => {
                let event = *event;
                let answer = Event::HookAnswered {
                    deployment_id: self.id(),
                    lifecycle_event: event,
                    execution_id: answered.to_owned(),
                    status,
                };
                self.emit(answer, step);
                match status {
                    HookStatus::Succeeded => self.leave(event, step),
                    HookStatus::Failed => self.fail_hook(event, HookFailure::SaidSo, step),
                }
                Ok(())
            }
            _ => {
                let known = self.view.lifecycle_events.iter().any(|state| {
                    state.start.is_some()
                        && self.hook(state.event).is_some()
                        && execution_id(&self.spec.deployment_id, state.event) == answered
                });
                Err(if known {
                    Refusal::LifecycleEventAlreadyCompleted
                } else {
                    Refusal::InvalidLifecycleEventHookExecutionId
                })
            }
        }
    }

    // ---- the way forward ----

    fn begin(&mut self, step: &mut Step) {
        self.status_is(DeploymentStatus::InProgress, step);
        if let Kind::Forward { .. } = self.spec.kind {
            self.enter(LifecycleEvent::BeforeInstall, step);
            return;
        }
        // A rollback's lifecycle events are in no record of an ECS deployment; of Lambda's is
        // known that they succeed without hooks being called.
        for event in LifecycleEvent::of_deployment(self.spec.test_listener) {
            self.lifecycle(event, LifecycleStatus::InProgress, None, step);
            self.lifecycle(event, LifecycleStatus::Succeeded, None, step);
        }
        self.end(DeploymentStatus::Succeeded, None, step);
    }

    /// The function hooked to an event, if the event takes one.
    fn hook(&self, event: LifecycleEvent) -> Option<&String> {
        self.spec.hooks.get(&event).filter(|_| event.is_hook())
    }

    fn enter(&mut self, event: LifecycleEvent, step: &mut Step) {
        let now = self.now;
        self.lifecycle(event, LifecycleStatus::InProgress, None, step);
        match event {
            LifecycleEvent::Install => {
                step.commands.push(Command::CreateGreen);
                self.task_set(Side::Green, TaskSetState::Created, step);
                self.phase = Phase::Install {
                    deadline: now + limits::INSTALL,
                };
            }
            LifecycleEvent::AllowTestTraffic => {
                step.commands.push(Command::AllowTestTraffic);
                self.test_traffic(Side::Green, step);
                self.phase = Phase::AllowTestTraffic {
                    until: now + limits::COMMAND,
                };
            }
            LifecycleEvent::AllowTraffic if self.unstable_since.is_some() => {
                self.phase = Phase::Settle {
                    deadline: now + limits::SETTLE,
                };
            }
            LifecycleEvent::AllowTraffic => {
                self.phase = Phase::Shift {
                    start: now,
                    done: None,
                };
                self.shift(now, step);
            }
            _ => match self.hook(event).cloned() {
                Some(function) => self.call(event, function, step),
                None => self.leave(event, step),
            },
        }
    }

    fn call(&mut self, event: LifecycleEvent, function: String, step: &mut Step) {
        let execution_id = execution_id(&self.spec.deployment_id, event);
        let invoked = Event::HookInvoked {
            deployment_id: self.id(),
            lifecycle_event: event,
            function: function.clone(),
            execution_id: execution_id.clone(),
        };
        self.emit(invoked, step);
        let deadline = self.now + limits::HOOK;
        self.phase = Phase::Hook {
            event,
            execution_id: execution_id.clone(),
            deadline,
        };
        step.commands.push(Command::InvokeHook {
            event,
            function,
            execution_id,
        });
    }

    /// An event succeeded: on to the next one, or to a wait.
    fn leave(&mut self, event: LifecycleEvent, step: &mut Step) {
        self.lifecycle(event, LifecycleStatus::Succeeded, None, step);
        let next =
            LifecycleEvent::of_deployment(self.spec.test_listener).find(|later| *later > event);
        match (next, self.spec.ready_wait) {
            // The wait lies after the last thing that can be tested without users, and before
            // the hook that is the last gate. That it follows AfterAllowTestTraffic's hook is a
            // choice; documents say only that it is between test and production traffic.
            (Some(LifecycleEvent::BeforeAllowTraffic), Some(wait)) => {
                let until = self.now + wait;
                self.phase = Phase::ReadyWait { until };
                self.status_is(DeploymentStatus::Ready, step);
                let waiting = Event::ReadyWaitStarted {
                    deployment_id: self.id(),
                    until,
                };
                self.emit(waiting, step);
            }
            (Some(next), _) => self.enter(next, step),
            (None, _) if self.spec.termination_wait.is_zero() => self.succeed(step),
            (None, _) => {
                let until = self.now + self.spec.termination_wait;
                self.phase = Phase::TerminationWait { until };
                let waiting = Event::TerminationWaitStarted {
                    deployment_id: self.id(),
                    until,
                };
                self.emit(waiting, step);
            }
        }
    }

    /// Moves as much traffic as the plan has reached.
    fn shift(&mut self, start: Timestamp, step: &mut Step) {
        if self
            .unstable_deadline(start)
            .is_some_and(|deadline| self.now >= deadline)
        {
            self.fail(ErrorCode::Timeout, messages::UNSTEADY.to_owned(), step);
            return;
        }
        let weights = Weights::with_green(self.spec.routing.weight_at(self.now - start));
        if weights.green() > self.view.weights.green() {
            self.set_weights(weights, step);
        }
        if weights == Weights::GREEN {
            step.commands.push(Command::MakeGreenPrimary);
            self.primary(Side::Green, step);
            self.phase = Phase::Shift {
                start,
                done: Some(self.now + limits::COMMAND),
            };
        }
    }

    /// Until when green may be unsteady while traffic shifts.
    fn unstable_deadline(&self, start: Timestamp) -> Option<Timestamp> {
        self.unstable_since
            .map(|since| since.max(start) + limits::UNSTABLE_IN_SHIFT)
    }

    fn succeed(&mut self, step: &mut Step) {
        step.commands.push(Command::TerminateBlue);
        self.task_set(Side::Blue, TaskSetState::Terminating, step);
        self.end(DeploymentStatus::Succeeded, None, step);
    }

    // ---- the way out ----

    fn fail(&mut self, code: ErrorCode, message: String, step: &mut Step) {
        let roll_back = self.spec.auto_rollback.on_failure;
        let error = ErrorInformation { code, message };
        self.end_badly(StopReason::Failure, error, None, roll_back, step);
    }

    fn fail_hook(&mut self, event: LifecycleEvent, how: HookFailure, step: &mut Step) {
        let (code, lifecycle_code, message) = match how {
            HookFailure::SaidSo => (
                ErrorCode::HookExecutionFailure,
                LifecycleErrorCode::ScriptFailed,
                messages::HOOK_FAILED,
            ),
            HookFailure::TimedOut => (
                ErrorCode::Timeout,
                LifecycleErrorCode::ScriptTimedOut,
                messages::HOOK_SILENT,
            ),
        };
        let diagnostics = Diagnostics {
            error_code: lifecycle_code,
            script_name: self.hook(event).cloned().unwrap_or_default(),
            message: message.to_owned(),
            log_tail: String::new(),
        };
        let error = messages::error(code, message);
        let roll_back = self.spec.auto_rollback.on_failure;
        self.end_badly(
            StopReason::Failure,
            error,
            Some(diagnostics),
            roll_back,
            step,
        );
    }

    /// Ends the deployment as failed or stopped.
    ///
    /// With a rollback, everything is put back before the deployment ends, as records show:
    /// traffic is on blue when `Stopped` is first seen. The rollback deployment is created in
    /// any phase, also before green was: a record of an alarm that was red from the start shows
    /// one, though a page says that no rollback is possible before `Install`.
    ///
    /// Without, everything stays as it is, mid-canary split included.
    fn end_badly(
        &mut self,
        reason: StopReason,
        error: ErrorInformation,
        diagnostics: Option<Diagnostics>,
        roll_back: bool,
        step: &mut Step,
    ) {
        let mut diagnostics = Some(diagnostics.unwrap_or_else(|| Diagnostics {
            error_code: LifecycleErrorCode::UnknownError,
            script_name: String::new(),
            message: error.message.clone(),
            log_tail: String::new(),
        }));
        let open: Vec<(LifecycleEvent, LifecycleStatus)> = self
            .view
            .lifecycle_events
            .iter()
            .map(|state| (state.event, state.status))
            .collect();
        for (event, status) in open {
            match status {
                LifecycleStatus::InProgress => {
                    self.lifecycle(event, LifecycleStatus::Failed, diagnostics.take(), step);
                }
                LifecycleStatus::Pending => {
                    self.lifecycle(event, LifecycleStatus::Skipped, None, step);
                }
                _ => {}
            }
        }
        if let Some(rollback) = self.spec.rollback().filter(|_| roll_back) {
            self.put_back(step);
            let started = Event::RollbackStarted {
                deployment_id: self.id(),
                rollback_deployment_id: rollback.deployment_id.clone(),
                reason,
            };
            self.emit(started, step);
            step.commands.push(Command::CreateRollbackDeployment {
                spec: Box::new(rollback),
            });
        }
        let status = match reason {
            StopReason::Failure => DeploymentStatus::Failed,
            StopReason::Alarm | StopReason::Request | StopReason::ReadyWaitExpired => {
                DeploymentStatus::Stopped
            }
        };
        self.end(status, Some(error), step);
    }

    /// Users first, then testers, then ECS.
    fn put_back(&mut self, step: &mut Step) {
        if self.view.weights != Weights::BLUE {
            self.set_weights(Weights::BLUE, step);
        }
        if self.view.test_traffic == Some(Side::Green) {
            step.commands.push(Command::RestoreTestTraffic);
            self.test_traffic(Side::Blue, step);
        }
        if self.view.primary == Side::Green {
            step.commands.push(Command::MakeBluePrimary);
            self.primary(Side::Blue, step);
        }
        if self.view.green.is_some() {
            step.commands.push(Command::TerminateGreen);
            self.task_set(Side::Green, TaskSetState::Terminating, step);
        }
    }

    fn end(&mut self, status: DeploymentStatus, error: Option<ErrorInformation>, step: &mut Step) {
        self.phase = Phase::Ended;
        self.next_poll = None;
        let ended = Event::DeploymentEnded {
            deployment_id: self.id(),
            status,
            error,
        };
        self.emit(ended, step);
    }

    // ---- events ----

    fn status_is(&mut self, status: DeploymentStatus, step: &mut Step) {
        let changed = Event::DeploymentStatusChanged {
            deployment_id: self.id(),
            status,
        };
        self.emit(changed, step);
    }

    fn lifecycle(
        &mut self,
        lifecycle_event: LifecycleEvent,
        status: LifecycleStatus,
        diagnostics: Option<Diagnostics>,
        step: &mut Step,
    ) {
        let deployment_id = self.id();
        let changed = Event::LifecycleEventChanged {
            deployment_id,
            lifecycle_event,
            status,
            diagnostics,
        };
        self.emit(changed, step);
    }

    fn task_set(&mut self, task_set: Side, state: TaskSetState, step: &mut Step) {
        let changed = Event::TaskSetChanged {
            deployment_id: self.id(),
            task_set,
            state,
        };
        self.emit(changed, step);
    }

    fn test_traffic(&mut self, task_set: Side, step: &mut Step) {
        let changed = Event::TestTrafficChanged {
            deployment_id: self.id(),
            task_set,
        };
        self.emit(changed, step);
    }

    fn primary(&mut self, task_set: Side, step: &mut Step) {
        let changed = Event::PrimaryChanged {
            deployment_id: self.id(),
            task_set,
        };
        self.emit(changed, step);
    }

    fn set_weights(&mut self, weights: Weights, step: &mut Step) {
        let (blue, green) = (weights.blue(), weights.green());
        step.commands.push(Command::SetWeights { blue, green });
        let changed = Event::WeightsChanged {
            deployment_id: self.id(),
            blue,
            green,
        };
        self.emit(changed, step);
    }
}

enum HookFailure {
    SaidSo,
    TimedOut,
}

/// The id that a hook function answers with: opaque, as CodeDeploy's is, so that a function
/// which works here does not read the event's name out of it; and the same for the same event of
/// the same deployment, so that nothing random is needed.
fn execution_id(deployment_id: &str, event: LifecycleEvent) -> String {
    let mut hash = Sha256::new();
    for part in [
        "lifecycle event hook execution",
        deployment_id,
        event.as_str(),
    ] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex::encode(hash.finalize())
}
