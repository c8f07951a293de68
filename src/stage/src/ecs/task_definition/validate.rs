//! What ECS refuses of a task definition for Fargate, in its words where they are known.
//!
//! Sources: "`RegisterTaskDefinition`" and "Amazon ECS task definition parameters for Fargate".

use std::collections::BTreeSet;

use super::{
    ContainerDefinition, Definition, HealthCheck,
    size::{cpu_units, is_fargate_size, mebibytes},
};
use crate::wire::ApiError;

type Check = Result<(), ApiError>;

fn refuse(message: impl Into<String>) -> ApiError {
    ApiError::client("ClientException", message)
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Check {
    if holds {
        Ok(())
    } else {
        Err(refuse(message()))
    }
}

fn is_name(text: &str) -> bool {
    text.len() <= 255
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

impl Definition {
    /// Checks everything, and brings `cpu`, `memory` and ports into the form that AWS echoes.
    pub(super) fn validate(&mut self) -> Check {
        ensure(!self.family.is_empty(), || {
            "Family should not be null or empty.".into()
        })?;
        ensure(is_name(&self.family), || {
            "Family contains invalid characters.".into()
        })?;
        ensure(!self.container_definitions.is_empty(), || {
            "TaskDefinition must have at least one container definition.".into()
        })?;
        ensure(self.container_definitions.len() <= 10, || {
            "Too many container definitions: a task definition has at most 10.".into()
        })?;
        for compatibility in &self.requires_compatibilities {
            ensure(
                matches!(compatibility.as_str(), "FARGATE" | "EC2" | "EXTERNAL"),
                || format!("Invalid value '{compatibility}' for requiresCompatibilities."),
            )?;
        }
        ensure(
            self.requires_compatibilities.iter().any(|c| c == "FARGATE"),
            || {
                "requiresCompatibilities must contain FARGATE: this stage runs Fargate tasks only."
                    .into()
            },
        )?;
        ensure(self.network_mode.as_deref() == Some("awsvpc"), || {
            "Fargate only supports network mode 'awsvpc'.".into()
        })?;
        self.check_size()?;
        self.check_platform()?;
        if let Some(storage) = &self.ephemeral_storage {
            ensure((21..=200).contains(&storage.size_in_gib), || {
                "Ephemeral storage size must be between 21 GiB and 200 GiB.".into()
            })?;
        }
        for (name, role) in [
            ("taskRoleArn", &self.task_role_arn),
            ("executionRoleArn", &self.execution_role_arn),
        ] {
            if let Some(role) = role {
                ensure(role.starts_with("arn:") && role.contains(":role/"), || {
                    format!("Role is not valid: {name} is '{role}'.")
                })?;
            }
        }
        self.check_containers()
    }

    fn check_size(&mut self) -> Check {
        let cpu = self
            .cpu
            .as_deref()
            .ok_or_else(|| refuse("Fargate requires that 'cpu' be defined at the task level."))?;
        let memory = self.memory.as_deref().ok_or_else(|| {
            refuse("Fargate requires that 'memory' be defined at the task level.")
        })?;
        let cpu_units = cpu_units(cpu)
            .ok_or_else(|| refuse(format!("Invalid 'cpu' setting for task: '{cpu}'.")))?;
        let mebibytes = mebibytes(memory)
            .ok_or_else(|| refuse(format!("Invalid 'memory' setting for task: '{memory}'.")))?;
        ensure(is_fargate_size(cpu_units, mebibytes), || {
            format!(
                "No Fargate configuration exists for given values: {cpu_units} CPU, {mebibytes} memory. \
                 See the Amazon ECS documentation for the valid values."
            )
        })?;
        self.cpu = Some(cpu_units.to_string());
        self.memory = Some(mebibytes.to_string());
        Ok(())
    }

    fn check_platform(&self) -> Check {
        let Some(platform) = &self.runtime_platform else {
            return Ok(());
        };
        if let Some(architecture) = &platform.cpu_architecture {
            ensure(matches!(architecture.as_str(), "X86_64" | "ARM64"), || {
                format!("Invalid value '{architecture}' for cpuArchitecture.")
            })?;
        }
        if let Some(system) = &platform.operating_system_family {
            ensure(system == "LINUX", || {
                format!("operatingSystemFamily '{system}': this stage runs LINUX only.")
            })?;
        }
        Ok(())
    }

    fn check_containers(&mut self) -> Check {
        let mut names = BTreeSet::new();
        for container in &mut self.container_definitions {
            container.check()?;
            ensure(names.insert(container.name.clone()), || {
                format!(
                    "Container names must be unique: '{}' is used twice.",
                    container.name
                )
            })?;
        }
        let containers = &self.container_definitions;
        ensure(
            containers.iter().any(|container| container.essential),
            || {
                "Invalid setting for container: at least one container must be marked as essential."
                    .into()
            },
        )?;
        let has_role = self.execution_role_arn.is_some();
        for container in containers {
            ensure(has_role || container.secrets.is_empty(), || {
                "When you are specifying container secrets, you must also specify a value for \
                 'executionRoleArn'."
                    .into()
            })?;
            let driver = container
                .log_configuration
                .as_ref()
                .map(|log| log.log_driver.as_str());
            ensure(has_role || driver != Some("awslogs"), || {
                "Fargate requires task definition to have execution role ARN to support log \
                 driver awslogs."
                    .into()
            })?;
            ensure(has_role || !container.image.contains(".dkr.ecr."), || {
                "Fargate requires task definition to have execution role ARN to support ECR images."
                    .into()
            })?;
            for dependency in &container.depends_on {
                check_dependency(container, dependency, containers)?;
            }
        }
        Ok(())
    }
}

fn check_dependency(
    container: &ContainerDefinition,
    dependency: &super::Dependency,
    containers: &[ContainerDefinition],
) -> Check {
    let on = &dependency.container_name;
    let target = containers
        .iter()
        .find(|other| other.name == *on && *on != container.name);
    let Some(target) = target else {
        return Err(refuse(format!(
            "Container '{}' depends on container '{on}', which does not exist.",
            container.name
        )));
    };
    match dependency.condition.as_str() {
        "START" => Ok(()),
        "COMPLETE" | "SUCCESS" => ensure(!target.essential, || {
            format!(
                "Container '{on}' is essential and cannot be depended on with condition {}.",
                dependency.condition
            )
        }),
        "HEALTHY" => ensure(target.health_check.is_some(), || {
            format!("Container '{on}' has no health check, so condition HEALTHY cannot be used.")
        }),
        other => Err(refuse(format!(
            "Invalid value '{other}' for dependsOn condition."
        ))),
    }
}

impl ContainerDefinition {
    fn check(&mut self) -> Check {
        ensure(!self.name.is_empty(), || {
            "Container.name should not be null or empty.".into()
        })?;
        ensure(is_name(&self.name), || {
            format!(
                "Container.name contains invalid characters: '{}'.",
                self.name
            )
        })?;
        ensure(!self.image.is_empty(), || {
            "Container.image should not be null or empty.".into()
        })?;
        self.check_image()?;
        ensure(self.privileged != Some(true), || {
            "Tasks using the Fargate launch type do not support the 'privileged' parameter.".into()
        })?;
        ensure(self.links.is_empty(), || {
            "Links are not supported when networkMode=awsvpc.".into()
        })?;
        for (name, timeout) in [
            ("startTimeout", self.start_timeout),
            ("stopTimeout", self.stop_timeout),
        ] {
            ensure(timeout.is_none_or(|seconds| seconds <= 120), || {
                format!("Container {name} must be at most 120 seconds on Fargate.")
            })?;
        }
        self.check_ports()?;
        self.check_environment()?;
        if let Some(log) = &self.log_configuration {
            ensure(
                matches!(
                    log.log_driver.as_str(),
                    "awslogs" | "splunk" | "awsfirelens"
                ),
                || format!("Log driver {} is not supported by Fargate.", log.log_driver),
            )?;
        }
        if let Some(consistency) = &self.version_consistency {
            ensure(
                matches!(consistency.as_str(), "enabled" | "disabled"),
                || format!("Invalid value '{consistency}' for versionConsistency."),
            )?;
        }
        self.health_check
            .as_ref()
            .map_or(Ok(()), |health_check| health_check.check(&self.name))
    }

    fn check_ports(&mut self) -> Check {
        for mapping in &mut self.port_mappings {
            if mapping.container_port_range.is_some() && mapping.container_port.is_none() {
                continue;
            }
            let port = mapping.container_port.unwrap_or(0);
            ensure((1..=65535).contains(&port), || {
                format!(
                    "Invalid 'containerPort' setting for container '{}'.",
                    self.name
                )
            })?;
            ensure(
                mapping
                    .host_port
                    .is_none_or(|host| host == port || host == 0),
                || {
                    "When networkMode=awsvpc, the host ports and container ports in port mappings \
                 must match."
                        .into()
                },
            )?;
            mapping.host_port = Some(port);
            ensure(matches!(mapping.protocol.as_str(), "tcp" | "udp"), || {
                format!("Invalid value '{}' for protocol.", mapping.protocol)
            })?;
        }
        Ok(())
    }

    fn check_environment(&self) -> Check {
        ensure(self.environment_files.len() <= 10, || {
            "Too many environment files: at most 10.".into()
        })?;
        for pair in &self.environment {
            ensure(!pair.name.is_empty(), || {
                format!(
                    "Environment variable name should not be empty in container '{}'.",
                    self.name
                )
            })?;
        }
        let mut names = BTreeSet::new();
        for secret in &self.secrets {
            ensure(
                !secret.name.is_empty() && !secret.value_from.is_empty(),
                || {
                    format!(
                        "A secret of container '{}' has no name or valueFrom.",
                        self.name
                    )
                },
            )?;
            ensure(names.insert(&secret.name), || {
                format!(
                    "The secret name must be unique and not shared with any new or existing \
                     environment variables set on the container, such as '{}'.",
                    secret.name
                )
            })?;
            ensure(
                !self.environment.iter().any(|pair| pair.name == secret.name),
                || {
                    format!(
                        "The secret name must be unique and not shared with any new or existing \
                     environment variables set on the container, such as '{}'.",
                        secret.name
                    )
                },
            )?;
        }
        Ok(())
    }

    fn check_image(&self) -> Check {
        let invalid = || {
            format!(
                "Container.image contains invalid characters: '{}'.",
                self.image
            )
        };
        ensure(
            self.image.len() <= 255
                && self
                    .image
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\'),
            invalid,
        )?;
        let Some((_, digest)) = self.image.split_once('@') else {
            return Ok(());
        };
        ensure(crate::registry::Digest::parse(digest).is_some(), || {
            format!(
                "Container.image '{}' has no valid digest: it must be sha256: and 64 hexadecimal digits.",
                self.image
            )
        })
    }
}

impl HealthCheck {
    fn check(&self, container: &str) -> Check {
        ensure(
            matches!(
                self.command.first().map(String::as_str),
                Some("CMD" | "CMD-SHELL")
            ) && self.command.len() >= 2,
            || {
                format!(
                    "Invalid health check command of container '{container}': it must start with \
                     CMD or CMD-SHELL and go on."
                )
            },
        )?;
        let bounds = [
            ("interval", self.interval, 5..=300),
            ("timeout", self.timeout, 2..=60),
            ("retries", self.retries, 1..=10),
            ("startPeriod", self.start_period.unwrap_or(0), 0..=300),
        ];
        for (name, value, range) in bounds {
            ensure(range.contains(&value), || {
                format!(
                    "Invalid health check {name} of container '{container}': {value} is not \
                     between {} and {}.",
                    range.start(),
                    range.end()
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "family": "app",
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "256",
            "memory": "512",
            "containerDefinitions": [{ "name": "app", "image": "127.0.0.1:5000/app:1" }],
        })
    }

    fn refused(change: impl FnOnce(&mut Value)) -> String {
        let mut input = good();
        change(&mut input);
        Definition::read(input).unwrap_err().to_string()
    }

    #[test]
    fn sizes_that_fargate_does_not_have_are_refused() {
        let text = refused(|input| input["memory"] = json!("4096"));
        assert!(
            text.contains("No Fargate configuration exists for given values"),
            "{text}"
        );
        let mut input = good();
        input["cpu"] = json!("1 vCPU");
        input["memory"] = json!("2 GB");
        let definition = Definition::read(input).unwrap();
        assert_eq!(definition.cpu.as_deref(), Some("1024"));
        assert_eq!(definition.memory.as_deref(), Some("2048"));
    }

    #[test]
    fn unknown_members_are_refused_and_named() {
        let text = refused(|input| input["containerDefinitions"][0]["enviroment"] = json!([]));
        assert!(
            text.starts_with("SerializationException") && text.contains("enviroment"),
            "{text}"
        );
        let text = refused(|input| input["revision"] = json!(3));
        assert!(text.contains("'revision'"), "{text}");
    }

    #[test]
    fn defaults_are_filled_in_as_aws_echoes_them() {
        let mut input = good();
        input["containerDefinitions"][0]["portMappings"] = json!([{ "containerPort": 8080 }]);
        let definition = Definition::read(input).unwrap();
        let echo = serde_json::to_value(&definition).unwrap();
        let container = &echo["containerDefinitions"][0];
        assert_eq!(
            container["portMappings"],
            json!([{ "containerPort": 8080, "hostPort": 8080, "protocol": "tcp" }])
        );
        assert_eq!(container["essential"], json!(true));
        assert_eq!(container["environment"], json!([]));
        assert_eq!(container["cpu"], json!(0));
        assert_eq!(echo["volumes"], json!([]));
    }

    #[test]
    fn what_fargate_refuses() {
        type Change = fn(&mut Value);
        let cases: [(&str, Change); 14] = [
            ("network mode", |i| i["networkMode"] = json!("bridge")),
            ("'cpu' be defined", |i| i["cpu"] = Value::Null),
            ("'memory' be defined", |i| i["memory"] = Value::Null),
            ("Family should not", |i| i["family"] = json!("")),
            ("Family contains", |i| i["family"] = json!("a b")),
            ("at least one container definition", |i| {
                i["containerDefinitions"] = json!([]);
            }),
            ("Container.image should", |i| {
                i["containerDefinitions"][0]["image"] = json!("");
            }),
            ("no valid digest", |i| {
                i["containerDefinitions"][0]["image"] = json!("a@sha256:12");
            }),
            ("marked as essential", |i| {
                i["containerDefinitions"][0]["essential"] = json!(false);
            }),
            ("host ports and container ports", |i| {
                i["containerDefinitions"][0]["portMappings"] =
                    json!([{ "containerPort": 80, "hostPort": 81 }]);
            }),
            ("'executionRoleArn'", |i| {
                i["containerDefinitions"][0]["secrets"] =
                    json!([{ "name": "A", "valueFrom": "b" }]);
            }),
            ("at most 120", |i| {
                i["containerDefinitions"][0]["stopTimeout"] = json!(121);
            }),
            ("health check interval", |i| {
                i["containerDefinitions"][0]["healthCheck"] =
                    json!({ "command": ["CMD", "true"], "interval": 4 });
            }),
            ("privileged", |i| {
                i["containerDefinitions"][0]["privileged"] = json!(true);
            }),
        ];
        for (expected, change) in cases {
            let text = refused(change);
            assert!(
                text.starts_with("ClientException") && text.contains(expected),
                "{text}"
            );
        }
    }
}
