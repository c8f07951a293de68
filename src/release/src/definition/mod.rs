//! The task definition: from the rendered template to the SDK's request, strictly.
//!
//! AWS's own tools pass a template through and let the service refuse it, and a field with a
//! typing error is silently dropped by some of them. Here a rendered task definition is read field
//! by field ([`fields`]): an unknown field is an error with its path and the nearest known name, a
//! field that Fargate does not have says so, and what the service would refuse later (a pair of
//! CPU and memory that does not exist) is refused before anything has changed.
//!
//! [`parse`] makes the request, [`equal`] says whether a registered revision already is the same,
//! with the defaults that ECS fills in.

mod equal;
mod fields;
mod parse;

pub use equal::equal;
pub use fields::DefinitionError;
pub use parse::parse;

use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use rollout::appspec::AppSpec;

use crate::nearest::did_you_mean;

/// Whether the container and port that an AppSpec sends traffic to are in the task definition; the
/// error says what is there instead.
pub fn check_appspec(
    appspec: &AppSpec,
    definition: &RegisterTaskDefinitionInput,
) -> Result<(), String> {
    let containers = definition.container_definitions();
    let names: Vec<&str> = containers
        .iter()
        .filter_map(|container| container.name())
        .collect();
    let wanted = appspec.container_name.as_str();
    let Some(container) = containers
        .iter()
        .find(|container| container.name() == Some(wanted))
    else {
        return Err(format!(
            "ContainerName: the task definition has no container `{wanted}`{} (it has: {})",
            did_you_mean(wanted, names.iter().copied()),
            names.join(", ")
        ));
    };
    let port = i32::from(appspec.container_port);
    let ports: Vec<i32> = container
        .port_mappings()
        .iter()
        .filter_map(|mapping| mapping.container_port)
        .collect();
    if ports.contains(&port) {
        return Ok(());
    }
    Err(format!(
        "ContainerPort: container `{wanted}` maps no port {port} (it maps: {})",
        ports
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    ))
}
