//! From JSON to `RegisterTaskDefinitionInput`, for tasks on Fargate.
//!
//! Fields, ranges and required members are those of the ECS API reference (`RegisterTaskDefinition`,
//! `ContainerDefinition`) and the developer guide's page on Fargate task definitions.

use aws_sdk_ecs::error::BuildError;
use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use aws_sdk_ecs::types as ecs;
use serde_json::Value;

use super::check::check;
use super::fields::{DefinitionError, Fields, Read, integer, one_of, text, wrong};

/// Reads a rendered task definition.
pub fn parse(rendered: &str) -> Read<RegisterTaskDefinitionInput> {
    let value: Value = serde_json::from_str(rendered).map_err(|error| {
        let message = error.to_string();
        DefinitionError::Json {
            message: message
                .rsplit_once(" at line ")
                .map_or(message.as_str(), |(message, _)| message)
                .to_owned(),
            line: error.line(),
            text: rendered
                .lines()
                .nth(error.line().saturating_sub(1))
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    })?;
    let fields = Fields::new("", &value)?;
    let family = fields.required("family", fields.string("family")?)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if family.is_empty() || family.len() > 255 || !family.bytes().all(legal) {
        return Err(wrong(
            "family",
            format!("`{family}` is not 1 to 255 letters, digits, `_` and `-`"),
        ));
    }
    let containers = fields.required(
        "containerDefinitions",
        fields.list("containerDefinitions", container)?,
    )?;
    let input = RegisterTaskDefinitionInput::builder()
        .family(family)
        .set_container_definitions(Some(containers))
        .set_task_role_arn(fields.string("taskRoleArn")?)
        .set_execution_role_arn(fields.string("executionRoleArn")?)
        .set_network_mode(fields.choice("networkMode", &["awsvpc"])?)
        .set_requires_compatibilities(fields.list("requiresCompatibilities", |path, value| {
            one_of(path, &text(path, value)?, &["FARGATE"]).map(ecs::Compatibility::from)
        })?)
        .set_cpu(fields.number_text("cpu")?)
        .set_memory(fields.number_text("memory")?)
        .set_volumes(fields.list("volumes", volume)?)
        .set_pid_mode(fields.choice("pidMode", &["task"])?)
        .set_proxy_configuration(fields.object("proxyConfiguration", proxy)?)
        .set_ephemeral_storage(fields.object("ephemeralStorage", |path, value| {
            let fields = Fields::new(path, value)?;
            let size =
                fields.required("sizeInGiB", fields.integer_within("sizeInGiB", 21..=200)?)?;
            fields.end(&[], &[])?;
            Ok(ecs::EphemeralStorage::builder().size_in_gib(size).build())
        })?)
        .set_runtime_platform(fields.object("runtimePlatform", |path, value| {
            let fields = Fields::new(path, value)?;
            let platform = ecs::RuntimePlatform::builder()
                .set_cpu_architecture(fields.choice("cpuArchitecture", &["X86_64", "ARM64"])?)
                .set_operating_system_family(fields.choice("operatingSystemFamily", &["LINUX"])?)
                .build();
            fields.end(&[], &[])?;
            Ok(platform)
        })?)
        .set_enable_fault_injection(fields.boolean("enableFaultInjection")?)
        .set_tags(fields.list("tags", |path, value| {
            let fields = Fields::new(path, value)?;
            let tag = ecs::Tag::builder()
                .key(fields.required("key", fields.string("key")?)?)
                .set_value(fields.string("value")?)
                .build();
            fields.end(&[], &[])?;
            Ok(tag)
        })?)
        .build()
        .map_err(|error| built("", &error))?;
    fields.end(
        &["placementConstraints", "inferenceAccelerators", "ipcMode"],
        &[
            "taskDefinitionArn",
            "revision",
            "status",
            "requiresAttributes",
            "compatibilities",
            "registeredAt",
            "registeredBy",
            "deregisteredAt",
            "deleteRequestedAt",
        ],
    )?;
    check(&input)?;
    Ok(input)
}

fn built(path: &str, error: &BuildError) -> DefinitionError {
    wrong(path, error.to_string())
}

fn container(path: &str, value: &Value) -> Read<ecs::ContainerDefinition> {
    let fields = Fields::new(path, value)?;
    let container = ecs::ContainerDefinition::builder()
        .name(fields.required("name", fields.string("name")?)?)
        .image(fields.required("image", fields.string("image")?)?)
        .set_repository_credentials(fields.object("repositoryCredentials", |path, value| {
            let fields = Fields::new(path, value)?;
            let parameter = fields.required(
                "credentialsParameter",
                fields.string("credentialsParameter")?,
            )?;
            fields.end(&[], &[])?;
            ecs::RepositoryCredentials::builder()
                .credentials_parameter(parameter)
                .build()
                .map_err(|error| built(path, &error))
        })?)
        .set_cpu(fields.integer("cpu")?)
        .set_memory(fields.integer("memory")?)
        .set_memory_reservation(fields.integer("memoryReservation")?)
        .set_port_mappings(fields.list("portMappings", port_mapping)?)
        .set_essential(fields.boolean("essential")?)
        .set_restart_policy(fields.object("restartPolicy", restart_policy)?)
        .set_entry_point(fields.strings("entryPoint")?)
        .set_command(fields.strings("command")?)
        .set_environment(fields.list("environment", pair)?)
        .set_environment_files(fields.list("environmentFiles", environment_file)?)
        .set_mount_points(fields.list("mountPoints", mount_point)?)
        .set_volumes_from(fields.list("volumesFrom", |path, value| {
            let fields = Fields::new(path, value)?;
            let volume = ecs::VolumeFrom::builder()
                .set_source_container(fields.string("sourceContainer")?)
                .set_read_only(fields.boolean("readOnly")?)
                .build();
            fields.end(&[], &[])?;
            Ok(volume)
        })?)
        .set_linux_parameters(fields.object("linuxParameters", linux_parameters)?)
        .set_secrets(fields.list("secrets", secret)?)
        .set_depends_on(fields.list("dependsOn", dependency)?)
        .set_start_timeout(fields.integer_within("startTimeout", 2..=120)?)
        .set_stop_timeout(fields.integer_within("stopTimeout", 0..=120)?)
        .set_version_consistency(fields.choice("versionConsistency", &["enabled", "disabled"])?)
        .set_user(fields.string("user")?)
        .set_working_directory(fields.string("workingDirectory")?)
        .set_readonly_root_filesystem(fields.boolean("readonlyRootFilesystem")?)
        .set_interactive(fields.boolean("interactive")?)
        .set_pseudo_terminal(fields.boolean("pseudoTerminal")?)
        .set_docker_labels(fields.map("dockerLabels")?)
        .set_ulimits(fields.list("ulimits", ulimit)?)
        .set_log_configuration(fields.object("logConfiguration", log_configuration)?)
        .set_health_check(fields.object("healthCheck", health_check)?)
        .set_system_controls(fields.list("systemControls", |path, value| {
            let fields = Fields::new(path, value)?;
            let control = ecs::SystemControl::builder()
                .set_namespace(fields.string("namespace")?)
                .set_value(fields.string("value")?)
                .build();
            fields.end(&[], &[])?;
            Ok(control)
        })?)
        .set_firelens_configuration(fields.object("firelensConfiguration", |path, value| {
            let fields = Fields::new(path, value)?;
            let kind =
                fields.required("type", fields.choice("type", &["fluentd", "fluentbit"])?)?;
            let options = fields.map("options")?;
            fields.end(&[], &[])?;
            ecs::FirelensConfiguration::builder()
                .r#type(kind)
                .set_options(options)
                .build()
                .map_err(|error| built(path, &error))
        })?)
        .build();
    fields.end(
        &[
            "links",
            "hostname",
            "disableNetworking",
            "privileged",
            "dnsServers",
            "dnsSearchDomains",
            "extraHosts",
            "dockerSecurityOptions",
            "resourceRequirements",
            "credentialSpecs",
        ],
        &[],
    )?;
    Ok(container)
}

fn port_mapping(path: &str, value: &Value) -> Read<ecs::PortMapping> {
    let fields = Fields::new(path, value)?;
    let mapping = ecs::PortMapping::builder()
        .set_container_port(fields.integer_within("containerPort", 1..=65535)?)
        .set_host_port(fields.integer_within("hostPort", 0..=65535)?)
        .set_protocol(fields.choice("protocol", &["tcp", "udp"])?)
        .set_name(fields.string("name")?)
        .set_app_protocol(fields.choice("appProtocol", &["http", "http2", "grpc"])?)
        .set_container_port_range(fields.string("containerPortRange")?)
        .build();
    fields.end(&[], &[])?;
    Ok(mapping)
}

fn pair(path: &str, value: &Value) -> Read<ecs::KeyValuePair> {
    let fields = Fields::new(path, value)?;
    let pair = ecs::KeyValuePair::builder()
        .name(fields.required("name", fields.string("name")?)?)
        .value(fields.required("value", fields.string("value")?)?)
        .build();
    fields.end(&[], &[])?;
    Ok(pair)
}

fn secret(path: &str, value: &Value) -> Read<ecs::Secret> {
    let fields = Fields::new(path, value)?;
    let name = fields.required("name", fields.string("name")?)?;
    let from = fields.required("valueFrom", fields.string("valueFrom")?)?;
    fields.end(&[], &[])?;
    ecs::Secret::builder()
        .name(name)
        .value_from(from)
        .build()
        .map_err(|error| built(path, &error))
}

fn environment_file(path: &str, value: &Value) -> Read<ecs::EnvironmentFile> {
    let fields = Fields::new(path, value)?;
    let kind = fields.required("type", fields.choice("type", &["s3"])?)?;
    let value = fields.required("value", fields.string("value")?)?;
    fields.end(&[], &[])?;
    ecs::EnvironmentFile::builder()
        .r#type(kind)
        .value(value)
        .build()
        .map_err(|error| built(path, &error))
}

fn dependency(path: &str, value: &Value) -> Read<ecs::ContainerDependency> {
    let fields = Fields::new(path, value)?;
    let name = fields.required("containerName", fields.string("containerName")?)?;
    let condition = fields.required(
        "condition",
        fields.choice("condition", &["START", "COMPLETE", "SUCCESS", "HEALTHY"])?,
    )?;
    fields.end(&[], &[])?;
    ecs::ContainerDependency::builder()
        .container_name(name)
        .condition(condition)
        .build()
        .map_err(|error| built(path, &error))
}

fn mount_point(path: &str, value: &Value) -> Read<ecs::MountPoint> {
    let fields = Fields::new(path, value)?;
    let mount = ecs::MountPoint::builder()
        .set_source_volume(fields.string("sourceVolume")?)
        .set_container_path(fields.string("containerPath")?)
        .set_read_only(fields.boolean("readOnly")?)
        .build();
    fields.end(&[], &[])?;
    Ok(mount)
}

fn ulimit(path: &str, value: &Value) -> Read<ecs::Ulimit> {
    let fields = Fields::new(path, value)?;
    let known: Vec<&str> = ecs::UlimitName::values().to_vec();
    let name = fields.required("name", fields.choice("name", &known)?)?;
    let soft = fields.required("softLimit", fields.integer("softLimit")?)?;
    let hard = fields.required("hardLimit", fields.integer("hardLimit")?)?;
    fields.end(&[], &[])?;
    ecs::Ulimit::builder()
        .name(name)
        .soft_limit(soft)
        .hard_limit(hard)
        .build()
        .map_err(|error| built(path, &error))
}

fn restart_policy(path: &str, value: &Value) -> Read<ecs::ContainerRestartPolicy> {
    let fields = Fields::new(path, value)?;
    let policy = ecs::ContainerRestartPolicy::builder()
        .set_enabled(fields.boolean("enabled")?)
        .set_ignored_exit_codes(fields.list("ignoredExitCodes", integer)?)
        .set_restart_attempt_period(fields.integer_within("restartAttemptPeriod", 60..=1800)?)
        .build()
        .map_err(|error| built(path, &error))?;
    fields.end(&[], &[])?;
    Ok(policy)
}

fn linux_parameters(path: &str, value: &Value) -> Read<ecs::LinuxParameters> {
    let fields = Fields::new(path, value)?;
    let parameters = ecs::LinuxParameters::builder()
        .set_init_process_enabled(fields.boolean("initProcessEnabled")?)
        .set_capabilities(fields.object("capabilities", |path, value| {
            let fields = Fields::new(path, value)?;
            let capabilities = ecs::KernelCapabilities::builder()
                .set_add(fields.strings("add")?)
                .set_drop(fields.strings("drop")?)
                .build();
            fields.end(&[], &[])?;
            Ok(capabilities)
        })?)
        .build();
    fields.end(
        &[
            "devices",
            "sharedMemorySize",
            "tmpfs",
            "maxSwap",
            "swappiness",
        ],
        &[],
    )?;
    Ok(parameters)
}

fn log_configuration(path: &str, value: &Value) -> Read<ecs::LogConfiguration> {
    let fields = Fields::new(path, value)?;
    let driver = fields.required(
        "logDriver",
        fields.choice("logDriver", &["awslogs", "splunk", "awsfirelens"])?,
    )?;
    let options = fields.map("options")?;
    let secrets = fields.list("secretOptions", secret)?;
    fields.end(&[], &[])?;
    ecs::LogConfiguration::builder()
        .log_driver(driver)
        .set_options(options)
        .set_secret_options(secrets)
        .build()
        .map_err(|error| built(path, &error))
}

fn health_check(path: &str, value: &Value) -> Read<ecs::HealthCheck> {
    let fields = Fields::new(path, value)?;
    let command = fields.required("command", fields.strings("command")?)?;
    if !matches!(
        command.first().map(String::as_str),
        Some("CMD" | "CMD-SHELL")
    ) {
        return Err(wrong(
            &fields.at("command"),
            "begins with \"CMD\" or \"CMD-SHELL\"",
        ));
    }
    let check = ecs::HealthCheck::builder()
        .set_command(Some(command))
        .set_interval(fields.integer_within("interval", 5..=300)?)
        .set_timeout(fields.integer_within("timeout", 2..=60)?)
        .set_retries(fields.integer_within("retries", 1..=10)?)
        .set_start_period(fields.integer_within("startPeriod", 0..=300)?)
        .build()
        .map_err(|error| built(path, &error))?;
    fields.end(&[], &[])?;
    Ok(check)
}

fn volume(path: &str, value: &Value) -> Read<ecs::Volume> {
    let fields = Fields::new(path, value)?;
    let volume = ecs::Volume::builder()
        .name(fields.required("name", fields.string("name")?)?)
        .set_configured_at_launch(fields.boolean("configuredAtLaunch")?)
        .set_host(fields.object("host", |path, value| {
            Fields::new(path, value)?.end(&["sourcePath"], &[])?;
            Ok(ecs::HostVolumeProperties::builder().build())
        })?)
        .set_efs_volume_configuration(fields.object("efsVolumeConfiguration", efs)?)
        .build();
    fields.end(
        &[
            "dockerVolumeConfiguration",
            "fsxWindowsFileServerVolumeConfiguration",
        ],
        &[],
    )?;
    Ok(volume)
}

fn efs(path: &str, value: &Value) -> Read<ecs::EfsVolumeConfiguration> {
    let fields = Fields::new(path, value)?;
    let configuration = ecs::EfsVolumeConfiguration::builder()
        .file_system_id(fields.required("fileSystemId", fields.string("fileSystemId")?)?)
        .set_root_directory(fields.string("rootDirectory")?)
        .set_transit_encryption(fields.choice("transitEncryption", &["ENABLED", "DISABLED"])?)
        .set_transit_encryption_port(fields.integer("transitEncryptionPort")?)
        .set_authorization_config(fields.object("authorizationConfig", |path, value| {
            let fields = Fields::new(path, value)?;
            let authorization = ecs::EfsAuthorizationConfig::builder()
                .set_access_point_id(fields.string("accessPointId")?)
                .set_iam(fields.choice("iam", &["ENABLED", "DISABLED"])?)
                .build();
            fields.end(&[], &[])?;
            Ok(authorization)
        })?)
        .build()
        .map_err(|error| built(path, &error))?;
    fields.end(&[], &[])?;
    Ok(configuration)
}

fn proxy(path: &str, value: &Value) -> Read<ecs::ProxyConfiguration> {
    let fields = Fields::new(path, value)?;
    let configuration = ecs::ProxyConfiguration::builder()
        .set_type(fields.choice("type", &["APPMESH"])?)
        .container_name(fields.required("containerName", fields.string("containerName")?)?)
        .set_properties(fields.list("properties", pair)?)
        .build()
        .map_err(|error| built(path, &error))?;
    fields.end(&[], &[])?;
    Ok(configuration)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
