//! `app migrate`: brings the database to the schema that this version needs.
//!
//! It runs as a one-off task of the new image, before any of its code takes traffic, while the old
//! version serves. That decides everything here:
//!
//! - Only expand steps are run. A contract step is reported and left for the day when the old version
//!   is gone.
//! - A step waits for a table's lock for seconds, not for ever: behind a waiting ALTER TABLE every
//!   query of the old version would queue. It is tried again a few times instead.
//! - Two tasks at once do each step once: an advisory lock makes the second wait, and then find
//!   nothing to do.
//! - Steps of a newer version, found in the database, are no concern of ours: going back to an older
//!   version must not need an older schema.
//!
//! Bookkeeping is sqlx's own (`_sqlx_migrations`, one transaction a step with its row), so that
//! `sqlx migrate info` understands it; the loop is ours, because sqlx's runs whatever it finds.

pub mod step;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, SqlStr};
use tracing::{info, warn};

use self::step::{Kind, Step};
use crate::version;

/// sqlx's name for the table of applied steps.
const TABLE: &str = "_sqlx_migrations";

/// A step that did not get its locks is tried this many times.
const ATTEMPTS: u32 = 5;

/// How long `app migrate` waits, and for what. A wait of zero is none at all, not for ever.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the database to accept a connection.
    pub connect: Duration,
    /// For another migration to end.
    pub wait: Duration,
    /// For one lock that a step needs.
    pub lock: Duration,
    /// For one step as a whole.
    pub statement: Duration,
}

/// What came of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was run now.
    Applied,
    /// It had been run before.
    AlreadyApplied,
    /// It is a contract step: not run here.
    LeftForContract,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applied => "applied",
            Self::AlreadyApplied => "already applied",
            Self::LeftForContract => "left for contract",
        })
    }
}

/// One step of the report.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `0001_expand_message`
    pub step: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// Milliseconds that it took, when it was run now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
}

/// Why a migration ended early. No step is ever half applied: each is one transaction.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error(
        "connect to the database: {0}; check DATABASE_URL or DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD and DB_SSLMODE"
    )]
    Connect(#[source] sqlx::Error),
    /// No connection in time.
    #[error(
        "connect to the database: no answer in {0:?}; is DB_HOST right, and does its security group let this task in?"
    )]
    ConnectTimeout(Duration),
    /// Another migration is running.
    #[error(
        "wait for another migration of this database: it has not ended in {0:?}; look at it first, then run this again"
    )]
    Busy(Duration),
    /// A step in the database is not the step in this program.
    #[error(
        "step {0} is in the database with another text than in this version: a step never changes after it has run; write a new one"
    )]
    Changed(&'static str),
    /// A step outside a transaction broke off earlier.
    #[error(
        "step number {0} broke off earlier and is only partly applied; finish or undo it by hand, then remove its row from {TABLE}"
    )]
    Partial(i64),
    /// A step's locks were not to be had.
    #[error(
        "run step {step}: a lock it needs was taken for more than {wait:?}, {ATTEMPTS} times; look for long transactions in pg_stat_activity, then run this again"
    )]
    Locked {
        /// Which step.
        step: &'static str,
        /// How long each attempt waited.
        wait: Duration,
    },
    /// A step took too long and was rolled back.
    #[error(
        "run step {step}: it took more than {limit:?} and was rolled back; allow more with --statement-timeout, or make it smaller"
    )]
    TooLong {
        /// Which step.
        step: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// A step failed.
    #[error("run step {step}: {source}; it was rolled back")]
    Step {
        /// Which step.
        step: &'static str,
        /// What the database said.
        source: MigrateError,
    },
    /// The bookkeeping failed.
    #[error(
        "read or write the list of applied steps, {TABLE}: {0}; may the user create tables in this database?"
    )]
    Bookkeeping(#[source] MigrateError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Bookkeeping(MigrateError::Execute(error))
    }
}

/// Runs the expand steps of this version that the database lacks, in order, and says what it did.
pub async fn run(options: &PgConnectOptions, limits: Limits) -> Result<Vec<Line>, Error> {
    let mut connection = tokio::time::timeout(limits.connect, options.connect())
        .await
        .map_err(|_| Error::ConnectTimeout(limits.connect))?
        .map_err(Error::Connect)?;
    let report = apply(&mut connection, version::STEPS, limits).await;
    // Closing the session gives the advisory lock back, whatever happened.
    if let Err(error) = connection.close().await {
        warn!(%error, "close the connection");
    }
    report
}

