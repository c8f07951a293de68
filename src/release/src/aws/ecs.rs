//! ECS: task definitions, the service, and one-off tasks.

use aws_config::SdkConfig;
use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use aws_sdk_ecs::types as ecs;

use super::{AwsError, failed};
use crate::target::Target;

const SERVICE: &str = "ECS";

/// The target's cluster and service.
#[derive(Debug, Clone)]
pub struct Ecs {
    client: aws_sdk_ecs::Client,
    cluster: String,
    service: String,
    task: crate::target::Task,
}

impl Ecs {
    /// The cluster and service of a target.
    pub fn new(config: &SdkConfig, target: &Target) -> Ecs {
        Ecs {
            client: aws_sdk_ecs::Client::new(config),
            cluster: target.cluster.clone(),
            service: target.service.clone(),
            task: target.task.clone(),
        }
    }

    /// The SDK's client, for what only a rehearsal's set-up needs.
    pub fn client(&self) -> &aws_sdk_ecs::Client {
        &self.client
    }

    /// The service, or `None` if the cluster has none of that name.
    pub async fn service(&self) -> Result<Option<ecs::Service>, AwsError> {
        let answer = self
            .client
            .describe_services()
            .cluster(&self.cluster)
            .services(&self.service)
            .send()
            .await
            .map_err(failed(SERVICE, "DescribeServices"))?;
        Ok(answer.services.unwrap_or_default().into_iter().next())
    }

