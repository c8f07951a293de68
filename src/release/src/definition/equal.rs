//! Whether a registered revision already is what would be registered.
//!
//! ECS fills in defaults and keeps its own order, so neither the JSON nor the struct compares.
//! Both sides are brought to one form first: defaults filled in, empty lists taken for absent,
//! and lists whose order means nothing sorted. When in doubt two definitions are different: one
//! revision too many does no harm, one too few deploys the wrong thing.

use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use aws_sdk_ecs::types as ecs;

/// Whether the registered definition equals the one that would be registered. Tags are no part
/// of a revision.
pub fn equal(registered: &ecs::TaskDefinition, wanted: &RegisterTaskDefinitionInput) -> bool {
    registered.status != Some(ecs::TaskDefinitionStatus::Inactive)
        && registered.family == wanted.family
        && some(registered.task_role_arn.as_ref()) == some(wanted.task_role_arn.as_ref())
        && some(registered.execution_role_arn.as_ref()) == some(wanted.execution_role_arn.as_ref())
        && registered.network_mode == wanted.network_mode
        && registered.requires_compatibilities() == wanted.requires_compatibilities()
        && size(registered.cpu()) == size(wanted.cpu())
        && size(registered.memory()) == size(wanted.memory())
        && registered.pid_mode == wanted.pid_mode
        && registered.proxy_configuration == wanted.proxy_configuration
        && registered.ephemeral_storage == wanted.ephemeral_storage
        && platform(registered.runtime_platform.as_ref())
            == platform(wanted.runtime_platform.as_ref())
        && registered.enable_fault_injection.unwrap_or(false)
            == wanted.enable_fault_injection.unwrap_or(false)
        && registered.volumes() == wanted.volumes()
        && registered.placement_constraints().is_empty()
        && registered.container_definitions().len() == wanted.container_definitions().len()
        && registered
            .container_definitions()
            .iter()
            .zip(wanted.container_definitions())
            .all(|(a, b)| canonical(a) == canonical(b))
}

/// An empty string is what some answers have for an absent one.
fn some(value: Option<&String>) -> Option<&String> {
    value.filter(|value| !value.is_empty())
}

/// "1 vCPU" and "2 GB" are converted to integers on registration.
fn size(value: Option<&str>) -> Option<String> {
    let value = value?.trim().to_ascii_lowercase();
    let scaled = |number: &str| {
        number
            .trim()
            .parse::<f64>()
            .ok()
            .map(|number| format!("{:.0}", number * 1024.0))
    };
    if let Some(number) = value
        .strip_suffix("vcpu")
        .or_else(|| value.strip_suffix("gb"))
    {
        return scaled(number);
    }
    Some(value)
}

/// `X86_64` and LINUX are the defaults.
fn platform(value: Option<&ecs::RuntimePlatform>) -> (ecs::CpuArchitecture, ecs::OsFamily) {
    let architecture = value.and_then(|value| value.cpu_architecture.clone());
    let family = value.and_then(|value| value.operating_system_family.clone());
    (
        architecture.unwrap_or(ecs::CpuArchitecture::X8664),
        family.unwrap_or(ecs::OsFamily::Linux),
    )
}

fn canonical(container: &ecs::ContainerDefinition) -> ecs::ContainerDefinition {
    fn none_if_empty<T>(list: &mut Option<Vec<T>>) {
        if list.as_ref().is_some_and(Vec::is_empty) {
            *list = None;
        }
    }
    let mut container = container.clone();
    container.essential.get_or_insert(true);
    for mapping in container.port_mappings.iter_mut().flatten() {
        if mapping.host_port.is_none_or(|port| port == 0) {
            mapping.host_port = mapping.container_port;
        }
        mapping.protocol.get_or_insert(ecs::TransportProtocol::Tcp);
    }
    if let Some(environment) = &mut container.environment {
        environment.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if let Some(secrets) = &mut container.secrets {
        secrets.sort_by(|a, b| a.name.cmp(&b.name));
    }
    if let Some(check) = &mut container.health_check {
        check.interval.get_or_insert(30);
        check.timeout.get_or_insert(5);
        check.retries.get_or_insert(3);
        if check.start_period == Some(0) {
            check.start_period = None;
        }
    }
    if let Some(log) = &mut container.log_configuration {
        none_if_empty(&mut log.secret_options);
        if log
            .options
            .as_ref()
            .is_some_and(std::collections::HashMap::is_empty)
        {
            log.options = None;
        }
    }
    for flag in [
        &mut container.disable_networking,
        &mut container.privileged,
        &mut container.readonly_root_filesystem,
        &mut container.interactive,
        &mut container.pseudo_terminal,
    ] {
        flag.get_or_insert(false);
    }
    container
        .version_consistency
        .get_or_insert(ecs::VersionConsistency::Enabled);
    none_if_empty(&mut container.links);
    none_if_empty(&mut container.port_mappings);
    none_if_empty(&mut container.entry_point);
    none_if_empty(&mut container.command);
    none_if_empty(&mut container.environment);
    none_if_empty(&mut container.environment_files);
    none_if_empty(&mut container.mount_points);
    none_if_empty(&mut container.volumes_from);
    none_if_empty(&mut container.secrets);
    none_if_empty(&mut container.depends_on);
    none_if_empty(&mut container.dns_servers);
    none_if_empty(&mut container.dns_search_domains);
    none_if_empty(&mut container.extra_hosts);
    none_if_empty(&mut container.docker_security_options);
    none_if_empty(&mut container.ulimits);
    none_if_empty(&mut container.system_controls);
    none_if_empty(&mut container.resource_requirements);
    none_if_empty(&mut container.credential_specs);
    container
}

#[cfg(test)]
#[path = "equal_tests.rs"]
mod tests;