async fn apply(
    connection: &mut PgConnection,
    steps: &'static [Step],
    limits: Limits,
) -> Result<Vec<Line>, Error> {
    set_limits(
        connection,
        limits.wait,
        limits.wait + Duration::from_secs(1),
    )
    .await?;
    connection
        .lock()
        .await
        .map_err(|error| match code(&error).as_deref() {
            Some(LOCK_NOT_AVAILABLE) => Error::Busy(limits.wait),
            _ => Error::Bookkeeping(error),
        })?;
    set_limits(connection, limits.lock, limits.statement).await?;

    connection
        .ensure_migrations_table(TABLE)
        .await
        .map_err(Error::Bookkeeping)?;
    if let Some(number) = connection
        .dirty_version(TABLE)
        .await
        .map_err(Error::Bookkeeping)?
    {
        return Err(Error::Partial(number));
    }
    let applied: HashMap<i64, _> = connection
        .list_applied_migrations(TABLE)
        .await
        .map_err(Error::Bookkeeping)?
        .into_iter()
        .map(|applied| (applied.version, applied.checksum))
        .collect();

    let mut report = Vec::with_capacity(steps.len());
    for step in steps {
        let migration = migration(step);
        let line = match (applied.get(&step.number), step.kind) {
            (Some(checksum), _) if *checksum != migration.checksum => {
                return Err(Error::Changed(step.name));
            }
            (Some(_), _) => Line {
                step: step.name,
                outcome: Outcome::AlreadyApplied,
                ms: None,
            },
            (None, Kind::Contract) => Line {
                step: step.name,
                outcome: Outcome::LeftForContract,
                ms: None,
            },
            (None, Kind::Expand) => {
                let took = apply_step(connection, step, &migration, limits).await?;
                let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                Line {
                    step: step.name,
                    outcome: Outcome::Applied,
                    ms: Some(ms),
                }
            }
        };
        info!(step = line.step, outcome = %line.outcome, ms = line.ms, "step");
        report.push(line);
    }
    Ok(report)
}

/// Runs one step, again when its locks were not to be had: nothing of it has happened then.
async fn apply_step(
    connection: &mut PgConnection,
    step: &'static Step,
    migration: &Migration,
    limits: Limits,
) -> Result<Duration, Error> {
    let mut attempt = 1;
    loop {
        let error = match connection.apply(TABLE, migration).await {
            Ok(took) => return Ok(took),
            Err(error) => error,
        };
        match code(&error).as_deref() {
            Some(LOCK_NOT_AVAILABLE) if attempt < ATTEMPTS => {
                warn!(step = step.name, attempt, "a lock is taken: trying again");
                tokio::time::sleep(Duration::from_millis(200) * attempt).await;
                attempt += 1;
            }
            Some(LOCK_NOT_AVAILABLE) => {
                return Err(Error::Locked {
                    step: step.name,
                    wait: limits.lock,
                });
            }
            Some(QUERY_CANCELED) => {
                return Err(Error::TooLong {
                    step: step.name,
                    limit: limits.statement,
                });
            }
            _ => {
                return Err(Error::Step {
                    step: step.name,
                    source: error,
                });
            }
        }
    }
}

/// PostgreSQL's appendix A, "Error codes": what `lock_timeout` ends a statement with.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// What `statement_timeout` ends a statement with.
const QUERY_CANCELED: &str = "57014";

fn code(error: &MigrateError) -> Option<String> {
    let (MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) = error else {
        return None;
    };
    Some(error.as_database_error()?.code()?.into_owned())
}

/// PostgreSQL reads 0 as "no limit"; here it is the shortest one.
async fn set_limits(
    connection: &mut PgConnection,
    lock: Duration,
    statement: Duration,
) -> Result<(), sqlx::Error> {
    for (name, limit) in [("lock_timeout", lock), ("statement_timeout", statement)] {
        let ms = limit.as_millis().clamp(1, 1 << 30).to_string();
        sqlx::query!("SELECT set_config($1, $2, false)", name, ms)
            .fetch_one(&mut *connection)
            .await?;
    }
    Ok(())
}

/// A step as sqlx takes it; its checksum is the one that `sqlx migrate` would compute.
fn migration(step: &Step) -> Migration {
    let description = step.name.get(5..).unwrap_or_default().replace('_', " ");
    let no_transaction = step.sql.starts_with("-- no-transaction");
    Migration::new(
        step.number,
        Cow::Owned(description),
        MigrationType::Simple,
        SqlStr::from_static(step.sql),
        no_transaction,
    )
}

/// The numbers of the expand steps without which this version cannot work.
pub fn needed() -> impl Iterator<Item = i64> {
    version::STEPS
        .iter()
        .filter(|step| step.kind == Kind::Expand)
        .map(|step| step.number)
}

#[cfg(test)]
mod tests;
