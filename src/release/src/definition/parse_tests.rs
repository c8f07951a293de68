#![expect(clippy::unwrap_used, reason = "tests")]
use super::super::check::fargate_size;
use super::*;
use serde_json::{Value, json};

fn good() -> Value {
    json!({
        "family": "demo",
        "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"],
        "cpu": "256",
        "memory": "512",
        "executionRoleArn": "arn:aws:iam::000000000000:role/execution",
        "containerDefinitions": [{
            "name": "app",
            "image": "registry/demo@sha256:00",
            "portMappings": [{"containerPort": 8080}],
            "secrets": [{"name": "PASSWORD", "valueFrom": "arn:aws:secretsmanager:x"}],
            "healthCheck": {"command": ["CMD", "/bin/app", "healthcheck"]}
        }]
    })
}

/// The error after replacing what a JSON pointer names.
fn spoilt(pointer: &str, value: Value) -> String {
    let mut definition = good();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = definition.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => items.insert(key.parse().unwrap(), value),
        _ => parent[key] = value,
    }
    parse(&definition.to_string()).unwrap_err().to_string()
}

#[test]
fn a_good_definition() {
    let input = parse(&good().to_string()).unwrap();
    assert_eq!(input.family(), Some("demo"));
    let container = &input.container_definitions()[0];
    assert_eq!(container.port_mappings()[0].container_port(), Some(8080));
    assert_eq!(container.secrets()[0].name(), "PASSWORD");
}

#[test]
fn unknown_fields_have_their_path_and_nearest() {
    assert_eq!(
        spoilt("/containerDefinitions/0/enviroment", json!([])),
        "`containerDefinitions[0].enviroment`: RegisterTaskDefinition has no such field; did you mean `environment`?"
    );
    assert_eq!(
        spoilt("/containerDefinitions/0/healthCheck/startperiod", json!(10)),
        "`containerDefinitions[0].healthCheck.startperiod`: RegisterTaskDefinition has no such field; did you mean `startPeriod`?"
    );
    assert_eq!(
        spoilt("/containerDefinitions/0/portMappings/0/port", json!(80)),
        "`containerDefinitions[0].portMappings[0].port`: RegisterTaskDefinition has no such field"
    );
    assert_eq!(
        spoilt("/kubernetes", json!(true)),
        "`kubernetes`: RegisterTaskDefinition has no such field"
    );
}

#[test]
fn answers_of_ecs_and_fields_of_ec2_are_told_apart() {
    assert!(spoilt("/taskDefinitionArn", json!("x")).contains("is an answer of ECS"));
    assert!(
        spoilt("/containerDefinitions/0/privileged", json!(true))
            .contains("does not exist for tasks on Fargate")
    );
    assert!(spoilt("/networkMode", json!("host")).contains("`host` is not one of awsvpc"));
}

#[test]
fn pairs_of_cpu_and_memory() {
    let legal = [
        (256, 512),
        (256, 1024),
        (256, 2048),
        (512, 1024),
        (512, 4096),
        (1024, 2048),
        (1024, 8192),
        (2048, 4096),
        (2048, 16384),
        (4096, 8192),
        (4096, 30720),
        (8192, 16384),
        (8192, 61440),
        (16384, 32768),
        (16384, 122_880),
    ];
    for (cpu, memory) in legal {
        fargate_size(&cpu.to_string(), &memory.to_string()).unwrap();
    }
    let illegal = [
        (256, 256),
        (256, 4096),
        (256, 1536),
        (512, 512),
        (512, 5120),
        (1024, 1024),
        (1024, 2050),
        (4096, 31744),
        (8192, 17408),
        (8192, 65536),
        (16384, 36864),
        (100, 512),
        (0, 0),
    ];
    for (cpu, memory) in illegal {
        fargate_size(&cpu.to_string(), &memory.to_string()).unwrap_err();
    }
    fargate_size("0.25 vCPU", "1 GB").unwrap();
    fargate_size("1 vCPU", "2GB").unwrap();
    fargate_size("3 vCPU", "8 GB").unwrap_err();
    assert_eq!(
        spoilt("/memory", json!("4096")),
        "`memory`: 4096 with cpu 256 does not exist on Fargate; with cpu 256 it is 512, 1024 or 2048"
    );
}

