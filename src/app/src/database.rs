//! The database as requests see it: sqlx's pool, a bound on every wait, and an honest word on what
//! is wrong.
//!
//! The server starts without the database and outlives it. A task that exits because PostgreSQL fails
//! over would turn one short outage into a longer one; so a connection is made when it is needed,
//! and readiness tells the load balancer in the meantime.
//!
//! When the database restarts, open connections die. The pool tests each before it lends it, and a
//! query that falls into the restart itself is run once more: all queries here are reads.
//!
//! sqlx bounds neither the test before use nor the one it makes after. When a host goes dark, they
//! would hang until TCP gives up after some fifteen minutes, and each would hold a place in the pool
//! for as long. So both are preceded by a test of ours that has a limit.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio::time::timeout;

use crate::migrate;
use crate::version::{self, Message};

/// How long a connection's test may take (a round trip, with room), and so may the attempt to find
/// out why there is none.
const TEST: Duration = Duration::from_millis(500);

/// The pool and the bound on what a request spends on it.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
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
    /// Whether it may be over soon by itself (a 503), or is a fault of ours (a 500).
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TooSlow(_))
    }
}

/// PostgreSQL's appendix A, "Error codes": a table that does not exist, so nothing was ever migrated.
const NO_TABLE: &str = "42P01";
/// A statement that `statement_timeout` ended.
const QUERY_CANCELED: &str = "57014";

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
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether a connection answers within the limit; the pool closes one that does not.
fn answers(
    connection: &mut PgConnection,
    _: PoolConnectionMetadata,
) -> BoxFuture<'_, sqlx::Result<bool>> {
    Box::pin(async { Ok(matches!(timeout(TEST, connection.ping()).await, Ok(Ok(())))) })
}

impl Database {
    /// Connects when first asked. `wait` bounds what a request spends on the database, from asking
    /// for a connection to the last row.
    ///
    /// A connection ends after sqlx's 10 minutes without use or 30 minutes in all, so that a new
    /// address behind the name is found in time.
    pub fn new(options: PgConnectOptions, size: u32, wait: Duration) -> Self {
        // What we no longer wait for, the server need not do. It takes 0 for no limit.
        let options = options.options([("statement_timeout", wait.as_millis().max(1))]);
        let pool = PgPoolOptions::new()
            .max_connections(size)
            .acquire_timeout(wait)
            .test_before_acquire(false)
            .before_acquire(answers)
            .after_release(answers)
            .connect_lazy_with(options);
        Self { pool, wait }
    }

    /// The message, in a language of the request's `Accept-Language` where the version has several.
    pub async fn message(&self, accept_language: &str) -> Result<Message, DatabaseError> {
        self.read(|| version::message(&self.pool, accept_language))
            .await?
            .ok_or(DatabaseError::NoMessage)
    }

    /// The numbers of the steps that this version needs and the database lacks.
    pub async fn missing_steps(&self) -> Result<Vec<i64>, DatabaseError> {
        let applied = self.read(|| {
            sqlx::query_scalar!("SELECT version FROM _sqlx_migrations WHERE success")
                .fetch_all(&self.pool)
        });
        let applied = match applied.await {
            Err(DatabaseError::Query(sqlx::Error::Database(error)))
                if error.code().as_deref() == Some(NO_TABLE) =>
            {
                Vec::new()
            }
            Err(DatabaseError::TooSlow(_)) => return Err(self.why_too_slow().await),
            applied => applied?,
        };
        Ok(migrate::needed()
            .filter(|step| !applied.contains(step))
            .collect())
    }

    /// Runs a query that only reads, twice if it falls into a restart of the database.
    async fn read<T, F>(&self, query: impl Fn() -> F) -> Result<T, DatabaseError>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        let twice = async {
            match query().await {
                Err(error) if is_lost(&error) => query().await,
                answer => answer,
            }
        };
        let answer = timeout(self.wait, twice).await;
        answer
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(|error| match &error {
                sqlx::Error::PoolTimedOut => DatabaseError::TooSlow(self.wait),
                sqlx::Error::Database(of) if of.code().as_deref() == Some(QUERY_CANCELED) => {
                    DatabaseError::TooSlow(self.wait)
                }
                _ if is_lost(&error) => DatabaseError::Unreachable(error),
                _ => DatabaseError::Query(error),
            })
    }

    /// What keeps the pool from connecting. It tries again when a connection is refused, and after
    /// all the tries it says no more than that the time is over.
    async fn why_too_slow(&self) -> DatabaseError {
        match timeout(TEST, self.pool.connect_options().connect()).await {
            Ok(Err(error)) => DatabaseError::Unreachable(error),
            Ok(Ok(_)) | Err(_) => DatabaseError::TooSlow(self.wait),
        }
    }

    /// Connects ahead of the first request, so that it need not wait for that. If it cannot, the
    /// requests will say so.
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
