//! The loop, with steps that no version has yet, against a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::str::FromStr;

use super::step::step;
use super::*;
use crate::postgres::Postgres;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    wait: Duration::from_secs(20),
    lock: Duration::from_secs(10),
    statement: Duration::from_secs(10),
};
const ONE: Step = step("0001_expand_one", "CREATE TABLE one (x int)");
const TWO_LESS: Step = step("0002_contract_one", "DROP TABLE one");
const THREE: Step = step("0003_expand_three", "CREATE TABLE three (x int)");

async fn migrate(
    postgres: &Postgres,
    steps: &'static [Step],
    limits: Limits,
) -> Result<Vec<Outcome>, Error> {
    let options = PgConnectOptions::from_str(&postgres.url()).unwrap();
    let mut connection = options.connect().await.unwrap();
    let report = apply(&mut connection, steps, limits).await?;
    assert_eq!(report.len(), steps.len());
    Ok(report.into_iter().map(|line| line.outcome).collect())
}

fn tables(postgres: &Postgres) -> String {
    postgres.sql(
        "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables
         WHERE schemaname = 'public' AND tablename <> '_sqlx_migrations'",
    )
}

#[tokio::test]
async fn a_contract_step_is_left_and_holds_nothing_up() {
    let postgres = Postgres::start();
    let outcomes = migrate(&postgres, &[ONE, TWO_LESS, THREE], LIMITS)
        .await
        .unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Applied, Outcome::LeftForContract, Outcome::Applied]
    );
    assert_eq!(tables(&postgres), "one three");
}

#[tokio::test]
async fn a_step_that_changed_after_it_ran_is_refused() {
    const CHANGED: Step = step("0001_expand_one", "CREATE TABLE one (x bigint)");
    let postgres = Postgres::start();
    migrate(&postgres, &[ONE], LIMITS).await.unwrap();
    let error = migrate(&postgres, &[CHANGED, THREE], LIMITS)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Changed("0001_expand_one")),
        "{error}"
    );
    assert_eq!(tables(&postgres), "one");
}

#[tokio::test]
async fn a_step_that_fails_leaves_no_trace_and_what_was_before_it() {
    const WRONG: Step = step(
        "0002_expand_wrong",
        "CREATE TABLE two (x int); SELECT 1 / 0",
    );
    const RIGHT: Step = step("0002_expand_wrong", "CREATE TABLE two (x int)");
    let postgres = Postgres::start();
    let error = migrate(&postgres, &[ONE, WRONG, THREE], LIMITS)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("run step 0002_expand_wrong: "), "{text}");
    assert!(text.contains("division by zero"), "{text}");
    assert_eq!(tables(&postgres), "one");
    let outcomes = migrate(&postgres, &[ONE, RIGHT, THREE], LIMITS)
        .await
        .unwrap();
    assert_eq!(
        outcomes,
        [Outcome::AlreadyApplied, Outcome::Applied, Outcome::Applied]
    );
}

#[tokio::test]
async fn a_step_gets_a_lock_at_a_later_attempt_or_gives_up() {
    const ALTER: Step = step("0002_expand_column", "ALTER TABLE one ADD COLUMN y int");
    let limits = Limits {
        lock: Duration::from_millis(50),
        ..LIMITS
    };
    let postgres = Postgres::start();
    migrate(&postgres, &[ONE], LIMITS).await.unwrap();
    let lock = postgres.session("BEGIN; LOCK TABLE one IN ACCESS SHARE MODE");
    let error = migrate(&postgres, &[ONE, ALTER], limits).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Locked {
                step: "0002_expand_column",
                ..
            }
        ),
        "{error}"
    );

    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        lock.end();
    };
    let (outcomes, ()) = tokio::join!(migrate(&postgres, &[ONE, ALTER], limits), later);
    assert_eq!(
        outcomes.unwrap(),
        [Outcome::AlreadyApplied, Outcome::Applied]
    );
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_rolled_back() {
    const SLOW: Step = step(
        "0001_expand_slow",
        "CREATE TABLE slow (x int); SELECT pg_sleep(60)",
    );
    let limits = Limits {
        statement: Duration::from_millis(200),
        ..LIMITS
    };
    let postgres = Postgres::start();
    let error = migrate(&postgres, &[SLOW], limits).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::TooLong {
                step: "0001_expand_slow",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(tables(&postgres), "");
}

#[tokio::test]
async fn another_migration_is_waited_for_only_so_long() {
    let postgres = Postgres::start();
    let options = PgConnectOptions::from_str(&postgres.url()).unwrap();
    let mut other = options.connect().await.unwrap();
    other.lock().await.unwrap();
    let limits = Limits {
        wait: Duration::from_millis(200),
        ..LIMITS
    };
    let error = migrate(&postgres, &[ONE], limits).await.unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error}");

    let (outcomes, ()) = tokio::join!(migrate(&postgres, &[ONE], LIMITS), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        other.unlock().await.unwrap();
    });
    assert_eq!(outcomes.unwrap(), [Outcome::Applied]);
}

#[tokio::test]
async fn a_step_outside_a_transaction_and_one_that_broke_off() {
    const INDEX: Step = step(
        "0002_expand_index",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY one_x ON one (x)",
    );
    let postgres = Postgres::start();
    let outcomes = migrate(&postgres, &[ONE, INDEX], LIMITS).await.unwrap();
    assert_eq!(outcomes, [Outcome::Applied, Outcome::Applied]);
    postgres.sql("UPDATE _sqlx_migrations SET success = false WHERE version = 2");
    let error = migrate(&postgres, &[ONE, INDEX], LIMITS).await.unwrap_err();
    assert!(matches!(error, Error::Partial(2)), "{error}");
}

#[tokio::test]
async fn steps_of_a_newer_version_are_no_concern() {
    let postgres = Postgres::start();
    migrate(&postgres, &[ONE, THREE], LIMITS).await.unwrap();
    let outcomes = migrate(&postgres, &[ONE], LIMITS).await.unwrap();
    assert_eq!(outcomes, [Outcome::AlreadyApplied]);
}
