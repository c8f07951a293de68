//! What CodeDeploy says when a deployment ends badly.
//!
//! The texts are its own where they are known: the alarm's from published `GetDeployment`
//! outputs, those of the time limits from the user guide, "Troubleshoot Amazon ECS deployment
//! issues". The others are in its manner. Tools look into them, so they are kept in one place.

use std::time::Duration;

use super::step::{ErrorCode, ErrorInformation};

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
