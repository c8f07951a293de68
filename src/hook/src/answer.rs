//! The answer: `PutLifecycleEventHookExecutionStatus`.
//!
//! CodeDeploy waits for it, so it is tried until it arrives or the time is up: throttling, a broken
//! connection and errors of the service are retried with growing pauses by the SDK. What CodeDeploy
//! refuses (an id that is not its own, a deployment that has ended) is not.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_codedeploy::Client;
use aws_sdk_codedeploy::config::retry::RetryConfig;
use aws_sdk_codedeploy::config::timeout::TimeoutConfig;
use aws_sdk_codedeploy::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_codedeploy::types::LifecycleEventStatus;

/// What is answered to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// `DeploymentId`
    pub deployment: String,
    /// `LifecycleEventHookExecutionId`
    pub execution: String,
}

/// Why CodeDeploy has no answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot answer {deployment} with {status}: {message}; without an answer CodeDeploy waits an hour and then fails the deployment"
)]
pub struct AnswerError {
    deployment: String,
    status: LifecycleEventStatus,
    message: String,
}

impl From<AnswerError> for lambda_runtime::Diagnostic {
    fn from(error: AnswerError) -> Self {
        lambda_runtime::Diagnostic {
            error_type: "Hook.NoAnswer".to_owned(),
            error_message: error.to_string(),
        }
    }
}

/// So many tries: more than fit into any time that there is.
const TRIES: u32 = 50;
/// Between two of them, at most.
const PAUSE: Duration = Duration::from_secs(5);
/// One of them.
const TRY: Duration = Duration::from_secs(5);

/// Somebody else has answered, or the hour is over; the first answer holds.
const COMPLETED: &str = "LifecycleEventAlreadyCompletedException";

/// Gives answers.
#[derive(Debug)]
pub struct Answers(Client);

impl Answers {
    /// With region, credentials and endpoint of the function's environment.
    pub async fn of_environment() -> Answers {
        let retries = RetryConfig::standard()
            .with_max_attempts(TRIES)
            .with_initial_backoff(Duration::from_millis(200))
            .with_max_backoff(PAUSE);
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(retries)
            .load()
            .await;
        Answers(Client::new(&config))
    }

    /// Answers within `limit`. That the event is answered already is no error: Lambda may call a function
    /// twice for one event.
    pub async fn give(&self, ids: &Ids, passed: bool, limit: Duration) -> Result<(), AnswerError> {
        let status = if passed {
            LifecycleEventStatus::Succeeded
        } else {
            LifecycleEventStatus::Failed
        };
        let times = TimeoutConfig::builder()
            .operation_timeout(limit)
            .operation_attempt_timeout(TRY.min(limit))
            .build();
        let sent = self
            .0
            .put_lifecycle_event_hook_execution_status()
            .deployment_id(&ids.deployment)
            .lifecycle_event_hook_execution_id(&ids.execution)
            .status(status.clone())
            .customize()
            .config_override(aws_sdk_codedeploy::config::Builder::new().timeout_config(times))
            .send()
            .await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(COMPLETED) => Ok(()),
            Err(error) => Err(AnswerError {
                deployment: ids.deployment.clone(),
                status,
                message: match (error.code(), error.message()) {
                    (Some(code), Some(message)) => format!("{code}: {message}"),
                    _ => DisplayErrorContext(&error).to_string(),
                },
            }),
        }
    }
}
