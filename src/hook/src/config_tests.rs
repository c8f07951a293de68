#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

/// The environment with the test listener and these.
fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
    let url = (URL, "http://127.0.0.1:8081");
    let variables = std::iter::once(&url).chain(variables);
    Config::of(variables.map(|(name, value)| (name.into(), value.into())))
        .map_err(|error| error.to_string())
}

fn paths(config: &Config) -> Vec<(&str, bool)> {
    let of = |endpoint: &'_ Endpoint| endpoint.critical;
    config
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.path.as_str(), of(endpoint)))
        .collect()
}

#[test]
fn the_listener_is_enough() {
    let config = read(&[("PATH", "/bin"), ("HOOK_RATE", "")]).unwrap();
    assert_eq!(config.listener.1, "127.0.0.1:8081");
    assert_eq!(paths(&config), [("/", true)]);
    assert_eq!(config.smoke, smoke::Config::default());
    assert_eq!(config.good, 200..=399);
}

#[test]
fn everything_can_be_set() {
    let config = read(&[
        (PATHS, "/ /admin/, /search?q=a%20b\n/"),
        (CRITICAL, "/admin/ /"),
        (GOOD, "200-299"),
        (TOLERATED, "0.02"),
        (BAD, "0.3"),
        (ALPHA, "0.01"),
        (BETA, "0.05"),
        (MAX_PROBES, "200"),
        (RATE, "0.5"),
        (CONCURRENCY, "1"),
        (PROBE_TIMEOUT, "750ms"),
        (SETTLE, "0s"),
        (TIME_LIMIT, "2m"),
    ])
    .unwrap();
    let expected = [("/", true), ("/admin/", true), ("/search?q=a%20b", false)];
    assert_eq!(paths(&config), expected);
    assert_eq!(config.good, 200..=299);
    let smoke = smoke::Config {
        p0: 0.02,
        p1: 0.3,
        alpha: 0.01,
        beta: 0.05,
        max_probes: 200,
    };
    assert_eq!(config.smoke, smoke);
    assert!((config.rate - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.concurrency, 1);
    assert_eq!(config.probe_timeout, Duration::from_millis(750));
    assert_eq!(config.settle, Duration::ZERO);
    assert_eq!(config.time_limit, Duration::from_mins(2));
}

/// Each message names the variable, its value, and what would be right.
#[test]
fn bad_values_are_named() {
    for (name, value, part) in [
        (URL, "127.0.0.1", "http://"),
        (URL, "ftp://host", "http://"),
        (URL, "http://", "URL"),
        (URL, "http://user@host", "host"),
        (URL, "http://host/path", "HOOK_PATHS"),
        (PATHS, "/ admin", "\"admin\" is no path"),
        (PATHS, "/a /b{}\u{7f}", "no path"),
        (CRITICAL, "/other", "/other is not among HOOK_PATHS"),
        (GOOD, "2xx", "200-399"),
        (GOOD, "399-200", "200-399"),
        (GOOD, "0-200", "200-399"),
        (TOLERATED, "1 %", "from 0 to 1"),
        (TOLERATED, "NaN", "from 0 to 1"),
        (BAD, "-0.1", "from 0 to 1"),
        (MAX_PROBES, "0", "whole number from 1"),
        (MAX_PROBES, "10.5", "whole number"),
        (RATE, "0", "from 0.1 to 1000"),
        (RATE, "inf", "from 0.1 to 1000"),
        (CONCURRENCY, "65", "from 1 to 64"),
        (PROBE_TIMEOUT, "5", "500ms, 5s or 2m"),
        (PROBE_TIMEOUT, "5h", "500ms, 5s or 2m"),
        (PROBE_TIMEOUT, "0s", "from 10ms"),
        (SETTLE, "-1s", "500ms"),
        (TIME_LIMIT, "51m", "3000s"),
    ] {
        let environment = if name == URL {
            Config::of([(name.into(), value.into())]).map_err(|error| error.to_string())
        } else {
            read(&[(name, value)])
        };
        let error = environment.unwrap_err();
        assert!(error.starts_with(&format!("{name}={value:?}: ")), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_does_not_go_together_is_named() {
    let error = read(&[(TOLERATED, "0.2"), (BAD, "0.1")]).unwrap_err();
    assert!(
        error.contains("HOOK_TOLERATED_RATE, HOOK_BAD_RATE"),
        "{error}"
    );
    assert!(error.contains("p0 = 0.2"), "{error}");
}

#[test]
fn a_variable_with_a_typing_error_is_not_ignored() {
    let error = read(&[("HOOK_PATH", "/")]).unwrap_err();
    assert!(error.starts_with("HOOK_PATH is not a setting"), "{error}");
    assert!(error.contains("HOOK_PATHS"), "{error}");
}

#[test]
fn without_a_listener_nothing_can_be_tried() {
    let error = Config::of([(PATHS.into(), "/".into())]).unwrap_err();
    assert!(matches!(error, ConfigError::Missing { name: URL, .. }));
}

#[test]
fn bytes_that_are_no_text() {
    use std::os::unix::ffi::OsStringExt as _;
    let value = OsString::from_vec(vec![0xff]);
    let error = Config::of([(PATHS.into(), value)]).unwrap_err().to_string();
    assert!(
        error.contains("HOOK_PATHS") && error.contains("UTF-8"),
        "{error}"
    );
}
