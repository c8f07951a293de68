//! What CodeDeploy says when a deployment ends badly.
//!
//! The texts are its own where they are known: the alarm's from published `GetDeployment`
//! outputs, those of the time limits from the user guide, "Troubleshoot Amazon ECS deployment
//! issues". The others are in its manner. Tools look into them, so they are kept in one place.

use std::time::Duration;

use super::step::{ErrorCode, ErrorInformation};
use crate::appspec::AppSpecError;

/// `Install` or the wait for a scaling green took too long.
pub const NEVER_HEALTHY: &str = "The deployment timed out while waiting for the replacement task set to become healthy. This time out period is 60 minutes.";

/// A hook was not answered.
pub const HOOK_SILENT: &str = "The deployment timed out while waiting for a status callback. CodeDeploy expects a status callback within one hour after a deployment hook is invoked.";

/// A hook answered `Failed`.
pub const HOOK_FAILED: &str =
    "The deployment failed because one or more of the lifecycle event validation functions failed.";

/// The production listener, or a rule of it, does not forward to the target group of the PRIMARY
/// task set. The driver finds that out before `Install`; the code is `ECS_UPDATE_ERROR`.
pub const PRIMARY_NOT_BEHIND_LISTENER: &str = "The ELB could not be updated due to the following error: Primary taskset target group must be behind listener";

/// Green was unsteady for too long while traffic shifted. In CodeDeploy's manner; the code
/// `TIMEOUT` with it is a choice.
pub const UNSTEADY: &str = "The deployment timed out while waiting for the replacement task set to reach a steady state during traffic shifting. This time out period is 5 minutes.";

/// The deployment did not begin, because the alarms' states did not become known. In
/// CodeDeploy's manner; the code `TIMEOUT` with it is a choice.
pub const NOT_STARTED: &str = "The deployment timed out while waiting for its first lifecycle event to start. This time out period is 5 minutes.";

/// `StopDeployment`. In CodeDeploy's manner.
pub const STOPPED: &str = "The deployment was stopped by a request to stop it.";

/// The alarms could not be polled. In CodeDeploy's manner; the code `INTERNAL_ERROR` with it is
/// a choice, since CodeDeploy has none for it.
pub const ALARMS_UNKNOWN: &str = "The state of one or more alarms could not be retrieved from Amazon CloudWatch, and the affected deployments have been stopped.";

/// The revision's object is not in S3; the code is `INVALID_REVISION` (from a published
/// `GetDeployment` output).
pub const APPSPEC_NOT_FOUND: &str = "The AppSpec file cannot be located in the specified S3 bucket. Verify your AppSpec file is present and that the name and key value pair specified for your S3 bucket are correct. The S3 bucket must be in your current region";

/// The AppSpec cannot be read. CodeDeploy's sentences (published for a text that is not YAML),
/// and then the place of the mistake, which CodeDeploy keeps to itself.
pub fn invalid_appspec(problem: &AppSpecError) -> ErrorInformation {
    let syntax = match problem {
        AppSpecError::Syntax(_) => {
            "The input AppSpec file is a not well-formed yaml. The template cannot be parsed. "
        }
        AppSpecError::Invalid { .. } => "",
    };
    ErrorInformation {
        code: ErrorCode::InvalidRevision,
        message: format!(
            "The deployment failed because the AppSpec file that specifies the deployment configuration is missing or has an invalid configuration. {syntax}({problem})"
        ),
    }
}

/// The ready wait expired. The code `TIMEOUT` with it is a choice.
pub fn not_continued(wait: Duration) -> ErrorInformation {
    let minutes = wait.as_secs() / 60;
    ErrorInformation {
        code: ErrorCode::Timeout,
        message: format!(
            "The deployment timed out while waiting for a notification to continue. This time out period is {minutes} minutes."
        ),
    }
}

/// These alarms are in `ALARM`.
pub fn alarms_active(names: &[&str]) -> ErrorInformation {
    let listed: Vec<String> = names.iter().map(|name| format!("<{name}>")).collect();
    ErrorInformation {
        code: ErrorCode::AlarmActive,
        message: format!(
            "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the affected deployments have been stopped. Activated alarms: {}",
            listed.join(" ")
        ),
    }
}

/// A code with a fixed text.
pub fn error(code: ErrorCode, message: &str) -> ErrorInformation {
    ErrorInformation {
        code,
        message: message.to_owned(),
    }
}
