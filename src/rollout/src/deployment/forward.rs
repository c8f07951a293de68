//! The way forward: from one lifecycle event to the next, and through the waits.

use sha2::{Digest, Sha256};

use super::machine::{Deployment, Phase};
use super::messages;
use super::spec::{Kind, Side, Weights, limits};
use super::step::{Command, ErrorCode, Step, TaskSetState};
use crate::Timestamp;
use crate::event::Event;
use crate::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};

impl Deployment {
    pub(super) fn begin(&mut self, step: &mut Step) {
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

    /// The function hooked to an event. Only events that take hooks are asked for theirs.
    pub(super) fn hook(&self, event: LifecycleEvent) -> Option<&String> {
        self.spec.hooks.get(&event)
    }

    pub(super) fn enter(&mut self, event: LifecycleEvent, step: &mut Step) {
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

    pub(super) fn call(&mut self, event: LifecycleEvent, function: String, step: &mut Step) {
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
    pub(super) fn leave(&mut self, event: LifecycleEvent, step: &mut Step) {
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
    pub(super) fn shift(&mut self, start: Timestamp, step: &mut Step) {
        if self
            .unstable_deadline()
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

    /// Until when green may be unsteady while traffic shifts, which it began steadily.
    pub(super) fn unstable_deadline(&self) -> Option<Timestamp> {
        self.unstable_since
            .map(|since| since + limits::UNSTABLE_IN_SHIFT)
    }

    pub(super) fn succeed(&mut self, step: &mut Step) {
        step.commands.push(Command::TerminateBlue);
        self.task_set(Side::Blue, TaskSetState::Terminating, step);
        self.end(DeploymentStatus::Succeeded, None, step);
    }
}

/// The id that a hook function answers with: opaque, as CodeDeploy's is, so that a function
/// which works here does not read the event's name out of it; and the same for the same event of
/// the same deployment, so that nothing random is needed.
pub(super) fn execution_id(deployment_id: &str, event: LifecycleEvent) -> String {
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
