//! CodeDeploy: the group, its deployments, and what one of them is doing.

use aws_config::SdkConfig;
use aws_sdk_codedeploy::types as cd;

use super::{AwsError, failed};
use crate::target::Target;

const SERVICE: &str = "CodeDeploy";

/// The target's application and deployment group.
#[derive(Debug, Clone)]
pub struct CodeDeploy {
    client: aws_sdk_codedeploy::Client,
    application: String,
    group: String,
    target_id: String,
}

/// What `CreateDeployment` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// A deployment with this id.
    Deployment(String),
    /// Nothing: the group already has an active deployment. The service's text names it.
    Busy(String),
}

impl CodeDeploy {
    /// The application and group of a target.
    pub fn new(config: &SdkConfig, target: &Target) -> CodeDeploy {
        CodeDeploy {
            client: aws_sdk_codedeploy::Client::new(config),
            application: target.application.clone(),
            group: target.deployment_group.clone(),
            target_id: format!("{}:{}", target.cluster, target.service),
        }
    }

    /// The SDK's client, for what only a rehearsal's set-up needs.
    pub fn client(&self) -> &aws_sdk_codedeploy::Client {
        &self.client
    }

    /// The deployment group.
    pub async fn group(&self) -> Result<cd::DeploymentGroupInfo, AwsError> {
        self.client
            .get_deployment_group()
            .application_name(&self.application)
            .deployment_group_name(&self.group)
            .send()
            .await
            .map_err(failed(SERVICE, "GetDeploymentGroup"))?
            .deployment_group_info
            .ok_or_else(|| AwsError::answered(SERVICE, "GetDeploymentGroup", "empty answer"))
    }

    /// A deployment configuration: how traffic moves.
    pub async fn configuration(&self, name: &str) -> Result<cd::DeploymentConfigInfo, AwsError> {
        self.client
            .get_deployment_config()
            .deployment_config_name(name)
            .send()
            .await
            .map_err(failed(SERVICE, "GetDeploymentConfig"))?
            .deployment_config_info
            .ok_or_else(|| AwsError::answered(SERVICE, "GetDeploymentConfig", "empty answer"))
    }

    /// The group's active deployment, the termination wait included: as long as there is one,
    /// another is refused.
    pub async fn active(&self) -> Result<Option<cd::DeploymentInfo>, AwsError> {
        let answer = self
            .client
            .list_deployments()
            .application_name(&self.application)
            .deployment_group_name(&self.group)
            .set_include_only_statuses(Some(vec![
                cd::DeploymentStatus::Created,
                cd::DeploymentStatus::Queued,
                cd::DeploymentStatus::InProgress,
                cd::DeploymentStatus::Baking,
                cd::DeploymentStatus::Ready,
            ]))
            .send()
            .await
            .map_err(failed(SERVICE, "ListDeployments"))?;
        match answer.deployments().first() {
            Some(id) => self.deployment(id).await.map(Some),
            None => Ok(None),
        }
    }

    /// Starts a deployment of the AppSpec at `bucket`/`key`.
    ///
    /// The race against another release ends here: the service lets one deployment a group live,
    /// and refuses the second with `DeploymentLimitExceededException`.
    pub async fn create(
        &self,
        bucket: &str,
        key: &str,
        configuration: &str,
        description: &str,
    ) -> Result<Created, AwsError> {
        let revision = cd::RevisionLocation::builder()
            .revision_type(cd::RevisionLocationType::S3)
            .s3_location(
                cd::S3Location::builder()
                    .bucket(bucket)
                    .key(key)
                    .bundle_type(cd::BundleType::Yaml)
                    .build(),
            )
            .build();
        let answer = self
            .client
            .create_deployment()
            .application_name(&self.application)
            .deployment_group_name(&self.group)
            .deployment_config_name(configuration)
            .description(description)
            .revision(revision)
            .send()
            .await;
        match answer {
            Ok(answer) => answer
                .deployment_id
                .map(Created::Deployment)
                .ok_or_else(|| AwsError::answered(SERVICE, "CreateDeployment", "no deployment id")),
            Err(error) => {
                let error = failed(SERVICE, "CreateDeployment")(error);
                if error.is("DeploymentLimitExceededException") {
                    return Ok(Created::Busy(error.message));
                }
                Err(error)
            }
        }
    }

    /// One deployment.
    pub async fn deployment(&self, id: &str) -> Result<cd::DeploymentInfo, AwsError> {
        self.client
            .get_deployment()
            .deployment_id(id)
            .send()
            .await
            .map_err(failed(SERVICE, "GetDeployment"))?
            .deployment_info
            .ok_or_else(|| AwsError::answered(SERVICE, "GetDeployment", "empty answer"))
    }

    /// The deployment's target with lifecycle events and task sets; `None` before it has started.
    pub async fn target(&self, id: &str) -> Result<Option<cd::EcsTarget>, AwsError> {
        let answer = self
            .client
            .get_deployment_target()
            .deployment_id(id)
            .target_id(&self.target_id)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer
                .deployment_target
                .and_then(|target| target.ecs_target)),
            Err(error) => {
                let error = failed(SERVICE, "GetDeploymentTarget")(error);
                if error.is("DeploymentNotStartedException")
                    || error.is("DeploymentTargetDoesNotExistException")
                {
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// Stops a deployment and puts traffic back.
    pub async fn stop(&self, id: &str) -> Result<(), AwsError> {
        let answer = self
            .client
            .stop_deployment()
            .deployment_id(id)
            .auto_rollback_enabled(true)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) => {
                let error = failed(SERVICE, "StopDeployment")(error);
                // It ended by itself in the same moment.
                if error.is("DeploymentAlreadyCompletedException") {
                    return Ok(());
                }
                Err(error)
            }
        }
    }
}
