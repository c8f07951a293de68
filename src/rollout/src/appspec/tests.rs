use std::fmt::Write as _;

use super::*;

const FULL: &str = r#"
version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: "arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7"
        LoadBalancerInfo:
          ContainerName: app
          ContainerPort: 8080
        PlatformVersion: 1.4.0
        NetworkConfiguration:
          AwsvpcConfiguration:
            Subnets: [subnet-1, subnet-2]
            SecurityGroups: [sg-1]
            AssignPublicIp: DISABLED
        CapacityProviderStrategy:
          - {Base: 1, CapacityProvider: FARGATE, Weight: 1}
          - {CapacityProvider: FARGATE_SPOT, Weight: 4}
Hooks:
  - BeforeInstall: CodeDeployHook_before
  - AfterAllowTraffic: "arn:aws:lambda:eu-west-1:000000000000:function:CodeDeployHook_after"
"#;

const MINIMAL: &str = "
version: 0.0
Resources:
  - TargetService:
      Type: AWS::ECS::Service
      Properties:
        TaskDefinition: arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7
        LoadBalancerInfo:
          ContainerName: app
          ContainerPort: 8080
";

fn full() -> AppSpec {
    AppSpec {
        platform_version: Some("1.4.0".to_owned()),
        network_configuration: Some(NetworkConfiguration {
            subnets: vec!["subnet-1".to_owned(), "subnet-2".to_owned()],
            security_groups: vec!["sg-1".to_owned()],
            assign_public_ip: false,
        }),
        capacity_provider_strategy: vec![
            CapacityProvider {
                capacity_provider: "FARGATE".to_owned(),
                base: 1,
                weight: 1,
            },
            CapacityProvider {
                capacity_provider: "FARGATE_SPOT".to_owned(),
                base: 0,
                weight: 4,
            },
        ],
        hooks: vec![
            (
                LifecycleEvent::BeforeInstall,
                "CodeDeployHook_before".to_owned(),
            ),
            (
                LifecycleEvent::AfterAllowTraffic,
                "arn:aws:lambda:eu-west-1:000000000000:function:CodeDeployHook_after".to_owned(),
            ),
        ],
        ..minimal()
    }
}

fn minimal() -> AppSpec {
    AppSpec {
        task_definition: "arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7".to_owned(),
        container_name: "app".to_owned(),
        container_port: 8080,
        platform_version: None,
        network_configuration: None,
        capacity_provider_strategy: Vec::new(),
        hooks: Vec::new(),
    }
}

/// A text in which `from` is replaced must be refused with this message.
fn refuses(text: &str, from: &str, to: &str, message: &str) {
    assert!(
        text.contains(from),
        "the test replaces {from:?}, which is not there"
    );
    let error = AppSpec::parse(&text.replacen(from, to, 1)).expect_err(message);
    assert_eq!(error.to_string(), message);
}

#[test]
fn reads_everything_there_is() {
    assert_eq!(AppSpec::parse(FULL), Ok(full()));
    assert_eq!(AppSpec::parse(MINIMAL), Ok(minimal()));
}

#[test]
fn what_is_written_is_read_again_as_json_and_as_yaml() {
    for appspec in [full(), minimal()] {
        let json = appspec.to_json();
        assert!(json.contains("\"version\": 0.0"), "{json}");
        assert_eq!(AppSpec::parse(&json).as_ref(), Ok(&appspec));
        // Not tried as JSON because of the comment.
        assert_eq!(
            AppSpec::parse(&format!("# a comment\n{json}")).as_ref(),
            Ok(&appspec)
        );
    }
}

#[test]
fn json_may_be_indented_by_tabs_and_put_the_version_as_0() {
    let json = full().to_json().replace("  ", "\t").replace("0.0", "0");
    assert_eq!(AppSpec::parse(&json), Ok(full()));
}

#[test]
fn keys_are_read_in_any_case() {
    let lower = FULL
        .replace("Resources", "resources")
        .replace("Hooks", "hooks")
        .replace("Properties", "properties")
        .replace("ContainerPort", "containerPort")
        .replace("AwsvpcConfiguration", "awsVpcConfiguration")
        .replace("BeforeInstall", "beforeinstall");
    assert_eq!(AppSpec::parse(&lower), Ok(full()));
}

