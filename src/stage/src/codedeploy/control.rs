//! `StopDeployment`, `ContinueDeployment`, `SkipWaitTimeForInstanceTermination`,
//! `PutLifecycleEventHookExecutionStatus`
//!
//! Each is an observation of the state machine, which also says when it must be refused.

use rollout::deployment::{HookStatus, Observation, Refusal, WaitType};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, CodeDeploy, names, refuse};
use crate::wire::{ApiError, json::read};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    deployment_id: Option<String>,
    auto_rollback_enabled: Option<bool>,
    deployment_wait_type: Option<String>,
    lifecycle_event_hook_execution_id: Option<String>,
    status: Option<String>,
}

impl CodeDeploy {
    /// Always `Pending`: the stop is accepted, and `GetDeployment` shows when it is done.
    pub(super) fn stop_deployment(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let observation = Observation::StopRequested {
            auto_rollback: input.auto_rollback_enabled,
        };
        self.request_of_client(input.deployment_id.as_deref(), observation)?;
        Ok(json!({
            "status": "Pending",
            "statusMessage": "The deployment is being stopped. Use GetDeployment to see when it has stopped.",
        }))
    }

    pub(super) fn continue_deployment(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let wait = match input.deployment_wait_type.as_deref() {
            None => WaitType::default(),
            Some("READY_WAIT") => WaitType::ReadyWait,
            Some("TERMINATION_WAIT") => WaitType::TerminationWait,
            Some(_) => {
                return Err(refuse(
                    "InvalidDeploymentWaitTypeException",
                    "The wait type is invalid: use READY_WAIT or TERMINATION_WAIT.",
                ));
            }
        };
        self.request_of_client(
            input.deployment_id.as_deref(),
            Observation::ContinueRequested(wait),
        )?;
        Ok(json!({}))
    }

    /// The deprecated name of ending the termination wait.
    pub(super) fn skip_wait_time(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        self.request_of_client(
            input.deployment_id.as_deref(),
            Observation::ContinueRequested(WaitType::TerminationWait),
        )?;
        Ok(json!({}))
    }

    pub(super) fn put_hook_status(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let status = match input.status.as_deref() {
            Some("Succeeded") => HookStatus::Succeeded,
            Some("Failed") => HookStatus::Failed,
            _ => {
                return Err(refuse(
                    "InvalidLifecycleEventHookExecutionStatusException",
                    "The result of a Lambda validation function that verifies a lifecycle event is invalid. It should return Succeeded or Failed.",
                ));
            }
        };
        let execution_id = input
            .lifecycle_event_hook_execution_id
            .filter(|id| !id.is_empty())
            .ok_or_else(|| refused(Refusal::InvalidLifecycleEventHookExecutionId))?;
        self.request_of_client(
            input.deployment_id.as_deref(),
            Observation::HookResult {
                execution_id: execution_id.clone(),
                status,
            },
        )?;
        Ok(json!({ "lifecycleEventHookExecutionId": execution_id }))
    }

    fn request_of_client(
        &self,
        id: Option<&str>,
        observation: Observation,
    ) -> Result<(), ApiError> {
        let id = names::deployment(id)?;
        let mut state = self.state();
        state.deployment(id)?;
        self.request(&mut state, id, observation).map_err(refused)
    }
}

fn refused(refusal: Refusal) -> ApiError {
    refuse(refusal.exception(), refusal.to_string())
}
