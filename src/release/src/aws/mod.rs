//! The AWS calls of a release, one module a service, behind verbs of our own words.
//!
//! A stage is called with the same clients as AWS: only the endpoint and the credentials differ.
//! Every failure becomes an [`AwsError`] that names the operation, the service's error code and its
//! message, because "service error" alone has never helped anybody.

pub mod cloudwatch;
pub mod codedeploy;
pub mod ecs;
pub mod s3;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_codedeploy::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::target::Target;

/// The clients of one target.
#[derive(Debug, Clone)]
pub struct Clients {
    /// CodeDeploy.
    pub codedeploy: codedeploy::CodeDeploy,
    /// CloudWatch, where the target names its metrics.
    pub cloudwatch: Option<cloudwatch::CloudWatch>,
    /// ECS.
    pub ecs: ecs::Ecs,
    /// S3.
    pub s3: s3::S3,
}

impl Clients {
    /// Clients for a target: a stage's endpoint with the stage's credentials, or AWS with those of
    /// the environment.
    pub async fn of(target: &Target) -> Clients {
        let region = Region::new(target.region.clone());
        let config = match &target.endpoint_url {
            Some(endpoint) => SdkConfig::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(region)
                .endpoint_url(endpoint)
                .credentials_provider(SharedCredentialsProvider::new(Credentials::from_keys(
                    STAGE_KEY, STAGE_KEY, None,
                )))
                .build(),
            None => {
                aws_config::defaults(BehaviorVersion::latest())
                    .region(region)
                    .load()
                    .await
            }
        };
        Clients {
            codedeploy: codedeploy::CodeDeploy::new(&config, target),
            cloudwatch: target
                .metrics
                .as_ref()
                .map(|names| cloudwatch::CloudWatch::new(&config, names)),
            ecs: ecs::Ecs::new(&config, target),
            s3: s3::S3::new(&config, target),
        }
    }
}

/// Access key and secret key of every stage: it listens on loopback only.
pub const STAGE_KEY: &str = "stage";

/// An AWS call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{service} {operation} failed{}: {message}{hint}", code.as_deref().map(|code| format!(" with {code}")).unwrap_or_default())]
pub struct AwsError {
    /// `CloudWatch`, `CodeDeploy`, `ECS` or `S3`.
    pub service: &'static str,
    /// The operation, as `CreateDeployment`.
    pub operation: &'static str,
    /// The service's error code, if it answered.
    pub code: Option<String>,
    /// The service's message, or why there was no answer.
    pub message: String,
    /// What to do about it, beginning with `; `, or nothing.
    pub hint: &'static str,
    /// Whether the same call may succeed later: throttled, no connection, a server error.
    pub transient: bool,
}

impl AwsError {
    /// Whether the service answered with this code.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// For an answer of HTTP 200 that is a failure all the same.
    pub fn answered(
        service: &'static str,
        operation: &'static str,
        message: impl Into<String>,
    ) -> AwsError {
        AwsError {
            service,
            operation,
            code: None,
            message: message.into(),
            hint: "",
            transient: false,
        }
    }
}

/// For `map_err` on a call of an SDK.
pub fn failed<E>(
    service: &'static str,
    operation: &'static str,
) -> impl FnOnce(SdkError<E>) -> AwsError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    move |error| {
        let code = error.code().map(str::to_owned);
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        let transient = match &error {
            SdkError::TimeoutError(_)
            | SdkError::DispatchFailure(_)
            | SdkError::ResponseError(_) => true,
            _ => {
                status.is_some_and(|status| status >= 500)
                    || matches!(
                        code.as_deref(),
                        Some(
                            "ThrottlingException"
                                | "Throttling"
                                | "TooManyRequestsException"
                                | "SlowDown"
                                | "RequestLimitExceeded"
                        )
                    )
            }
        };
        let message = match error.message() {
            Some(message) => message.to_owned(),
            None => root_cause(&error),
        };
        AwsError {
            service,
            operation,
            hint: hint(code.as_deref(), transient && status.is_none()),
            code,
            message,
            transient,
        }
    }
}

/// The innermost cause: "Connection refused" says more than "dispatch failure".
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    if text.is_empty() {
        DisplayErrorContext(error).to_string()
    } else {
        text
    }
}

/// What to do about an error code that people meet (fact: CodeDeploy and ECS API references).
fn hint(code: Option<&str>, unreachable: bool) -> &'static str {
    match code {
        None if unreachable => "; is the target running, and its address right?",
        Some(
            "ApplicationDoesNotExistException"
            | "DeploymentGroupDoesNotExistException"
            | "ClusterNotFoundException"
            | "ServiceNotFoundException",
        ) => "; check the target's names, its Region and the account of your credentials",
        Some("DeploymentConfigDoesNotExistException") => {
            "; check `deployment-config` of the strategy in release.toml"
        }
        Some("AccessDeniedException" | "AccessDenied") => {
            "; the caller's IAM policy lacks that action (or iam:PassRole on the task's roles)"
        }
        Some(
            "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "MissingAuthenticationTokenException"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch",
        ) => "; check the credentials of the environment and the machine's clock",
        Some("ThrottlingException") => "; others poll as well; try again in a minute",
        Some("NoSuchBucket") => "; check `bucket` of the target",
        _ => "",
    }
}
