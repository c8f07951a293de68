//! What the service would refuse although every field is well formed.

use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use rollout::appspec::AppSpec;

use super::fields::{DefinitionError, Read, wrong};
use crate::nearest::did_you_mean;

/// What `RegisterTaskDefinition` would refuse although every field is well formed.
pub fn check(input: &RegisterTaskDefinitionInput) -> Read<()> {
    let missing = |path: &str| DefinitionError::Missing {
        path: path.to_owned(),
    };
    if input.network_mode.is_none() {
        return Err(wrong("networkMode", "tasks on Fargate need \"awsvpc\""));
    }
    if input.requires_compatibilities().is_empty() {
        return Err(wrong(
            "requiresCompatibilities",
            "tasks on Fargate need [\"FARGATE\"]",
        ));
    }
    let cpu = input.cpu().ok_or_else(|| missing("cpu"))?;
    let memory = input.memory().ok_or_else(|| missing("memory"))?;
    fargate_size(cpu, memory)?;
    let containers = input.container_definitions();
    if containers.is_empty() || containers.len() > 10 {
        return Err(wrong(
            "containerDefinitions",
            "a task has 1 to 10 containers",
        ));
    }
    if containers
        .iter()
        .all(|container| container.essential == Some(false))
    {
        return Err(wrong(
            "containerDefinitions",
            "at least one container must be essential",
        ));
    }
    let needs_role = containers.iter().any(|container| {
        !container.secrets().is_empty() || container.log_configuration().is_some()
    });
    if needs_role && input.execution_role_arn().is_none() {
        return Err(wrong(
            "executionRoleArn",
            "is missing, and secrets and logs are read and written with that role",
        ));
    }
    for (index, container) in containers.iter().enumerate() {
        let name = container.name().unwrap_or_default();
        let path = format!("containerDefinitions[{index}]");
        if containers[..index]
            .iter()
            .any(|other| other.name() == Some(name))
        {
            return Err(wrong(
                &format!("{path}.name"),
                format!("two containers are called `{name}`"),
            ));
        }
        for (at, mapping) in container.port_mappings().iter().enumerate() {
            if mapping.host_port.is_some() && mapping.host_port != mapping.container_port {
                return Err(wrong(
                    &format!("{path}.portMappings[{at}].hostPort"),
                    "with awsvpc the host port is the container port, or absent",
                ));
            }
        }
        for (at, dependency) in container.depends_on().iter().enumerate() {
            if !containers
                .iter()
                .any(|other| other.name() == Some(dependency.container_name()))
            {
                return Err(wrong(
                    &format!("{path}.dependsOn[{at}].containerName"),
                    format!("there is no container `{}`", dependency.container_name()),
                ));
            }
        }
    }
    Ok(())
}

/// The pairs of CPU units and MiB that Fargate has (developer guide, Task size).
pub fn fargate_size(cpu: &str, memory: &str) -> Read<()> {
    let units: u32 = match cpu.trim().to_ascii_lowercase().strip_suffix("vcpu") {
        Some(count) => count
            .trim()
            .parse::<f64>()
            .ok()
            .and_then(|count| {
                [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
                    .iter()
                    .position(|known| (known - count).abs() < f64::EPSILON)
            })
            .map_or(0, |at| 256 << at),
        None => cpu.trim().parse().unwrap_or(0),
    };
    let mib: u32 = match memory.trim().to_ascii_lowercase().strip_suffix("gb") {
        Some(count) => count
            .trim()
            .parse::<u32>()
            .unwrap_or(0)
            .saturating_mul(1024),
        None => memory.trim().parse().unwrap_or(0),
    };
    let (from, to, step) = match units {
        256 if [512, 1024, 2048].contains(&mib) => return Ok(()),
        256 => {
            return Err(wrong(
                "memory",
                format!(
                    "{memory} with cpu {cpu} does not exist on Fargate; with cpu 256 it is 512, 1024 or 2048"
                ),
            ));
        }
        512 => (1, 4, 1),
        1024 => (2, 8, 1),
        2048 => (4, 16, 1),
        4096 => (8, 30, 1),
        8192 => (16, 60, 4),
        16384 => (32, 120, 8),
        _ => {
            return Err(wrong(
                "cpu",
                format!(
                    "{cpu} does not exist on Fargate; it is 256, 512, 1024, 2048, 4096, 8192 or 16384"
                ),
            ));
        }
    };
    let gib = mib / 1024;
    if mib.is_multiple_of(1024) && (from..=to).contains(&gib) && (gib - from).is_multiple_of(step) {
        return Ok(());
    }
    Err(wrong(
        "memory",
        format!(
            "{memory} with cpu {cpu} does not exist on Fargate; with cpu {units} it is {} to {} in steps of {}",
            from * 1024,
            to * 1024,
            step * 1024
        ),
    ))
}

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
