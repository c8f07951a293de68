//! What `/` says, and that old and new code share one database.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::postgres::Postgres;
use crate::support::{App, LANGUAGES, VERSION, migrate};

/// Brings the database to the newest schema there is, as the newest version's `app migrate` would.
fn migrate_to_newest(postgres: &Postgres) {
    migrate(postgres);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let number: i64 = name[..4].parse().unwrap();
        let known = format!("SELECT count(*) FROM _sqlx_migrations WHERE version = {number}");
        if name.contains("_expand_") && postgres.sql(&known) == "0" {
            postgres.sql(&fs::read_to_string(&file).unwrap());
            postgres.sql(&format!(
                "INSERT INTO _sqlx_migrations VALUES ({number}, '{name}', now(), true, '', 0)"
            ));
        }
    }
}

fn message(app: &App) -> String {
    let answer = app.get("/");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["message"].as_str().unwrap().to_owned()
}

#[test]
fn shows_the_message_and_the_version() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let answer = app.get("/");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({ "message": "Hello from a clear sky.", "version": VERSION })
    );

    postgres.sql("UPDATE message SET text = 'Good night.'");
    assert_eq!(message(&app), "Good night.");
}

#[test]
fn chooses_the_language_from_2_0_0_on() {
    let postgres = Postgres::start();
    migrate(&postgres);
    let app = App::on(&postgres);
    let (english, french) = ("Hello from a clear sky.", "Bonjour d'un ciel serein.");
    for (accept, language, expected) in [
        ("fr", "fr", french),
        ("fr-CA, en;q=0.5", "fr", french),
        ("en, fr;q=0.9", "en", english),
        ("tlh", "en", english),
        ("fr;q=0", "en", english),
        ("'; DROP TABLE message", "en", english),
    ] {
        let answer = app
            .connect()
            .request("GET", "/", &[("Accept-Language", accept)]);
        assert_eq!(answer.status, 200);
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        if LANGUAGES {
            assert_eq!(message, expected, "{accept}");
            assert_eq!(
                answer.header("content-language"),
                Some(language),
                "{accept}"
            );
            assert_eq!(answer.header("vary"), Some("accept-language"));
        } else {
            assert_eq!(message, english, "{accept}");
            assert_eq!(answer.header("vary"), None);
        }
    }
}

#[test]
fn an_empty_table_is_a_500_that_the_log_explains() {
    let postgres = Postgres::start();
    migrate(&postgres);
    postgres.sql("DELETE FROM message");
    if LANGUAGES {
        postgres.sql("DELETE FROM message_text");
    }
    let app = App::on(&postgres);
    let answer = app.get("/");
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.json(),
        json!({ "error": "internal error", "version": VERSION })
    );
    app.logged("why", |line| {
        line["error"]
            .as_str()
            .is_some_and(|why| why.contains("table is empty"))
    });
}

/// The promise of the expand step: whichever version writes, each version reads it.
#[test]
fn old_and_new_code_read_what_the_other_wrote() {
    let postgres = Postgres::start();
    migrate_to_newest(&postgres);
    let app = App::on(&postgres);
    let both = |expected: &str| {
        assert_eq!(
            postgres.sql("SELECT text FROM message"),
            expected,
            "as 1.0.0 reads"
        );
        let new = "SELECT text FROM message_text WHERE language = 'en'";
        assert_eq!(postgres.sql(new), expected, "as 2.x reads");
        assert_eq!(message(&app), expected, "as {VERSION} shows");
    };
    both("Hello from a clear sky.");

    // As 1.0.0 writes, then as 2.x does, in every way there is.
    postgres.sql("UPDATE message SET text = 'old, updated' WHERE id = 1");
    both("old, updated");
    postgres.sql("UPDATE message_text SET text = 'new, updated' WHERE language = 'en'");
    both("new, updated");
    postgres.sql(
        "INSERT INTO message_text VALUES ('en', 'new, upserted')
         ON CONFLICT (language) DO UPDATE SET text = EXCLUDED.text",
    );
    both("new, upserted");
    postgres.sql(
        "INSERT INTO message VALUES (1, 'old, upserted')
         ON CONFLICT (id) DO UPDATE SET text = EXCLUDED.text",
    );
    both("old, upserted");
    postgres.sql("DELETE FROM message; INSERT INTO message (text) VALUES ('old, replaced')");
    both("old, replaced");
    postgres.sql(
        "DELETE FROM message_text WHERE language = 'en';
         INSERT INTO message_text VALUES ('en', 'new, replaced')",
    );
    both("new, replaced");

    // Another language is nobody's business but 2.x's.
    postgres.sql("UPDATE message_text SET text = 'autre' WHERE language = 'fr'");
    postgres.sql("INSERT INTO message_text VALUES ('de', 'Hallo.')");
    both("new, replaced");
    assert_eq!(postgres.sql("SELECT count(*) FROM message_text"), "3");

    // Renaming a language into or out of English is a delete and an insert.
    postgres.sql("UPDATE message_text SET language = 'it' WHERE language = 'en'");
    assert_eq!(postgres.sql("SELECT count(*) FROM message"), "0");
    postgres.sql("UPDATE message_text SET language = 'en' WHERE language = 'de'");
    both("Hallo.");
}

#[test]
fn the_expand_step_takes_an_edited_message_with_it() {
    let postgres = Postgres::start();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let step = |name: &str| postgres.sql(&fs::read_to_string(dir.join(name)).unwrap());
    step("0001_expand_message.sql");
    postgres.sql("UPDATE message SET text = 'edited before'");
    step("0002_expand_message_per_language.sql");
    let rows = postgres.sql("SELECT language, text FROM message_text ORDER BY language");
    assert_eq!(rows, "en|edited before\nfr|Bonjour d'un ciel serein.");
}

/// Two versions write at the same time, each its own table: no deadlock, and one truth at the end.
#[test]
fn old_and_new_code_write_at_once() {
    let postgres = Postgres::start();
    migrate_to_newest(&postgres);
    let script = |statement: &str| {
        (0..300).fold(String::new(), |mut script, number| {
            let _ = writeln!(script, "{};", statement.replace('#', &number.to_string()));
            script
        })
    };
    let old = script("UPDATE message SET text = 'old #' WHERE id = 1");
    let new = script("UPDATE message_text SET text = 'new #' WHERE language = 'en'");
    std::thread::scope(|scope| {
        let writers =
            [&old, &new, &old, &new].map(|script| scope.spawn(|| postgres.session(script).end()));
        for writer in writers {
            writer.join().unwrap();
        }
    });
    let texts = postgres.sql(
        "SELECT count(DISTINCT text) FROM
         (SELECT text FROM message UNION ALL SELECT text FROM message_text WHERE language = 'en') AS texts",
    );
    assert_eq!(texts, "1");
    assert_eq!(
        postgres.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"),
        "0"
    );
}