    /// The latest active revision of a family.
    pub async fn latest(&self, family: &str) -> Result<Option<ecs::TaskDefinition>, AwsError> {
        let answer = self
            .client
            .describe_task_definition()
            .task_definition(family)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer.task_definition),
            Err(error) => {
                let error = failed(SERVICE, "DescribeTaskDefinition")(error);
                // A family without revisions is a ClientException, as is every other mistake.
                if error.is("ClientException") {
                    return Ok(None);
                }
                Err(error)
            }
        }
    }

    /// A task definition by its ARN.
    pub async fn definition(&self, arn: &str) -> Result<ecs::TaskDefinition, AwsError> {
        self.client
            .describe_task_definition()
            .task_definition(arn)
            .send()
            .await
            .map_err(failed(SERVICE, "DescribeTaskDefinition"))?
            .task_definition
            .ok_or_else(|| AwsError::answered(SERVICE, "DescribeTaskDefinition", "empty answer"))
    }

    /// Registers a revision and returns its ARN.
    pub async fn register(&self, input: RegisterTaskDefinitionInput) -> Result<String, AwsError> {
        self.client
            .register_task_definition()
            .set_family(input.family)
            .set_task_role_arn(input.task_role_arn)
            .set_execution_role_arn(input.execution_role_arn)
            .set_network_mode(input.network_mode)
            .set_container_definitions(input.container_definitions)
            .set_volumes(input.volumes)
            .set_requires_compatibilities(input.requires_compatibilities)
            .set_cpu(input.cpu)
            .set_memory(input.memory)
            .set_tags(input.tags)
            .set_pid_mode(input.pid_mode)
            .set_proxy_configuration(input.proxy_configuration)
            .set_ephemeral_storage(input.ephemeral_storage)
            .set_runtime_platform(input.runtime_platform)
            .set_enable_fault_injection(input.enable_fault_injection)
            .send()
            .await
            .map_err(failed(SERVICE, "RegisterTaskDefinition"))?
            .task_definition
            .and_then(|definition| definition.task_definition_arn)
            .ok_or_else(|| AwsError::answered(SERVICE, "RegisterTaskDefinition", "no ARN"))
    }

    /// Starts one task of a definition with another command, and returns its ARN.
    ///
    /// `token` makes the call idempotent: the same token does not start a second task.
    pub async fn run(
        &self,
        definition: &str,
        container: &str,
        command: &[&str],
        started_by: &str,
        token: &str,
    ) -> Result<String, AwsError> {
        let assign = if self.task.assign_public_ip {
            ecs::AssignPublicIp::Enabled
        } else {
            ecs::AssignPublicIp::Disabled
        };
        let network = ecs::AwsVpcConfiguration::builder()
            .set_subnets(Some(self.task.subnets.clone()))
            .set_security_groups(Some(self.task.security_groups.clone()))
            .assign_public_ip(assign)
            .build()
            .map_err(|error| AwsError::answered(SERVICE, "RunTask", error.to_string()))?;
        let answer = self
            .client
            .run_task()
            .cluster(&self.cluster)
            .task_definition(definition)
            .launch_type(ecs::LaunchType::Fargate)
            .count(1)
            .started_by(started_by)
            .client_token(token)
            .network_configuration(
                ecs::NetworkConfiguration::builder()
                    .awsvpc_configuration(network)
                    .build(),
            )
            .overrides(
                ecs::TaskOverride::builder()
                    .container_overrides(
                        ecs::ContainerOverride::builder()
                            .name(container)
                            .set_command(Some(
                                command.iter().map(|&word| word.to_owned()).collect(),
                            ))
                            .build(),
                    )
                    .build(),
            )
            .send()
            .await
            .map_err(failed(SERVICE, "RunTask"))?;
        // HTTP 200 may mean failure (ECS API reference, RunTask).
        if let Some(failure) = answer.failures().first() {
            return Err(AwsError::answered(
                SERVICE,
                "RunTask",
                format!(
                    "{}{}",
                    failure.reason().unwrap_or("no reason given"),
                    failure
                        .detail()
                        .map(|detail| format!(" ({detail})"))
                        .unwrap_or_default()
                ),
            ));
        }
        answer
            .tasks()
            .first()
            .and_then(|task| task.task_arn.clone())
            .ok_or_else(|| AwsError::answered(SERVICE, "RunTask", "no task was started"))
    }

    /// One task; `None` when ECS no longer knows it (about an hour after it stopped).
    pub async fn task(&self, arn: &str) -> Result<Option<ecs::Task>, AwsError> {
        let answer = self
            .client
            .describe_tasks()
            .cluster(&self.cluster)
            .tasks(arn)
            .send()
            .await
            .map_err(failed(SERVICE, "DescribeTasks"))?;
        Ok(answer.tasks.unwrap_or_default().into_iter().next())
    }

    /// The tasks that one deployment started and that have stopped, newest last.
    pub async fn stopped_tasks(&self, definition: &str) -> Result<Vec<ecs::Task>, AwsError> {
        let listed = self
            .client
            .list_tasks()
            .cluster(&self.cluster)
            .service_name(&self.service)
            .desired_status(ecs::DesiredStatus::Stopped)
            .send()
            .await
            .map_err(failed(SERVICE, "ListTasks"))?;
        let arns: Vec<String> = listed.task_arns.unwrap_or_default();
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let newest = arns[..arns.len().min(100)].to_vec();
        let answer = self
            .client
            .describe_tasks()
            .cluster(&self.cluster)
            .set_tasks(Some(newest))
            .send()
            .await
            .map_err(failed(SERVICE, "DescribeTasks"))?;
        let mut tasks: Vec<ecs::Task> = answer
            .tasks
            .unwrap_or_default()
            .into_iter()
            .filter(|task| task.task_definition_arn() == Some(definition))
            .collect();
        tasks.sort_by(|a, b| {
            let key = |task: &ecs::Task| task.created_at.map(|at| at.as_nanos());
            key(a).cmp(&key(b))
        });
        Ok(tasks)
    }
}

/// How a one-off task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// Not at its end.
    Running,
    /// Every essential container ended with 0.
    Succeeded,
    /// Anything else.
    Failed {
        /// How, in words.
        reason: String,
    },
}

/// Judges a task: success is STOPPED, because its container exited, with exit code 0; an absent exit
/// code is failure (ECS developer guide, Task lifecycle and stopped task error codes).
pub fn task_end(task: &ecs::Task) -> TaskEnd {
    if task.last_status() != Some("STOPPED") {
        return TaskEnd::Running;
    }
    let exited = task.stop_code() == Some(&ecs::TaskStopCode::EssentialContainerExited);
    let zero = !task.containers().is_empty()
        && task
            .containers()
            .iter()
            .all(|container| container.exit_code() == Some(0));
    if exited && zero {
        return TaskEnd::Succeeded;
    }
    TaskEnd::Failed {
        reason: stopped_because(task),
    }
}

/// Why a task stopped, in words: the task's reason, the container's, and its exit code.
pub fn stopped_because(task: &ecs::Task) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(
        task.stopped_reason()
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
    );
    for container in task.containers() {
        parts.extend(
            container
                .reason()
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
        );
        parts.extend(
            container
                .exit_code()
                .map(|code| format!("exit code {code}")),
        );
    }
    parts.dedup();
    if parts.is_empty() {
        return "its task stopped without a reason".to_owned();
    }
    parts.join(", ")
}