#[test]
fn kinds_and_ranges() {
    let cases = [
        (
            "/containerDefinitions/0/stopTimeout",
            json!(121),
            "is not between 0 and 120",
        ),
        (
            "/containerDefinitions/0/stopTimeout",
            json!("30"),
            "expected a whole number, found the string \"30\"",
        ),
        (
            "/containerDefinitions/0/essential",
            json!("yes"),
            "expected true or false",
        ),
        (
            "/containerDefinitions/0/healthCheck/interval",
            json!(4),
            "is not between 5 and 300",
        ),
        (
            "/containerDefinitions/0/healthCheck/command",
            json!(["/bin/app"]),
            "begins with",
        ),
        (
            "/containerDefinitions/0/environment",
            json!([{"name": "A"}]),
            "`containerDefinitions[0].environment[0].value` is missing",
        ),
        (
            "/containerDefinitions/0/environment",
            json!([{"name": "A", "value": 1}]),
            "expected a string, found the number 1",
        ),
        ("/containerDefinitions", json!([]), "1 to 10 containers"),
        (
            "/containerDefinitions",
            json!({}),
            "expected a list, found an object",
        ),
        (
            "/ephemeralStorage",
            json!({"sizeInGiB": 20}),
            "is not between 21 and 200",
        ),
        ("/family", json!("a b"), "letters, digits"),
        ("/cpu", json!("300"), "does not exist on Fargate"),
        (
            "/containerDefinitions/0/portMappings",
            json!([{"containerPort": 80, "hostPort": 81}]),
            "the host port is the container port",
        ),
        (
            "/containerDefinitions/0/dependsOn",
            json!([{"containerName": "db", "condition": "START"}]),
            "there is no container `db`",
        ),
        (
            "/containerDefinitions/0/essential",
            json!(false),
            "at least one container must be essential",
        ),
    ];
    for (pointer, value, expected) in cases {
        let error = spoilt(pointer, value);
        assert!(error.contains(expected), "{pointer}: {error}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (pointer, path) in [
        ("/family", "family"),
        ("/cpu", "cpu"),
        (
            "/containerDefinitions/0/image",
            "containerDefinitions[0].image",
        ),
    ] {
        let error = spoilt(pointer, Value::Null);
        assert!(error.contains(&format!("`{path}` is missing")), "{error}");
    }
    assert!(spoilt("/executionRoleArn", Value::Null).contains("secrets and logs"));
}

#[test]
fn text_that_is_not_json_shows_its_line() {
    let error = parse("{\n  \"family\": demo\n}").unwrap_err().to_string();
    assert!(error.contains("line 2 reads: \"family\": demo"), "{error}");
}

#[test]
fn an_appspec_must_name_a_container_and_a_port_that_exist() {
    use rollout::appspec::AppSpec;
    let definition = parse(&good().to_string()).unwrap();
    let spec = |container: &str, port: u16| {
        AppSpec::parse(&format!(
            "version: 0.0\nResources:\n  - TargetService:\n      Type: AWS::ECS::Service\n      Properties:\n        TaskDefinition: arn:aws:ecs:eu-west-1:000000000000:task-definition/demo:1\n        LoadBalancerInfo:\n          ContainerName: {container}\n          ContainerPort: {port}\n"
        ))
        .unwrap()
    };
    let check =
        |container, port| crate::definition::check_appspec(&spec(container, port), &definition);
    assert_eq!(check("app", 8080), Ok(()));
    assert_eq!(
        check("ap", 8080).unwrap_err(),
        "ContainerName: the task definition has no container `ap`; did you mean `app`? (it has: app)"
    );
    assert_eq!(
        check("app", 80).unwrap_err(),
        "ContainerPort: container `app` maps no port 80 (it maps: 8080)"
    );
}
