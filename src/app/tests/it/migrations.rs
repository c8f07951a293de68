//! `app migrate` as a program. What it does with steps that this version does not have (a contract
//! step, one that fails) is tested beside the code.

use serde_json::{Value, json};

use crate::support::postgres::Postgres;
use crate::support::{LANGUAGES, VERSION, migrate, run};

fn steps() -> Vec<&'static str> {
    let mut steps = vec!["0001_expand_message"];
    if LANGUAGES {
        steps.push("0002_expand_message_per_language");
    }
    steps
}

fn outcomes(report: &Value) -> Vec<(String, String)> {
    assert_eq!(report["version"], VERSION);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = report["steps"].as_array().unwrap();
    steps
        .iter()
        .map(|line| (text(&line["step"]), text(&line["outcome"])))
        .collect()
}

fn all(outcome: &str) -> Vec<(String, String)> {
    steps()
        .into_iter()
        .map(|step| (step.to_owned(), outcome.to_owned()))
        .collect()
}

#[test]
fn runs_what_this_version_ships_with_and_says_so() {
    let postgres = Postgres::start();
    let report = migrate(&postgres);
    assert_eq!(outcomes(&report), all("applied"));
    assert!(report["steps"][0]["ms"].is_u64(), "{report}");
    let tables = postgres.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'message_text'");
    assert_eq!(tables, if LANGUAGES { "1" } else { "0" });
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let postgres = Postgres::start();
    migrate(&postgres);
    postgres.sql("UPDATE message SET text = 'edited'");
    let before = postgres.sql("SELECT * FROM _sqlx_migrations");
    assert_eq!(outcomes(&migrate(&postgres)), all("already_applied"));
    assert_eq!(postgres.sql("SELECT * FROM _sqlx_migrations"), before);
    assert_eq!(postgres.sql("SELECT text FROM message"), "edited");
}

#[test]
fn two_at_once_do_each_step_once() {
    let postgres = Postgres::start();
    let reports = std::thread::scope(|scope| {
        let runs = [(), (), ()].map(|()| scope.spawn(|| outcomes(&migrate(&postgres))));
        runs.map(|run| run.join().unwrap())
    });
    let applied = reports
        .iter()
        .filter(|report| **report == all("applied"))
        .count();
    let found = reports
        .iter()
        .filter(|report| **report == all("already_applied"))
        .count();
    assert_eq!((applied, found), (1, 2), "{reports:?}");
}

#[test]
fn lists_its_steps_without_a_database() {
    let output = run(&["migrate", "--list"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["version"], VERSION);
    let first = json!({ "number": 1, "step": "0001_expand_message", "kind": "expand" });
    assert_eq!(list["steps"][0], first);
    assert_eq!(list["steps"].as_array().unwrap().len(), steps().len());
}

#[test]
fn without_a_database_it_fails_and_says_what_to_check() {
    let postgres = Postgres::stopped();
    let url = postgres.url().replace("app@", "app:geheim@");
    let output = run(&["migrate"], &[("DATABASE_URL", &url)]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("connect to the database: ") && error.contains("check DATABASE_URL"),
        "{error}"
    );
    assert!(!error.contains("geheim"), "{error}");
}

#[test]
fn serving_never_migrates() {
    let postgres = Postgres::start();
    let app = crate::support::App::on(&postgres);
    app.wait_for_ready(503);
    app.get("/");
    app.stop();
    assert_eq!(
        postgres.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "0"
    );
}
