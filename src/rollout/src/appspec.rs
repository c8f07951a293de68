//! The AppSpec of an ECS deployment.

use serde::{Deserialize, Serialize};

use crate::lifecycle::LifecycleEvent;

/// An AppSpec for the ECS compute platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// ARN of the task definition, with its revision.
    pub task_definition: String,
    /// The container that takes the load balancer's traffic.
    pub container_name: String,
    /// The port of that container.
    pub container_port: u16,
    /// Fargate's platform version; `None` for `LATEST`.
    pub platform_version: Option<String>,
    /// Where green's tasks are placed; `None` for the service's present settings.
    pub network_configuration: Option<NetworkConfiguration>,
    /// What green's tasks run on; empty for the service's present settings.
    pub capacity_provider_strategy: Vec<CapacityProvider>,
    /// Hook functions by event, in the order of the file.
    pub hooks: Vec<(LifecycleEvent, String)>,
}

/// `NetworkConfiguration.AwsvpcConfiguration`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfiguration {
    /// Ids of subnets.
    pub subnets: Vec<String>,
    /// Ids of security groups.
    pub security_groups: Vec<String>,
    /// `AssignPublicIp` is `ENABLED`.
    pub assign_public_ip: bool,
}

/// An entry of `CapacityProviderStrategy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapacityProvider {
    /// Such as `FARGATE` or `FARGATE_SPOT`.
    pub capacity_provider: String,
    /// How many tasks run on it at least.
    pub base: u32,
    /// Its share of the other tasks, relative to the other entries.
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
        /// Where, as in `Resources[0].TargetService.Properties`.
        path: String,
        /// What.
        problem: String,
    },
}

impl AppSpec {
    /// Reads an AppSpec from YAML or JSON.
    pub fn parse(text: &str) -> Result<AppSpec, AppSpecError> {
        let _ = text;
        Err(AppSpecError::Syntax("not read yet".to_owned()))
    }
}
