#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

const DEFINITION: &str = include_str!("../../../release/templates/task-definition.json.j2");
const SPEC: &str = include_str!("../../../release/templates/appspec.yaml.j2");
const ARN: &str = "arn:aws:ecs:eu-west-1:000000000000:task-definition/demo:7";

fn rendered(name: &str, source: &str, arn: Option<&str>) -> Result<String, String> {
    with_hooks(name, source, arn, &[])
}

fn with_hooks(
    name: &str,
    source: &str,
    arn: Option<&str>,
    hooks: &[HookVariables<'_>],
) -> Result<String, String> {
    let target = Target::example("demo");
    let variables = Variables {
        version: "2.0.0",
        image: "127.0.0.1:5000/demo@sha256:0000",
        application: ApplicationVariables {
            name: "demo",
            container: "app",
            port: 8080,
            health_check: "/healthz/ready",
        },
        bundle: BundleVariables {
            digest: "sha256:1111",
            revision: "abcdef",
        },
        target: &target,
        task_definition_arn: arn,
        hooks: arn.map(|_| hooks.to_vec()),
    };
    render_text(
        &Path::new("release/templates").join(name),
        source,
        &variables,
    )
    .map_err(|error| error.to_string())
}

#[test]
fn the_shipped_task_definition_renders_and_parses() {
    let text = rendered(TASK_DEFINITION, DEFINITION, None).unwrap();
    crate::definition::parse(&text).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn the_shipped_appspec_renders_and_parses() {
    let text = rendered(APPSPEC, SPEC, Some(ARN)).unwrap();
    let appspec = rollout::appspec::AppSpec::parse(&text).unwrap();
    assert_eq!(appspec.task_definition, ARN);
    assert_eq!(appspec.container_port, 8080);
    insta::assert_snapshot!(text);
}

#[test]
fn the_shipped_appspec_with_hooks() {
    use rollout::lifecycle::LifecycleEvent;
    let [first, second] = [
        "CodeDeployHook_before",
        "arn:aws:lambda:eu-west-1:000000000000:function:CodeDeployHook_demo-smoke",
    ];
    let hooks = [
        HookVariables {
            event: LifecycleEvent::BeforeInstall.as_str(),
            function: first,
        },
        HookVariables {
            event: LifecycleEvent::AfterAllowTestTraffic.as_str(),
            function: second,
        },
    ];
    let text = with_hooks(APPSPEC, SPEC, Some(ARN), &hooks).unwrap();
    let appspec = rollout::appspec::AppSpec::parse(&text).unwrap();
    let expected = [
        (LifecycleEvent::BeforeInstall, first.to_owned()),
        (LifecycleEvent::AfterAllowTestTraffic, second.to_owned()),
    ];
    assert_eq!(appspec.hooks, expected);
    insta::assert_snapshot!(text);
}

#[test]
fn an_undefined_variable_has_its_line_and_nearest() {
    let spoilt = DEFINITION.replace("target.database.host", "target.database.hots");
    insta::assert_snapshot!(rendered(TASK_DEFINITION, &spoilt, None).unwrap_err());
}

#[test]
fn an_undefined_variable_at_the_top() {
    insta::assert_snapshot!(rendered(APPSPEC, SPEC, None).unwrap_err());
}

#[test]
fn an_undefined_variable_in_a_condition() {
    let error = rendered("a.json.j2", "[\n{% if imge %}1{% endif %}\n]", None).unwrap_err();
    insta::assert_snapshot!(error);
}

#[test]
fn a_syntax_error() {
    insta::assert_snapshot!(rendered("a.json.j2", "{\n  \"a\": {{ image }\n}", None).unwrap_err());
}

#[test]
fn an_unknown_filter() {
    insta::assert_snapshot!(rendered("a.json.j2", "{{ image | shout }}", None).unwrap_err());
}

#[test]
fn values_are_escaped_as_json() {
    let text = rendered("a.json.j2", "{{ 'a \"quoted\"\\nname' }}", None).unwrap();
    assert_eq!(text, r#""a \"quoted\"\nname""#);
}

#[test]
fn a_template_that_is_not_there() {
    let variables_error = render(
        Path::new("no/such/appspec.yaml.j2"),
        &Variables {
            version: "1",
            image: "i",
            application: ApplicationVariables {
                name: "n",
                container: "c",
                port: 1,
                health_check: "/",
            },
            bundle: BundleVariables {
                digest: "d",
                revision: "r",
            },
            target: &Target::example("demo"),
            task_definition_arn: None,
            hooks: None,
        },
    )
    .unwrap_err()
    .to_string();
    assert!(
        variables_error.contains("no/such/appspec.yaml.j2"),
        "{variables_error}"
    );
}
