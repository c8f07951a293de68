#![expect(clippy::unwrap_used, reason = "tests")]
use aws_sdk_ecs::types as ecs;

use super::*;
use crate::definition::parse;

const DEFINITION: &str = r#"{
    "family": "demo", "networkMode": "awsvpc", "requiresCompatibilities": ["FARGATE"],
    "cpu": "0.25 vCPU", "memory": "1 GB",
    "executionRoleArn": "arn:aws:iam::000000000000:role/execution",
    "containerDefinitions": [{
        "name": "app", "image": "registry/demo@sha256:00",
        "portMappings": [{"containerPort": 8080}],
        "environment": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
        "healthCheck": {"command": ["CMD", "/bin/app", "healthcheck"], "startPeriod": 0}
    }]
}"#;

/// What ECS answers for it: defaults filled in, sizes as integers, another order.
fn answered() -> ecs::TaskDefinition {
    ecs::TaskDefinition::builder()
        .task_definition_arn("arn:aws:ecs:eu-west-1:000000000000:task-definition/demo:7")
        .revision(7)
        .status(ecs::TaskDefinitionStatus::Active)
        .family("demo")
        .network_mode(ecs::NetworkMode::Awsvpc)
        .requires_compatibilities(ecs::Compatibility::Fargate)
        .compatibilities(ecs::Compatibility::Ec2)
        .cpu("256")
        .memory("1024")
        .execution_role_arn("arn:aws:iam::000000000000:role/execution")
        .set_volumes(Some(Vec::new()))
        .container_definitions(
            ecs::ContainerDefinition::builder()
                .name("app")
                .image("registry/demo@sha256:00")
                .cpu(0)
                .essential(true)
                .port_mappings(
                    ecs::PortMapping::builder()
                        .container_port(8080)
                        .host_port(8080)
                        .protocol(ecs::TransportProtocol::Tcp)
                        .build(),
                )
                .environment(ecs::KeyValuePair::builder().name("A").value("1").build())
                .environment(ecs::KeyValuePair::builder().name("B").value("2").build())
                .health_check(
                    ecs::HealthCheck::builder()
                        .set_command(Some(
                            ["CMD", "/bin/app", "healthcheck"]
                                .map(str::to_owned)
                                .to_vec(),
                        ))
                        .interval(30)
                        .timeout(5)
                        .retries(3)
                        .build()
                        .unwrap(),
                )
                .set_mount_points(Some(Vec::new()))
                .set_volumes_from(Some(Vec::new()))
                .set_system_controls(Some(Vec::new()))
                .build(),
        )
        .build()
}

#[test]
fn defaults_and_order_make_no_difference() {
    assert!(equal(&answered(), &parse(DEFINITION).unwrap()));
}

#[test]
fn every_change_makes_one() {
    let changes = [
        ("@sha256:00", "@sha256:01"),
        ("8080", "8081"),
        ("\"2\"", "\"3\""),
        ("0.25 vCPU", "512"),
        ("role/execution", "role/other"),
        ("\"startPeriod\": 0", "\"startPeriod\": 5"),
        (
            "\"name\": \"app\",",
            "\"name\": \"app\", \"readonlyRootFilesystem\": true,",
        ),
        (
            "\"name\": \"app\",",
            "\"name\": \"app\", \"command\": [\"serve\"],",
        ),
        (
            "\"name\": \"app\",",
            "\"name\": \"app\", \"stopTimeout\": 30,",
        ),
    ];
    for (from, to) in changes {
        let wanted = parse(&DEFINITION.replacen(from, to, 1)).unwrap();
        assert!(!equal(&answered(), &wanted), "{to}");
    }
}

#[test]
fn an_inactive_revision_is_never_equal() {
    let mut registered = answered();
    registered.status = Some(ecs::TaskDefinitionStatus::Inactive);
    assert!(!equal(&registered, &parse(DEFINITION).unwrap()));
}
