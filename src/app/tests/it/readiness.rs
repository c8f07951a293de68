//! `/healthz/…` and `app healthcheck`.

use serde_json::json;

use crate::support::postgres::Postgres;
use crate::support::{App, LANGUAGES, VERSION, migrate, run};

fn needs() -> &'static str {
    if LANGUAGES { "1, 2" } else { "1" }
}

#[test]
fn not_ready_until_migrated() {
    let postgres = Postgres::start();
    let app = App::on(&postgres);
    let problem = format!(
        "the database's schema is too old for version {VERSION}: it lacks migration step(s) {}; \
         run `app migrate` of this version",
        needs()
    );
    let answer = app.get("/healthz/ready");
    assert_eq!(answer.status, 503);
    let expected = json!({ "ready": false, "version": VERSION, "problems": [problem] });
    assert_eq!(answer.json(), expected);
    app.logged("why it is not ready", |line| {
        line["problem"] == problem.as_str()
    });
    assert_eq!(
        app.get("/healthz/live").status,
        200,
        "restarting it would not help"
    );

    migrate(&postgres);
    let answer = app.get("/healthz/ready");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({ "ready": true, "version": VERSION, "problems": [] })
    );
    app.logged("that it is ready", |line| line["message"] == "ready");
}

#[test]
fn a_schema_one_step_too_old_is_not_ready() {
    let postgres = Postgres::start();
    migrate(&postgres);
    postgres.sql(
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)",
    );
    let lacks = format!("lacks migration step(s) {};", if LANGUAGES { 2 } else { 1 });
    let answer = App::on(&postgres).wait_for_ready(503);
    assert!(answer.body.contains(&lacks), "{answer:?}");
}

#[test]
fn a_step_that_broke_off_does_not_count() {
    let postgres = Postgres::start();
    migrate(&postgres);
    postgres.sql("UPDATE _sqlx_migrations SET success = false WHERE version = 1");
    let answer = App::on(&postgres).wait_for_ready(503);
    assert!(
        answer.body.contains("lacks migration step(s) 1;"),
        "{answer:?}"
    );
}

#[test]
fn a_newer_schema_is_fine() {
    let postgres = Postgres::start();
    migrate(&postgres);
    postgres.sql("INSERT INTO _sqlx_migrations VALUES (9999, 'expand future', now(), true, '', 0)");
    let app = App::on(&postgres);
    assert_eq!(app.get("/healthz/ready").status, 200);
    assert_eq!(app.get("/").status, 200);
    migrate(&postgres);
}

#[test]
fn healthcheck_asks_the_server() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let port = app.address.port().to_string();
    let check = |host: &str| run(&["healthcheck"], &[("HOST", host), ("PORT", &port)]);

    let output = check("0.0.0.0");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(check("127.0.0.1").status.code(), Some(0));

    postgres.sql("DELETE FROM _sqlx_migrations");
    let output = check("0.0.0.0");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("answered \"HTTP/1.1 503") && error.contains("lacks"),
        "{error}"
    );

    app.stop();
    let output = check("127.0.0.1");
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("/healthz/ready: Connection refused"),
        "{error}"
    );
}

#[test]
fn healthcheck_does_not_wait_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let started = std::time::Instant::now();
    let output = run(&["healthcheck"], &[("HOST", "127.0.0.1"), ("PORT", &port)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        started.elapsed().as_secs() < 10,
        "ECS kills a check after 5 s"
    );
}
