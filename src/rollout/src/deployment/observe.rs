//! What each observation does.

use std::collections::BTreeMap;

use super::end::HookFailure;
use super::forward::execution_id;
use super::machine::{Deployment, Phase};
use super::messages;
use super::spec::{Kind, Side};
use super::step::{
    ErrorCode, HookStatus, Observation, Refusal, Step, StopReason, TaskSetState, WaitType,
};
use crate::alarm;
use crate::event::Event;
use crate::lifecycle::{DeploymentStatus, LifecycleEvent};

impl Deployment {
    pub(super) fn take(&mut self, observation: Observation, step: &mut Step) {
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

    pub(super) fn green_is_stable(&mut self, step: &mut Step) {
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

    pub(super) fn green_is_unstable(&mut self, step: &mut Step) {
        if self.view.green == Some(TaskSetState::Stable) {
            self.unstable_since = Some(self.now);
            self.task_set(Side::Green, TaskSetState::Unstable, step);
        }
    }

    pub(super) fn alarms_are(&mut self, states: &BTreeMap<String, alarm::State>, step: &mut Step) {
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
    pub(super) fn alarms_unknown(&mut self, step: &mut Step) {
        if self.spec.alarms.names.is_empty() || self.spec.alarms.ignore_poll_failure {
            self.alarms_known();
        } else {
            let error = messages::error(ErrorCode::InternalError, messages::ALARMS_UNKNOWN);
            let roll_back = self.spec.auto_rollback.on_alarm;
            self.end_badly(StopReason::Alarm, error, None, roll_back, step);
        }
    }

    pub(super) fn alarms_known(&mut self) {
        if let Phase::Created { alarms_known } = &mut self.phase {
            *alarms_known = true;
        }
    }

    pub(super) fn go_on(&mut self, wait: WaitType, step: &mut Step) -> Result<(), Refusal> {
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

    pub(super) fn hook_answered(
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
}
