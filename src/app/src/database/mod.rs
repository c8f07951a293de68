//! The database as requests see it: a small pool, a bound on every wait, and an honest word on what
//! is wrong.
//!
//! The server starts without the database and outlives it. A task that exits because PostgreSQL fails
//! over would turn one short outage into a longer one; so a connection is made when it is needed,
//! and readiness tells the load balancer in the meantime.
//!
//! When the database restarts, the first query on each connection that was open fails. All queries
//! here are reads, so that one is tried again on a new connection, and nobody notices.

mod pool;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::timeout;

use self::pool::Pool;
use crate::migrate;
use crate::version::{self, Message};

/// The pool and its bounds.
#[derive(Clone)]
pub struct Database {
    pool: Pool,
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

/// A query that only reads, so that it can be run twice.
trait Read {
    type Answer;
    fn run(
        &self,
        connection: &mut PgConnection,
    ) -> impl Future<Output = sqlx::Result<Self::Answer>> + Send;
}

struct ReadMessage<'a> {
    accept_language: &'a str,
}

impl Read for ReadMessage<'_> {
    type Answer = Option<Message>;

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Answer> {
        version::message(connection, self.accept_language).await
    }
}

struct ReadAppliedSteps;

impl Read for ReadAppliedSteps {
    type Answer = Vec<i64>;

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Answer> {
        sqlx::query_scalar!("SELECT version FROM _sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await
    }
}

impl Database {
    /// Connects when first asked. `wait` bounds what a request spends on the database, from asking
    /// for a connection to the last row.
    pub fn new(options: PgConnectOptions, size: u32, wait: Duration) -> Self {
        Self {
            pool: Pool::new(options, size, wait),
            wait,
        }
    }

    /// The message, in a language of the request's `Accept-Language` where the version has several.
    pub async fn message(&self, accept_language: &str) -> Result<Message, DatabaseError> {
        self.read(&ReadMessage { accept_language })
            .await?
            .ok_or(DatabaseError::NoMessage)
    }

    /// The numbers of the steps that this version needs and the database lacks.
    pub async fn missing_steps(&self) -> Result<Vec<i64>, DatabaseError> {
        let applied = self.read(&ReadAppliedSteps).await;
        let applied = match applied {
            Err(DatabaseError::Query(sqlx::Error::Database(error)))
                if error.code().as_deref() == Some(NO_TABLE) =>
            {
                Vec::new()
            }
            applied => applied?,
        };
        Ok(migrate::needed()
            .filter(|step| !applied.contains(step))
            .collect())
    }

    /// Runs a query that only reads, twice if it falls into a restart of the database.
    async fn read<R: Read>(&self, query: &R) -> Result<R::Answer, DatabaseError> {
        let read = async {
            loop {
                let mut lease = self
                    .pool
                    .lease()
                    .await
                    .map_err(DatabaseError::Unreachable)?;
                match query.run(lease.connection()).await {
                    Ok(value) => {
                        lease.give_back();
                        return Ok(value);
                    }
                    Err(error) if is_lost(&error) => {
                        self.pool.forget();
                        if !lease.reused() {
                            return Err(DatabaseError::Unreachable(error));
                        }
                    }
                    Err(error) => {
                        lease.give_back();
                        let code = error
                            .as_database_error()
                            .and_then(sqlx::error::DatabaseError::code);
                        return Err(if code.as_deref() == Some(QUERY_CANCELED) {
                            DatabaseError::TooSlow(self.wait)
                        } else {
                            DatabaseError::Query(error)
                        });
                    }
                }
            }
        };
        timeout(self.wait, read)
            .await
            .unwrap_or(Err(DatabaseError::TooSlow(self.wait)))
    }

    /// Connects ahead of the first request, so that it need not wait for that.
    pub async fn warm(&self) {
        if let Ok(Ok(lease)) = timeout(self.wait, self.pool.lease()).await {
            lease.give_back();
        }
    }

    /// Ends all connections with a goodbye, or without one if that takes too long.
    pub async fn close(&self) {
        if timeout(self.wait, self.pool.close()).await.is_err() {
            tracing::warn!(wait = ?self.wait, "the database's connections did not close in time");
        }
    }
}
