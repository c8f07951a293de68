//! What goes into the state machine and what comes out.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::spec::Spec;
use crate::alarm;
use crate::event::Entry;
use crate::lifecycle::LifecycleEvent;

/// What the driver saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "observation", content = "with", rename_all = "snake_case")]
pub enum Observation {
    /// Time went by.
    Tick,
    /// Green reached `STEADY_STATE`: all tasks run and all health checks pass.
    TaskSetStable,
    /// Green left `STEADY_STATE`.
    TaskSetUnstable,
    /// A hook function answered (`PutLifecycleEventHookExecutionStatus`).
    HookResult {
        /// As in [`Command::InvokeHook`].
        execution_id: String,
        /// The answer.
        status: HookStatus,
    },
    /// The states of the alarms that CloudWatch knows, by name. A configured alarm that is not
    /// among them counts as one that could not be polled.
    Alarms(BTreeMap<String, alarm::State>),
    /// CloudWatch could not be asked.
    AlarmPollFailed,
    /// `StopDeployment`.
    StopRequested {
        /// `autoRollbackEnabled`: `Some(true)` rolls back whatever the group says, `Some(false)`
        /// does not, `None` leaves it to the group.
        ///
        /// That `false` suppresses a configured `DEPLOYMENT_STOP_ON_REQUEST` is a choice: it is
        /// undocumented, and a caller who says so means it.
        auto_rollback: Option<bool>,
    },
    /// `ContinueDeployment`.
    ContinueRequested(WaitType),
    /// A command, or what must be true before the first one, failed: the AppSpec is invalid, the
    /// primary's target group is not behind the listener, ECS refused.
    CommandFailed(ErrorInformation),
}

/// What the driver must do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Ask CloudWatch for the states of these alarms; answer with [`Observation::Alarms`] or
    /// [`Observation::AlarmPollFailed`].
    PollAlarms {
        /// The alarms' names.
        names: Vec<String>,
    },
    /// Create the replacement task set with green's target group; answer with
    /// [`Observation::TaskSetStable`] when it is, and with [`Observation::TaskSetUnstable`]
    /// whenever it is no longer.
    CreateGreen,
    /// Point the test listener at green.
    AllowTestTraffic,
    /// Call a hook function with the deployment's id and this execution id, and nothing else;
    /// answer with [`Observation::HookResult`] when it has.
    InvokeHook {
        /// The lifecycle event it is hooked to, for logs: the function is not told.
        event: LifecycleEvent,
        /// Name or ARN.
        function: String,
        /// Opaque; unique in the world.
        execution_id: String,
    },
    /// Divide production traffic: the default action of the listener and every rule on it that
    /// forwards to the pair.
    SetWeights {
        /// Blue's share in percent.
        blue: u8,
        /// Green's share in percent; the two add up to 100.
        green: u8,
    },
    /// Make green the service's PRIMARY task set.
    MakeGreenPrimary,
    /// Make blue the service's PRIMARY task set again.
    MakeBluePrimary,
    /// Point the test listener back at blue.
    RestoreTestTraffic,
    /// Scale blue to nothing and remove it.
    TerminateBlue,
    /// Scale green to nothing and remove it.
    TerminateGreen,
    /// Begin the rollback deployment, with `Deployment::new(*spec, now)`.
    CreateRollbackDeployment {
        /// What it is.
        spec: Box<Spec>,
    },
}

/// What came of an observation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[must_use = "the commands have to be carried out and the events recorded"]
pub struct Step {
    /// To be carried out, in this order.
    pub commands: Vec<Command>,
    /// What happened, in this order.
    pub events: Vec<Entry>,
    /// Why a request was refused, if it was. Time went on all the same: there may be commands
    /// and events.
    pub refused: Option<Refusal>,
}

/// Why CodeDeploy refuses a request about a deployment. The variants are named after its
/// exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// `DeploymentAlreadyCompletedException`
    #[error("The deployment is already complete.")]
    DeploymentAlreadyCompleted,
    /// `DeploymentIsNotInReadyStateException`; also when a termination wait is to be ended that
    /// has not begun, for which no other exception of the operation fits (a choice).
    #[error("The deployment does not have a status of Ready and can't continue yet.")]
    DeploymentIsNotInReadyState,
    /// `UnsupportedActionForDeploymentTypeException`
    #[error("A call was submitted that is not supported for the specified deployment type.")]
    UnsupportedActionForDeploymentType,
    /// `InvalidLifecycleEventHookExecutionIdException`
    #[error(
        "A lifecycle event hook is invalid. Review the hooks section in your AppSpec file to ensure the lifecycle events and hooks functions are valid."
    )]
    InvalidLifecycleEventHookExecutionId,
    /// `LifecycleEventAlreadyCompletedException`
    #[error("An attempt to return the status of an already completed lifecycle event occurred.")]
    LifecycleEventAlreadyCompleted,
}

impl Refusal {
    /// The exception's name on the wire.
    pub const fn exception(self) -> &'static str {
        match self {
            Refusal::DeploymentAlreadyCompleted => "DeploymentAlreadyCompletedException",
            Refusal::DeploymentIsNotInReadyState => "DeploymentIsNotInReadyStateException",
            Refusal::UnsupportedActionForDeploymentType => {
                "UnsupportedActionForDeploymentTypeException"
            }
            Refusal::InvalidLifecycleEventHookExecutionId => {
                "InvalidLifecycleEventHookExecutionIdException"
            }
            Refusal::LifecycleEventAlreadyCompleted => "LifecycleEventAlreadyCompletedException",
        }
    }
}

