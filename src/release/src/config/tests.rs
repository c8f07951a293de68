#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

const GOOD: &str = include_str!("../../../../release/release.toml");

fn error_of(text: &str) -> String {
    Config::parse(text, Path::new("release/release.toml"))
        .unwrap_err()
        .to_string()
}

/// The good file with one text replaced by another.
fn spoilt(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from} is not in release.toml");
    error_of(&GOOD.replacen(from, to, 1))
}

#[test]
fn the_shipped_file_is_good() {
    let config = Config::parse(GOOD, Path::new("release.toml")).unwrap();
    assert_eq!(config.application.port, 8080);
    assert_eq!(config.stage.alarms.len(), 2);
    assert_eq!(config.stage.termination_wait, Duration::from_mins(5));
    let (name, strategy) = config.strategy(None).unwrap();
    assert_eq!(name, "canary");
    assert_eq!(
        strategy.deployment_config,
        "CodeDeployDefault.ECSCanary10Percent5Minutes"
    );
}

#[test]
fn the_shipped_strategies_are_predefined_at_aws() {
    let config = Config::parse(GOOD, Path::new("release.toml")).unwrap();
    for name in ["canary", "linear", "blue-green"] {
        let (_, strategy) = config.strategy(Some(name)).unwrap();
        let routing = rollout::traffic::TrafficRouting::predefined(&strategy.deployment_config);
        assert!(routing.is_some(), "{}", strategy.deployment_config);
    }
}

#[test]
fn an_unknown_key_has_its_path_line_and_nearest() {
    insta::assert_snapshot!(spoilt("speed = 10 ", "spede = 10 "));
}

#[test]
fn an_unknown_key_in_an_array_of_tables() {
    insta::assert_snapshot!(spoilt("threshold = 10", "treshold = 10"));
}

#[test]
fn an_unknown_word() {
    insta::assert_snapshot!(spoilt(
        "\"GreaterThanThreshold\"",
        "\"GreaterThanTreshold\""
    ));
}

#[test]
fn a_value_of_the_wrong_kind() {
    insta::assert_snapshot!(spoilt("port = 8080", "port = \"8080\""));
}

#[test]
fn a_length_of_time_without_unit() {
    insta::assert_snapshot!(spoilt("before = \"30s\"", "before = \"30\""));
}

#[test]
fn toml_that_is_none() {
    insta::assert_snapshot!(spoilt("[stage]", "[stage"));
}

#[test]
fn a_missing_key() {
    insta::assert_snapshot!(spoilt("container = \"app\"", "# container"));
}

#[test]
fn values_that_cannot_hold() {
    let cases = [
        ("speed = 10 ", "speed = 0 ", "stage.speed"),
        ("speed = 10 ", "speed = 1001 ", "stage.speed"),
        ("speed = 10 ", "speed = nan ", "stage.speed"),
        ("traffic = 200", "traffic = -1", "stage.traffic"),
        ("port = 8080", "port = 0", "application.port"),
        ("\"serein-demo\"", "\"Serein Demo\"", "application.name"),
        (
            "\"serein-demo\"",
            "\"a-name-that-is-much-too-long\"",
            "application.name",
        ),
        (
            "\"/healthz/ready\"",
            "\"healthz\"",
            "application.health-check",
        ),
        (
            "default-strategy = \"canary\"",
            "default-strategy = \"canry\"",
            "default-strategy",
        ),
        (
            "termination-wait = \"5m\"",
            "termination-wait = \"90s\"",
            "stage.termination-wait",
        ),
        (
            "desired-count = 1",
            "desired-count = 0",
            "stage.desired-count",
        ),
        (
            "period = \"60s\"",
            "period = \"45s\"",
            "stage.alarms[0].period",
        ),
        (
            "evaluation-periods = 1",
            "evaluation-periods = 0",
            "stage.alarms[0].evaluation-periods",
        ),
    ];
    for (from, to, key) in cases {
        let error = spoilt(from, to);
        assert!(error.contains(&format!("`{key}`")), "{to}: {error}");
    }
    assert!(
        spoilt(
            "default-strategy = \"canary\"",
            "default-strategy = \"canry\""
        )
        .contains("did you mean `canary`?")
    );
}

#[test]
fn an_unknown_strategy_lists_the_known() {
    let config = Config::parse(GOOD, Path::new("release.toml")).unwrap();
    let error = config.strategy(Some("canray")).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no strategy `canray`; did you mean `canary`? Known: blue-green, canary, guarded, linear"
    );
}

#[test]
fn lengths_of_time() {
    assert_eq!(parse_duration("90s"), Some(Duration::from_secs(90)));
    assert_eq!(parse_duration("5m"), Some(Duration::from_mins(5)));
    assert_eq!(parse_duration("2h"), Some(Duration::from_hours(2)));
    for wrong in [
        "",
        "5",
        "m",
        "-5m",
        "5 m",
        "5d",
        "1.5h",
        "+5s",
        "99999999999s",
        "é",
    ] {
        assert_eq!(parse_duration(wrong), None, "{wrong}");
    }
}

#[test]
fn the_shipped_hook_is_of_the_guarded_strategy_only() {
    let config = Config::parse(GOOD, Path::new("release.toml")).unwrap();
    for (name, strategy) in &config.strategies {
        let hooks: Vec<_> = strategy.hooks.iter().collect();
        if name == "guarded" {
            let smoke = "smoke".to_owned();
            assert_eq!(hooks, [(&LifecycleEvent::AfterAllowTestTraffic, &smoke)]);
        } else {
            assert!(hooks.is_empty(), "{name}: {hooks:?}");
        }
    }
    assert_eq!(
        config.stage.functions["smoke"].timeout,
        Duration::from_mins(5)
    );
}

#[test]
fn hooks_that_cannot_be_are_named() {
    let error = spoilt("AfterAllowTestTraffic", "AllowTraffic");
    assert!(
        error
            .contains("`strategies.guarded.hooks.AllowTraffic`: CodeDeploy runs this event itself"),
        "{error}"
    );
    let error = spoilt("= \"smoke\"", "= \"smoek\"");
    assert!(
        error.contains("there is no [stage.functions.smoek]; did you mean `smoke`?"),
        "{error}"
    );
    let error = spoilt("AfterAllowTestTraffic", "AfterTestTraffic");
    assert!(error.contains("AfterTestTraffic"), "{error}");
}
