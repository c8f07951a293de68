//! The way out: failures, stops, and what is put back.

use super::machine::{Deployment, Phase};
use super::messages;
use super::spec::{Side, Weights};
use super::step::{
    Command, Diagnostics, ErrorCode, ErrorInformation, LifecycleErrorCode, Step, StopReason,
    TaskSetState,
};
use crate::event::Event;
use crate::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};

/// How a hook failed.
#[derive(Clone, Copy)]
pub(super) enum HookFailure {
    SaidSo,
    TimedOut,
}

impl Deployment {
    pub(super) fn fail(&mut self, code: ErrorCode, message: String, step: &mut Step) {
        let roll_back = self.spec.auto_rollback.on_failure;
        let error = ErrorInformation { code, message };
        self.end_badly(StopReason::Failure, error, None, roll_back, step);
    }

    pub(super) fn fail_hook(&mut self, event: LifecycleEvent, how: HookFailure, step: &mut Step) {
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
    pub(super) fn end_badly(
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
    pub(super) fn put_back(&mut self, step: &mut Step) {
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

    pub(super) fn end(
        &mut self,
        status: DeploymentStatus,
        error: Option<ErrorInformation>,
        step: &mut Step,
    ) {
        self.phase = Phase::Ended;
        self.next_poll = None;
        let ended = Event::DeploymentEnded {
            deployment_id: self.id(),
            status,
            error,
        };
        self.emit(ended, step);
    }
}