/// Which wait `ContinueDeployment` ends (`deploymentWaitType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WaitType {
    /// Move production traffic now. Also what an omitted type means (a choice).
    #[default]
    ReadyWait,
    /// Terminate blue now.
    TerminationWait,
}

/// A hook function's verdict. CodeDeploy accepts only these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HookStatus {
    /// Go on.
    Succeeded,
    /// End the deployment.
    Failed,
}

/// What became of a task set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskSetState {
    /// It is to be created and not yet stable.
    Created,
    /// All its tasks run and are healthy.
    Stable,
    /// It was stable and is not any more.
    Unstable,
    /// It is being scaled down and removed.
    Terminating,
}

/// Why a deployment ended other than by success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It failed.
    Failure,
    /// An alarm, or alarms that could not be polled.
    Alarm,
    /// `StopDeployment`.
    Request,
    /// Nobody continued it in time.
    ReadyWaitExpired,
}

/// Why a deployment ended, as `GetDeployment` says it (`errorInformation`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorInformation {
    /// CodeDeploy's code.
    pub code: ErrorCode,
    /// CodeDeploy's sentence.
    pub message: String,
}

/// What a lifecycle event says when it failed (`diagnostics`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// CodeDeploy's code.
    pub error_code: LifecycleErrorCode,
    /// The hook function, where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub script_name: String,
    /// A sentence.
    pub message: String,
    /// Never filled for ECS.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub log_tail: String,
}

/// `errorCode` of a lifecycle event's diagnostics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LifecycleErrorCode {
    /// No error.
    Success,
    /// EC2 only.
    ScriptMissing,
    /// EC2 only.
    ScriptNotExecutable,
    /// No answer in time.
    ScriptTimedOut,
    /// A hook said `Failed`.
    ScriptFailed,
    /// Anything else.
    UnknownError,
}

impl LifecycleErrorCode {
    /// The code as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            LifecycleErrorCode::Success => "Success",
            LifecycleErrorCode::ScriptMissing => "ScriptMissing",
            LifecycleErrorCode::ScriptNotExecutable => "ScriptNotExecutable",
            LifecycleErrorCode::ScriptTimedOut => "ScriptTimedOut",
            LifecycleErrorCode::ScriptFailed => "ScriptFailed",
            LifecycleErrorCode::UnknownError => "UnknownError",
        }
    }
}

/// `errorInformation.code`: those of CodeDeploy's codes that an ECS deployment can end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the names are the API's and say all that is documented"
)]
pub enum ErrorCode {
    AlarmActive,
    ApplicationMissing,
    CodedeployResourceCannotBeFound,
    CustomerApplicationUnhealthy,
    DeploymentGroupMissing,
    EcsUpdateError,
    ElasticLoadBalancingInvalid,
    HookExecutionFailure,
    IamRoleMissing,
    IamRolePermissions,
    InternalError,
    InvalidEcsService,
    InvalidRevision,
    ManualStop,
    MissingBlueGreenDeploymentConfiguration,
    MissingElbInformation,
    ResourceLimitExceeded,
    RevisionMissing,
    Throttled,
    Timeout,
}

impl ErrorCode {
    /// The code as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorCode::AlarmActive => "ALARM_ACTIVE",
            ErrorCode::ApplicationMissing => "APPLICATION_MISSING",
            ErrorCode::CodedeployResourceCannotBeFound => "CODEDEPLOY_RESOURCE_CANNOT_BE_FOUND",
            ErrorCode::CustomerApplicationUnhealthy => "CUSTOMER_APPLICATION_UNHEALTHY",
            ErrorCode::DeploymentGroupMissing => "DEPLOYMENT_GROUP_MISSING",
            ErrorCode::EcsUpdateError => "ECS_UPDATE_ERROR",
            ErrorCode::ElasticLoadBalancingInvalid => "ELASTIC_LOAD_BALANCING_INVALID",
            ErrorCode::HookExecutionFailure => "HOOK_EXECUTION_FAILURE",
            ErrorCode::IamRoleMissing => "IAM_ROLE_MISSING",
            ErrorCode::IamRolePermissions => "IAM_ROLE_PERMISSIONS",
            ErrorCode::InternalError => "INTERNAL_ERROR",
            ErrorCode::InvalidEcsService => "INVALID_ECS_SERVICE",
            ErrorCode::InvalidRevision => "INVALID_REVISION",
            ErrorCode::ManualStop => "MANUAL_STOP",
            ErrorCode::MissingBlueGreenDeploymentConfiguration => {
                "MISSING_BLUE_GREEN_DEPLOYMENT_CONFIGURATION"
            }
            ErrorCode::MissingElbInformation => "MISSING_ELB_INFORMATION",
            ErrorCode::ResourceLimitExceeded => "RESOURCE_LIMIT_EXCEEDED",
            ErrorCode::RevisionMissing => "REVISION_MISSING",
            ErrorCode::Throttled => "THROTTLED",
            ErrorCode::Timeout => "TIMEOUT",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for ErrorInformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}
