//! The database as requests see it: a small pool, a bound on every wait, and an honest word on what
//! is wrong.
//!
//! The server starts without the database and outlives it. A task that exits because PostgreSQL fails
//! over would turn one short outage into a longer one; so the pool connects when it is needed, tries
//! again each time, and readiness tells the load balancer in the meantime.
//!
//! A connection that idled is tested before it is used again; a busy one is not, that would double
//! the round trips. When the database restarted under a busy one, the first query on it fails, and
//! is tried once more on another: all queries here are reads.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};
use tokio::time::timeout;

use crate::migrate;
use crate::version::{self, Message};

/// A connection that was idle for longer is tested before use.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// The pool and its bounds.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    wait: Duration,
}

/// Why the database gave no answer. The text is for the log; it names no secret.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Cannot be reached, or went away during the query.
    #[error("reach the database: {0}")]
    Unreachable(#[source] sqlx::Error),
    /// No answer within `DB_TIMEOUT`.
    #[error("reach the database: no answer in {0:?}")]
    TooSlow(Duration),
    /// It answered with an error, or with what the query does not expect.
    #[error("query the database: {0}")]
    Query(#[source] sqlx::Error),
    /// The message's row is not there.
    #[error("read the message: the table is empty; insert the row again")]
    NoMessage,
}

impl DatabaseError {
    fn of(error: sqlx::Error, wait: Duration) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::TooSlow(wait),
            error if is_lost(&error) => Self::Unreachable(error),
            error => Self::Query(error),
        }
    }

    /// Whether it may be over soon by itself (a 503), or is a fault of ours (a 500).
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TooSlow(_))
    }
}

/// Whether there is no (longer a) connection, as opposed to a statement that failed.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        // Class 08: connection exception; 28: authorisation; 3D: no such database; 53: too many
        // connections; 57P01 to 57P05: shut down, crashed, starting, dropped, idle too long.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            ["08", "28", "3D", "53", "57P"]
                .iter()
                .any(|class| code.starts_with(class))
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

impl Database {
    /// A pool that connects when first asked. `wait` bounds what a request spends on the database,
    /// from asking for a connection to the last row.
    pub fn new(options: PgConnectOptions, size: u32, wait: Duration) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(wait)
            .test_before_acquire(false)
            .before_acquire(|connection, state| {
                Box::pin(async move {
                    // A connection that cannot be tested is replaced, not an error.
                    Ok(state.idle_for < TRUSTED_IDLE || connection.ping().await.is_ok())
                })
            })
            .connect_lazy_with(options.clone());
        Self {
            pool,
            options,
            wait,
        }
    }

    /// The message, in a language of the request's `Accept-Language` where the version has several.
    pub async fn message(&self, accept_language: &str) -> Result<Message, DatabaseError> {
        let read = async {
            match version::message(&self.pool, accept_language).await {
                Err(error) if is_lost(&error) && !matches!(error, sqlx::Error::PoolTimedOut) => {
                    version::message(&self.pool, accept_language).await
                }
                result => result,
            }
        };
        match timeout(self.wait, read).await {
            Ok(Ok(Some(message))) => Ok(message),
            Ok(Ok(None)) => Err(DatabaseError::NoMessage),
            Ok(Err(error)) => Err(DatabaseError::of(error, self.wait)),
            Err(_) => Err(DatabaseError::TooSlow(self.wait)),
        }
    }

    /// The numbers of the steps that this version needs and the database lacks.
    pub async fn missing_steps(&self) -> Result<Vec<i64>, DatabaseError> {
        let read = sqlx::query_scalar!("SELECT version FROM _sqlx_migrations WHERE success");
        match timeout(self.wait, read.fetch_all(&self.pool)).await {
            Ok(Ok(applied)) => Ok(migrate::needed()
                .filter(|step| !applied.contains(step))
                .collect()),
            Ok(Err(sqlx::Error::Database(error))) if error.code().as_deref() == Some(NO_TABLE) => {
                Ok(migrate::needed().collect())
            }
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(self.reason().await),
            Ok(Err(error)) => Err(DatabaseError::of(error, self.wait)),
        }
    }

    /// Why no connection came: the pool only knows that time ran out.
    async fn reason(&self) -> DatabaseError {
        match timeout(Duration::from_secs(1), self.options.connect()).await {
            Ok(Err(error)) => DatabaseError::of(error, self.wait),
            Ok(Ok(connection)) => {
                drop(connection);
                DatabaseError::TooSlow(self.wait)
            }
            Err(_) => DatabaseError::TooSlow(self.wait),
        }
    }

    /// Connects ahead of the first request, so that it need not wait for that.
    pub async fn warm(&self) {
        drop(self.pool.acquire().await);
    }

    /// Ends all connections with a goodbye, or without one if that takes too long.
    pub async fn close(&self) {
        if timeout(self.wait, self.pool.close()).await.is_err() {
            tracing::warn!(wait = ?self.wait, "the database's connections did not close in time");
        }
    }
}

/// PostgreSQL's code for a table that does not exist: nothing was ever migrated.
const NO_TABLE: &str = "42P01";
