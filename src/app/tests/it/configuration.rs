//! Wrong configuration: exit 2, every variable named, no secret shown.

use std::net::TcpListener;
use std::process::Output;

use crate::support::postgres::Postgres;
use crate::support::{App, VERSION, migrate, run};

fn error(output: &Output) -> String {
    assert_eq!(output.stdout, b"", "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn names_everything_that_is_missing() {
    for verb in ["serve", "migrate"] {
        let output = run(&[verb], &[("DB_NAME", "")]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(
            error(&output),
            "app: the environment is wrong in 4 place(s):\n  \
             DB_HOST is missing (and so is DATABASE_URL)\n  \
             DB_NAME is missing (and so is DATABASE_URL)\n  \
             DB_USER is missing (and so is DATABASE_URL)\n  \
             DB_PASSWORD is missing (set it empty if there is none)\n"
        );
    }
}

#[test]
fn names_everything_that_is_wrong() {
    let environment = [
        ("LOG", "inf0"),
        ("DB_HOST", "db.test"),
        ("DB_PORT", "65536"),
        ("DB_NAME", "app"),
        ("DB_USER", "app"),
        ("DB_PASSWORD", "geheim"),
        ("DB_SSLMODE", "perhaps"),
        ("DB_SSLROOTCERT", "/nonexistent.pem"),
        ("DB_POOL_SIZE", "0"),
        ("DB_TIMEOUT", "NaN"),
        ("HOST", "localhost"),
        ("PORT", "http"),
        ("FAIL_PERCENT", "101"),
        ("KEEP_ALIVE_TIMEOUT", "-1"),
        ("HEADER_TIMEOUT", "inf"),
        ("REQUEST_TIMEOUT", "10s"),
        ("DRAIN_DELAY", "1e9"),
        ("DRAIN_TIMEOUT", "soon"),
    ];
    let output = run(&[], &environment);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let error = error(&output);
    for (name, _) in environment {
        let right = matches!(name, "DB_HOST" | "DB_NAME" | "DB_USER" | "DB_PASSWORD");
        assert_eq!(
            error.contains(&format!("\n  {name} is ")) || error.contains(&format!("\n  {name}:")),
            !right,
            "{name}: {error}"
        );
    }
    assert!(!error.contains("geheim"), "{error}");
}

#[test]
fn fail_percent_is_a_percentage() {
    for value in ["-1", "101", "256", "1000", "2.5", "80%", "a lot"] {
        let output = run(
            &[],
            &[
                ("DATABASE_URL", "postgres://a@b/c"),
                ("FAIL_PERCENT", value),
            ],
        );
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let error = error(&output);
        assert!(
            error.contains("FAIL_PERCENT is ") && error.contains("0 to 100"),
            "{error}"
        );
    }
}

#[test]
fn a_wrong_url_is_explained_without_its_password() {
    for (url, expected) in [
        (
            "mysql://app:geheim@db/app",
            "does not start with postgres://",
        ),
        ("geheim", "does not start with postgres://"),
        ("postgres://app:geheim@db", "has no database name"),
        ("postgres://app:geheim@db/", "has no database name"),
        (
            "postgres://:geheim@/",
            "has no user and no host and no database name",
        ),
        ("postgres://db/app", "has no user"),
        ("postgres://app:geheim@db:port/app", "cannot be read"),
        ("postgres://app:geheim@db:70000/app", "cannot be read"),
        ("postgres://app:ge#heim@db/app", "cannot be read"),
        (
            "postgres://app:geheim@db/app?sslmode=geheim",
            "sslmode is not one of",
        ),
        (
            "postgres://app:geheim@db/app?passwort=geheim",
            "has a parameter other than",
        ),
    ] {
        for verb in ["serve", "migrate"] {
            let output = run(&[verb], &[("DATABASE_URL", url)]);
            assert_eq!(output.status.code(), Some(2), "{url}: {output:?}");
            let error = error(&output);
            assert!(
                error.contains("DATABASE_URL") && error.contains(expected),
                "{url}: {error}"
            );
            assert!(!error.contains("heim"), "{url}: {error}");
        }
    }
}

#[test]
fn two_ways_at_once_are_one_too_many() {
    let output = run(
        &[],
        &[
            ("DATABASE_URL", "postgres://a@b/c"),
            ("DB_HOST", "d"),
            ("DB_PASSWORD", "geheim"),
        ],
    );
    assert_eq!(output.status.code(), Some(2));
    let error = error(&output);
    assert!(
        error.contains("DB_HOST is set and DATABASE_URL is too"),
        "{error}"
    );
    assert!(
        error.contains("DB_PASSWORD is set") && !error.contains("geheim"),
        "{error}"
    );
}

#[test]
fn the_single_variables_do_as_the_url_does() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let socket = postgres.socket();
    let app = App::start(&[
        ("DB_HOST", socket.parent().unwrap().to_str().unwrap()),
        ("DB_NAME", "postgres"),
        ("DB_USER", "app"),
        ("DB_PASSWORD", ""),
        ("FAIL_PERCENT", "0"),
    ]);
    assert_eq!(app.get("/").status, 200);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let environment = [
        ("DATABASE_URL", "postgres://a@b/c"),
        ("HOST", "127.0.0.1"),
        ("PORT", &port),
    ];
    let output = run(&["serve"], &environment);
    assert_eq!(output.status.code(), Some(1));
    let error = error(&output);
    assert!(
        error.contains(&format!(
            "listen on 127.0.0.1:{port}: Address already in use"
        )),
        "{error}"
    );
    assert!(error.contains("HOST and PORT"), "{error}");
}

#[test]
fn the_command_line() {
    let output = run(&["--version"], &[]);
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("app {VERSION}\n")
    );
    assert_eq!(run(&["polish"], &[]).status.code(), Some(2));
    assert_eq!(
        run(&["migrate", "--wait", "soon"], &[]).status.code(),
        Some(2)
    );
    let output = run(&["--help"], &[]);
    let help = String::from_utf8(output.stdout).unwrap();
    for name in [
        "DATABASE_URL",
        "DB_HOST",
        "DB_NAME",
        "DB_USER",
        "DB_PASSWORD",
        "DB_PORT",
        "DB_SSLMODE",
        "DB_SSLROOTCERT",
        "DB_POOL_SIZE",
        "DB_TIMEOUT",
        "HOST",
        "PORT",
        "LOG",
        "FAIL_PERCENT",
        "KEEP_ALIVE_TIMEOUT",
        "HEADER_TIMEOUT",
        "REQUEST_TIMEOUT",
        "DRAIN_DELAY",
        "DRAIN_TIMEOUT",
    ] {
        assert!(help.contains(name), "{name}: {help}");
    }
}
