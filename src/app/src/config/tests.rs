//! What is read, and what the defaults promise. What a wrong environment prints is tested with the
//! program as a whole.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;

use super::*;

fn read<T>(
    environment: &[(&str, &str)],
    what: impl FnOnce(&mut Reader) -> Option<T>,
) -> Result<T, Problems> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let environment: HashMap<String, String> = environment.iter().map(own).collect();
    let mut reader = Reader {
        lookup: Box::new(move |name| environment.get(name).cloned().ok_or(VarError::NotPresent)),
        has_hosts_file: false,
        problems: Vec::new(),
    };
    let value = what(&mut reader);
    reader.finish(value)
}

const PARTS: [(&str, &str); 4] = [
    ("DB_HOST", "db.test"),
    ("DB_NAME", "n"),
    ("DB_USER", "u"),
    ("DB_PASSWORD", "p@:/?#% "),
];

#[test]
fn the_defaults_fit_a_load_balancer_and_a_task() {
    let serve = read(&PARTS, Reader::serve).unwrap_or_else(|problems| panic!("{problems}"));
    let limits = serve.timeouts;
    assert_eq!(serve.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(serve.fail_percent, version::FAIL_PERCENT);
    assert_eq!(limits.keep_alive, Duration::from_secs(75));
    assert!(
        limits.keep_alive > Duration::from_mins(1),
        "ALB's idle timeout"
    );
    assert!(
        limits.drain_delay + limits.drain < Duration::from_secs(30),
        "ECS's stopTimeout"
    );
    assert!(
        limits.request < limits.drain,
        "a request that may run may finish"
    );
    assert!(
        serve.database_timeout <= Duration::from_secs(3),
        "an outage is told quickly"
    );
    assert_eq!(serve.pool_size, 5);
    assert_eq!(serve.database.get_port(), 5432);
    assert!(matches!(serve.database.get_ssl_mode(), PgSslMode::Prefer));
}

#[test]
fn the_url_and_the_single_variables_mean_the_same() {
    let url = "postgresql://u:p%40%3A%2F%3F%23%25%20@db.test:6000/n?sslmode=require";
    let by_url = read(&[("DATABASE_URL", url)], Reader::database).unwrap();
    let more = [("DB_PORT", "6000"), ("DB_SSLMODE", "require")];
    let by_parts = read(&[&PARTS[..], &more].concat(), Reader::database).unwrap();
    assert_eq!(format!("{by_url:?}"), format!("{by_parts:?}"));
}

#[test]
fn empty_is_as_good_as_missing() {
    let empty = [
        ("DATABASE_URL", ""),
        ("DB_PORT", ""),
        ("DB_SSLMODE", ""),
        ("PORT", ""),
    ];
    let serve = read(&[&PARTS[..], &empty].concat(), Reader::serve);
    assert_eq!(serve.map(|serve| serve.listen.port()).ok(), Some(8080));
}

#[test]
fn localhost_is_this_machine_without_a_file_that_says_so() {
    for environment in [
        &[("DATABASE_URL", "postgres://u:p@localhost/n")][..],
        &[
            ("DB_HOST", "localhost"),
            ("DB_NAME", "n"),
            ("DB_USER", "u"),
            ("DB_PASSWORD", ""),
        ],
    ] {
        assert_eq!(
            read(environment, Reader::database).unwrap().get_host(),
            "127.0.0.1"
        );
    }
}

#[test]
fn a_health_check_goes_to_this_machine() {
    for (host, expected) in [
        ("0.0.0.0", "127.0.0.1:8080"),
        ("::", "[::1]:8080"),
        ("127.0.0.7", "127.0.0.7:8080"),
    ] {
        assert_eq!(
            read(&[("HOST", host)], Reader::probe).unwrap().to_string(),
            expected
        );
    }
    assert!(read(&[("PORT", "0")], Reader::probe).is_err());
}

#[test]
fn a_level_that_is_none_is_not_taken_for_a_target() {
    for filter in [
        "info",
        "INFO,app::access=off",
        "app=debug",
        "warn,app[request]=trace",
    ] {
        assert!(read(&[("LOG", filter)], Reader::log).is_ok(), "{filter}");
    }
    for filter in ["inf0", "info,acess", "app=loud", "app::access"] {
        assert!(read(&[("LOG", filter)], Reader::log).is_err(), "{filter}");
    }
}