#[test]
fn the_target_may_have_any_name_and_empty_sections_are_none() {
    let text = MINIMAL.replace("TargetService", "Web") + "Hooks:\n";
    assert_eq!(AppSpec::parse(&text), Ok(minimal()));
    let network = "        NetworkConfiguration:\n          AwsvpcConfiguration: {}\n";
    assert_eq!(
        AppSpec::parse(&format!("{MINIMAL}{network}")),
        Ok(minimal())
    );
}

#[test]
fn what_is_missing_is_named_with_its_place() {
    let properties = "Resources[0].TargetService.Properties";
    for (line, place) in [
        ("version: 0.0\n", "version".to_owned()),
        (
            "      Type: AWS::ECS::Service\n",
            "Resources[0].TargetService.Type".to_owned(),
        ),
        (
            "        TaskDefinition: arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7\n",
            format!("{properties}.TaskDefinition"),
        ),
        (
            "          ContainerName: app\n",
            format!("{properties}.LoadBalancerInfo.ContainerName"),
        ),
        (
            "          ContainerPort: 8080\n",
            format!("{properties}.LoadBalancerInfo.ContainerPort"),
        ),
    ] {
        let message = format!("the AppSpec is invalid at {place}: it is required and missing");
        refuses(MINIMAL, line, "", &message);
    }
    for (text, place) in [
        ("version: 0.0\n", "Resources"),
        (
            "version: 0.0\nResources: [{A: {Type: 'AWS::ECS::Service'}}]",
            "Resources[0].A.Properties",
        ),
    ] {
        let error = AppSpec::parse(text).expect_err(place);
        let message = format!("the AppSpec is invalid at {place}: it is required and missing");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn there_is_one_version_and_one_resource_of_one_type() {
    refuses(
        MINIMAL,
        "version: 0.0",
        "version: 1.0",
        "the AppSpec is invalid at version: it is the number 1.0; the only version is 0.0",
    );
    refuses(
        MINIMAL,
        "AWS::ECS::Service",
        "AWS::Lambda::Function",
        "the AppSpec is invalid at Resources[0].TargetService.Type: it is \"AWS::Lambda::Function\"; for ECS it is \"AWS::ECS::Service\"",
    );
    let two = r#"{"version": 0.0, "Resources": [{"A": {}}, {"B": {}}]}"#;
    let none = r#"{"version": 0.0, "Resources": []}"#;
    for (text, count) in [(two, 2), (none, 0)] {
        assert_eq!(
            AppSpec::parse(text)
                .expect_err("not one resource")
                .to_string(),
            format!(
                "the AppSpec is invalid at Resources: there are {count} resources; an ECS deployment has exactly one"
            )
        );
    }
}

#[test]
fn a_task_definition_is_an_arn_with_a_revision() {
    let arn = "arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7";
    let place = "the AppSpec is invalid at Resources[0].TargetService.Properties.TaskDefinition";
    for wrong in [
        "web:7",
        "<TASK_DEFINITION>",
        "arn:aws:ecs:eu-west-1:000000000000:service/web:7",
        "arn:aws:ecs::000000000000:task-definition/web:7",
        "arn:aws:ec2:eu-west-1:000000000000:task-definition/web:7",
    ] {
        let message = format!(
            "{place}: {wrong:?} is not the ARN of a task definition (arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION)"
        );
        refuses(MINIMAL, arn, wrong, &message);
    }
    for revision in ["", ":", ":0", ":latest", ":1:2"] {
        let wrong = format!("arn:aws:ecs:eu-west-1:000000000000:task-definition/web{revision}");
        let message = format!("{place}: {wrong:?} names no revision: end it with \":REVISION\"");
        refuses(MINIMAL, arn, &format!("'{wrong}'"), &message);
    }
}

#[test]
fn a_port_is_a_number() {
    let place = "the AppSpec is invalid at Resources[0].TargetService.Properties.LoadBalancerInfo.ContainerPort";
    for (port, problem) in [
        ("0", "0 is not a port; give 1 to 65535"),
        ("65536", "65536 is not a port; give 1 to 65535"),
        ("-1", "-1 is not a port; give 1 to 65535"),
        (
            "'8080'",
            "it is the text \"8080\"; write the port as a number, without quotes",
        ),
        ("http", "it is the text \"http\"; a port number is wanted"),
        ("80.5", "it is the number 80.5; a port number is wanted"),
    ] {
        refuses(MINIMAL, "8080", port, &format!("{place}: {problem}"));
    }
    for port in [1, 65535] {
        let text = MINIMAL.replace("8080", &port.to_string());
        assert_eq!(
            AppSpec::parse(&text).map(|appspec| appspec.container_port),
            Ok(port)
        );
    }
}

#[test]
fn a_network_configuration_is_whole_or_absent() {
    let place = "the AppSpec is invalid at Resources[0].TargetService.Properties.NetworkConfiguration.AwsvpcConfiguration";
    let all = "Subnets, SecurityGroups and AssignPublicIp are given all three or not at all";
    refuses(
        FULL,
        "            SecurityGroups: [sg-1]\n",
        "",
        &format!("{place}: SecurityGroups is missing: {all}"),
    );
    refuses(
        FULL,
        "            Subnets: [subnet-1, subnet-2]\n            SecurityGroups: [sg-1]\n",
        "",
        &format!("{place}: Subnets and SecurityGroups are missing: {all}"),
    );
    refuses(
        FULL,
        "DISABLED",
        "maybe",
        &format!("{place}.AssignPublicIp: it is \"maybe\"; give ENABLED or DISABLED"),
    );
    refuses(
        FULL,
        "[sg-1]",
        "[a, b, c, d, e, f]",
        &format!("{place}.SecurityGroups: there are 6; give 1 to 5"),
    );
    refuses(
        FULL,
        "[subnet-1, subnet-2]",
        "[]",
        &format!("{place}.Subnets: there are 0; give 1 to 16"),
    );
    let enabled = AppSpec::parse(&FULL.replace("DISABLED", "ENABLED")).expect("reads");
    assert!(
        enabled
            .network_configuration
            .expect("is there")
            .assign_public_ip
    );
}

#[test]
fn capacity_providers_share_one_base_and_some_weight() {
    let place =
        "the AppSpec is invalid at Resources[0].TargetService.Properties.CapacityProviderStrategy";
    refuses(
        FULL,
        "{CapacityProvider: FARGATE_SPOT, Weight: 4}",
        "{CapacityProvider: FARGATE_SPOT, Base: 1}",
        &format!("{place}[1]: only one capacity provider can have a Base"),
    );
    refuses(
        &FULL.replace("Weight: 1", "Weight: 0"),
        "Weight: 4",
        "Weight: 0",
        &format!("{place}: of several capacity providers at least one needs a Weight above 0"),
    );
    refuses(
        FULL,
        "Weight: 4",
        "Weight: 1001",
        &format!(
            "{place}[1].Weight: it is the number 1001; a whole number from 0 to 1000 is wanted"
        ),
    );
    refuses(
        FULL,
        "Base: 1",
        "Base: 100001",
        &format!(
            "{place}[0].Base: it is the number 100001; a whole number from 0 to 100000 is wanted"
        ),
    );
    let one =
        format!("{MINIMAL}        CapacityProviderStrategy: [{{CapacityProvider: FARGATE}}]\n");
    let one = AppSpec::parse(&one).expect("the weight of a single one does not matter");
    assert_eq!(one.capacity_provider_strategy[0].weight, 0);
    let none = format!("{MINIMAL}        CapacityProviderStrategy: []\n");
    assert_eq!(
        AppSpec::parse(&none).expect_err("empty").to_string(),
        format!("{place}: it is empty: name a capacity provider, or leave it out")
    );
}

#[test]
fn hooks_are_known_events_once_each() {
    let hooks = "hooks are BeforeInstall, AfterInstall, AfterAllowTestTraffic, BeforeAllowTraffic, AfterAllowTraffic";
    refuses(
        FULL,
        "AfterAllowTraffic:",
        "AfterTraffic:",
        &format!(
            "the AppSpec is invalid at Hooks[1]: \"AfterTraffic\" is not a lifecycle event of an ECS deployment; {hooks}"
        ),
    );
    refuses(
        FULL,
        "AfterAllowTraffic:",
        "AllowTraffic:",
        &format!(
            "the AppSpec is invalid at Hooks[1]: no function can be hooked to AllowTraffic, CodeDeploy runs it itself; {hooks}"
        ),
    );
    refuses(
        FULL,
        "AfterAllowTraffic:",
        "beforeInstall:",
        "the AppSpec is invalid at Hooks[1]: BeforeInstall has a function already; one is possible",
    );
    refuses(
        FULL,
        "CodeDeployHook_before",
        "\"\"",
        "the AppSpec is invalid at Hooks[0].BeforeInstall: it is empty",
    );
    refuses(
        FULL,
        "  - BeforeInstall: CodeDeployHook_before\n  - After",
        "  - BeforeInstall: CodeDeployHook_before\n    After",
        "the AppSpec is invalid at Hooks[0]: it has 2 keys; it is one hook, as in \"- BeforeInstall: FUNCTION\"",
    );
    refuses(
        FULL,
        "  - BeforeInstall: CodeDeployHook_before\n  - After",
        "  After",
        "the AppSpec is invalid at Hooks: it is a map; a list is wanted",
    );
}

#[test]
fn unknown_and_repeated_keys_are_refused() {
    refuses(
        FULL,
        "PlatformVersion:",
        "PlatfromVersion:",
        "the AppSpec is invalid at Resources[0].TargetService.Properties: \"PlatfromVersion\" is not known here; there can be TaskDefinition, LoadBalancerInfo, PlatformVersion, NetworkConfiguration, CapacityProviderStrategy",
    );
    refuses(
        FULL,
        "Hooks:",
        "files: []\nHooks:",
        "the AppSpec is invalid at the top: \"files\" is not known here; there can be version, Resources, Hooks",
    );
    refuses(
        FULL,
        "Hooks:",
        "Version: 0.0\nHooks:",
        "the AppSpec is invalid at the top: version is given twice",
    );
    refuses(
        FULL,
        "PlatformVersion: 1.4.0",
        "PlatformVersion: 1.4",
        "the AppSpec is invalid at Resources[0].TargetService.Properties.PlatformVersion: it is the number 1.4; a text is wanted (quotes help)",
    );
}

#[test]
fn what_is_no_document_says_where() {
    let yaml = AppSpec::parse("version: 0.0\nResources: [")
        .expect_err("is not YAML")
        .to_string();
    assert!(
        yaml.starts_with("the AppSpec is neither YAML nor JSON: "),
        "{yaml}"
    );
    assert!(yaml.contains("line 2"), "{yaml}");
    let json = AppSpec::parse("{\n\"version\": 0.0,,\n}")
        .expect_err("is not JSON")
        .to_string();
    assert!(json.contains("line 2 column"), "{json}");
    for text in ["", "null", "just words", "[]", "--- a\n--- b"] {
        AppSpec::parse(text).expect_err(text);
    }
}

#[test]
fn deep_and_repeated_structures_are_refused_not_followed() {
    let deep = "[".repeat(100_000);
    AppSpec::parse(&deep).expect_err("too deep");
    AppSpec::parse(&format!("{{\"version\":{deep}")).expect_err("too deep");
    let mut laughs = "a0: &a0 [lol]\n".to_owned();
    for n in 1..30 {
        let m = n - 1;
        writeln!(
            laughs,
            "a{n}: &a{n} [*a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}, *a{m}]"
        )
        .expect("a String takes everything");
    }
    AppSpec::parse(&laughs).expect_err("too much");
}

#[test]
fn a_content_is_identified_by_lower_case_hex() {
    assert_eq!(
        sha256("version: 0.0\n"),
        "6a41e44aabcfd2527a82894a58f037eb82f3ccca36a3dd2fa70f7ee7a182cd56"
    );
}

proptest::proptest! {
    /// No text makes the reader panic.
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = AppSpec::parse(&text);
    }

    /// An AppSpec with anything cut out of it is read or refused, never a panic.
    #[test]
    fn no_damage_panics(from in 0..FULL.len(), length in 0..200_usize) {
        let to = (from + length).min(FULL.len());
        let _ = AppSpec::parse(&format!("{}{}", &FULL[..from], &FULL[to..]));
    }
}
