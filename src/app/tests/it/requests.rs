//! What every request has: an id, a line in the log, a limit; and the failures on purpose.

use serde_json::{Value, json};

use crate::support::http::Answer;
use crate::support::postgres::Postgres;
use crate::support::{App, VERSION, eventually, migrate};

fn access<'a>(app: &App, path: &'a str) -> impl Fn(&Value) -> bool + use<'a> {
    let _ = app;
    move |line| line["message"] == "request" && line["path"] == path
}

#[test]
fn keeps_the_load_balancers_trace_id() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let id = "Root=1-67891233-abcdef012345678912345678";
    let answer = app
        .connect()
        .request("GET", "/", &[("X-Amzn-Trace-Id", id)]);
    assert_eq!(answer.header("x-amzn-trace-id"), Some(id));
    let line = app.logged("the request", access(&app, "/"));
    assert_eq!(line["span"]["trace_id"], id);
}

#[test]
fn makes_a_trace_id_of_the_same_form() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let answer = app.get("/nothing/here");
    let id = answer.header("x-amzn-trace-id").unwrap().to_owned();
    let parts: Vec<&str> = id.split('-').collect();
    assert_eq!(
        (parts[0], parts[1].len(), parts[2].len(), parts.len()),
        ("Root=1", 8, 24, 3),
        "{id}"
    );
    let line = app.logged("the request", access(&app, "/nothing/here"));
    assert_eq!(line["span"]["trace_id"], id.as_str());
    assert_ne!(app.get("/").header("x-amzn-trace-id"), Some(id.as_str()));
}

#[test]
fn a_request_leaves_one_line() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let headers = [("X-Forwarded-For", "203.0.113.7, 198.51.100.2")];
    assert_eq!(
        app.connect()
            .request("GET", "/?token=geheim", &headers)
            .status,
        200
    );
    let line = app.logged("the request", access(&app, "/"));
    for (name, value) in [
        ("level", json!("INFO")),
        ("target", json!("app::access")),
        ("method", json!("GET")),
        ("status", json!(200)),
        ("client", json!("203.0.113.7, 198.51.100.2")),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    let milliseconds = line["duration_ms"].as_f64().unwrap();
    assert!((0.001..20_000.0).contains(&milliseconds), "{line}");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");

    app.get("/healthz/live");
    let line = app.logged("the check", access(&app, "/healthz/live"));
    assert_eq!(
        (&line["target"], &line["client"]),
        (&json!("app::access::health"), &json!("127.0.0.1"))
    );

    let lines = app.lines();
    assert_eq!(
        lines
            .iter()
            .filter(|line| line["message"] == "request")
            .count(),
        2
    );
    assert!(
        !lines.iter().any(|line| line.to_string().contains("geheim")),
        "a query string is private"
    );
}

#[test]
fn log_levels_are_configured_by_target() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(&postgres, &[("LOG", "info,app::access::health=off")]);
    app.get("/healthz/live");
    app.get("/");
    app.logged("the request", access(&app, "/"));
    assert!(!app.lines().iter().any(access(&app, "/healthz/live")));
}

#[test]
fn a_client_that_left_is_a_499_in_the_log() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(&postgres, &[("DB_TIMEOUT", "30")]);
    let lock = postgres.session("BEGIN; LOCK TABLE message; LOCK TABLE _sqlx_migrations");
    let mut client = app.connect();
    client.ask("GET", "/healthz/ready", &[]);
    eventually("the request is running", || {
        postgres.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
    });
    drop(client);
    let line = app.logged("the request", access(&app, "/healthz/ready"));
    assert_eq!(line["status"], 499);
    lock.end();
    assert_eq!(
        app.get("/").status,
        200,
        "its connection is not used for another request"
    );
}

#[test]
fn a_request_is_given_up_in_time() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(
        &postgres,
        &[("REQUEST_TIMEOUT", "0.2"), ("DB_TIMEOUT", "30")],
    );
    let lock = postgres.session("BEGIN; LOCK TABLE _sqlx_migrations");
    let answer = app.get("/healthz/ready");
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "error": "no answer in 200ms; try again", "version": VERSION })
    );
    lock.end();
    app.wait_for_ready(200);
}

#[test]
fn other_paths_and_methods_are_refused_as_json() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let answer = app.get("/wp-login.php");
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.json(),
        json!({ "error": "no such page", "version": VERSION })
    );

    let answer = app
        .connect()
        .request("POST", "/", &[("Content-Length", "0")]);
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    assert_eq!(
        answer.json()["error"],
        "this page is only read: GET or HEAD"
    );

    let mut connection = app.connect();
    let head = connection.request("HEAD", "/", &[]);
    assert_eq!(head.status, 200);
    let get = connection.get("/");
    assert_eq!(head.header("content-length"), get.header("content-length"));
}

const REQUESTS: usize = 2000;

/// How many of 2000 requests to `/` failed. Every other answer is the message.
fn failures(app: &App) -> usize {
    let mut connection = app.connect();
    let failed = |answer: &Answer| match answer.status {
        200 => false,
        500 => {
            assert_eq!(
                answer.json(),
                json!({ "error": "internal error", "version": VERSION })
            );
            assert!(answer.header("x-amzn-trace-id").is_some());
            true
        }
        _ => panic!("{answer:?}"),
    };
    let count = (0..REQUESTS)
        .filter(|_| failed(&connection.get("/")))
        .count();
    // The log counts the same.
    let lines = |status: u16| {
        let wanted = access(app, "/");
        app.lines()
            .iter()
            .filter(|line| wanted(line) && line["status"] == status)
            .count()
    };
    eventually("every request is in the log", || {
        lines(200) + lines(500) == REQUESTS
    });
    assert_eq!(lines(500), count);
    count
}

/// Bounds are six standard deviations wide: a correct program leaves them once in 500 million runs.
#[test]
fn fails_as_often_as_the_version_does() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let url = postgres.url();
    let app = App::start(&[("DATABASE_URL", &url)]);
    let count = failures(&app);
    if VERSION == "2.0.0" {
        assert!(
            (1493..=1707).contains(&count),
            "{count} of 2000 is not 80 %"
        );
    } else {
        assert_eq!(count, 0);
    }
    assert_eq!(
        app.get("/healthz/ready").status,
        200,
        "the bug does not show in the health check"
    );
}

#[test]
fn fails_as_often_as_it_is_told() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::with(&postgres, &[("FAIL_PERCENT", "2")]);
    let count = failures(&app);
    assert!((2..=78).contains(&count), "{count} of 2000 is not 2 %");
    let app = App::with(&postgres, &[("FAIL_PERCENT", "100"), ("LOG", "info")]);
    assert_eq!(failures(&app), REQUESTS);
    let app = App::with(&postgres, &[("FAIL_PERCENT", "0")]);
    assert_eq!(failures(&app), 0);
}

#[test]
fn garbage_is_a_400_and_harms_nobody() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let mut connection = app.connect();
    connection.send("this is not HTTP\r\n\r\n");
    assert_eq!(connection.answer().status, 400);
    connection.wait_for_end();
    assert_eq!(app.get("/").status, 200);
}
