//! The AppSpec of an ECS deployment: which task definition, which container and port, which
//! hooks.
//!
//! CodeDeploy takes YAML and JSON of the same structure, and reads it only when the deployment
//! runs: a mistake is not refused by the request but fails the deployment. So the reader here
//! is the one that both the stage (to fail like CodeDeploy) and the release program (to refuse
//! before anything happens) use, and its errors name the place.
//!
//! Keys are read without regard to case (AWS's own pages and tools differ in it) and written
//! capitalised. Where the user guide is silent, the reader is strict, because a rehearsal that
//! lets a mistake through is worth less than one that complains: an unknown key is an error, a
//! port in quotes is an error, a task definition without its revision is an error.
//!
//! Source: CodeDeploy user guide, "AppSpec file structure", "AppSpec 'resources' section" and
//! "AppSpec 'hooks' section" for ECS; ECS API reference for the bounds of
//! `AwsvpcConfiguration` and `CapacityProviderStrategyItem`.

mod node;
mod read;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::lifecycle::LifecycleEvent;

/// An AppSpec for the ECS compute platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// ARN of the task definition, with its revision.
    pub task_definition: String,
    /// The container that takes the load balancer's traffic.
    pub container_name: String,
    /// The port of that container, 1 to 65535.
    pub container_port: u16,
    /// Fargate's platform version; `None` for `LATEST`.
    pub platform_version: Option<String>,
    /// Where green's tasks are placed; `None` for the service's present settings.
    pub network_configuration: Option<NetworkConfiguration>,
    /// What green's tasks run on; empty for the service's present settings.
    pub capacity_provider_strategy: Vec<CapacityProvider>,
    /// Hook functions by event, in the order of the file; each event at most once.
    pub hooks: Vec<(LifecycleEvent, String)>,
}

/// `NetworkConfiguration.AwsvpcConfiguration`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfiguration {
    /// Ids of subnets, 1 to 16.
    pub subnets: Vec<String>,
    /// Ids of security groups, 1 to 5.
    pub security_groups: Vec<String>,
    /// Whether tasks get a public address (`AssignPublicIp` is `ENABLED`).
    pub assign_public_ip: bool,
}

/// An entry of `CapacityProviderStrategy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityProvider {
    /// Such as `FARGATE` or `FARGATE_SPOT`.
    pub capacity_provider: String,
    /// How many tasks run on it at least: 0 to 100,000, and above 0 in one entry at most.
    pub base: u32,
    /// Its share of the other tasks, relative to the other entries: 0 to 1000.
    pub weight: u32,
}

/// Why a text is not an AppSpec for ECS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppSpecError {
    /// Neither YAML nor JSON.
    #[error("the AppSpec is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// Something in it is wrong.
    #[error("the AppSpec is invalid at {path}: {problem}")]
    Invalid {
        /// Where, as in `Resources[0].TargetService.Properties.TaskDefinition`.
        path: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

impl AppSpec {
    /// Reads an AppSpec from YAML or JSON.
    ///
    /// ```
    /// use rollout::appspec::AppSpec;
    ///
    /// let appspec = AppSpec::parse(
    ///     "
    /// version: 0.0
    /// Resources:
    ///   - TargetService:
    ///       Type: AWS::ECS::Service
    ///       Properties:
    ///         TaskDefinition: arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7
    ///         LoadBalancerInfo:
    ///           ContainerName: app
    ///           ContainerPort: 8080
    /// Hooks:
    ///   - BeforeAllowTraffic: CodeDeployHook_check
    /// ",
    /// )?;
    /// assert_eq!(appspec.container_port, 8080);
    /// # Ok::<(), rollout::appspec::AppSpecError>(())
    /// ```
    pub fn parse(text: &str) -> Result<AppSpec, AppSpecError> {
        read::appspec(&node::parse(text)?)
    }

    /// The AppSpec as JSON in the documented, capitalised form, which [`AppSpec::parse`] and
    /// CodeDeploy read, also as YAML.
    pub fn to_json(&self) -> String {
        let mut properties = json!({
            "TaskDefinition": self.task_definition,
            "LoadBalancerInfo": {
                "ContainerName": self.container_name,
                "ContainerPort": self.container_port,
            },
        });
        if let Some(version) = &self.platform_version {
            properties["PlatformVersion"] = json!(version);
        }
        if let Some(network) = &self.network_configuration {
            let public = if network.assign_public_ip {
                "ENABLED"
            } else {
                "DISABLED"
            };
            properties["NetworkConfiguration"] = json!({
                "AwsvpcConfiguration": {
                    "Subnets": network.subnets,
                    "SecurityGroups": network.security_groups,
                    "AssignPublicIp": public,
                },
            });
        }
        if !self.capacity_provider_strategy.is_empty() {
            let entry = |entry: &CapacityProvider| {
                json!({
                    "Base": entry.base,
                    "CapacityProvider": entry.capacity_provider,
                    "Weight": entry.weight,
                })
            };
            properties["CapacityProviderStrategy"] =
                self.capacity_provider_strategy.iter().map(entry).collect();
        }
        let mut appspec = json!({
            "version": 0.0,
            "Resources": [{
                "TargetService": { "Type": "AWS::ECS::Service", "Properties": properties },
            }],
        });
        if !self.hooks.is_empty() {
            let hook =
                |(event, function): &(LifecycleEvent, String)| json!({ event.as_str(): function });
            appspec["Hooks"] = self.hooks.iter().map(hook).collect::<Value>();
        }
        format!("{appspec:#}")
    }
}

/// The sha256 that `CreateDeployment` takes with `appSpecContent`, and by which
/// `GetApplicationRevision` finds the text again: lower-case hex of the text's UTF-8 bytes.
pub fn sha256(content: &str) -> String {
    hex::encode(Sha256::digest(content.as_bytes()))
}

#[cfg(test)]
mod tests;
