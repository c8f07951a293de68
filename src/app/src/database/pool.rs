//! A few connections, lent out one at a time, every wait bounded.
//!
//! sqlx brings a pool, and three things in it do not suit a server that must answer quickly while
//! its database fails over. It hides why no connection came behind "timed out", after having waited
//! for the whole time-out although the port refused at once. It sends a round trip after each use
//! to see whether the connection still works, without a bound: when a host goes dark, connections
//! hang there until TCP gives up after some fifteen minutes, and each holds a place in the pool. And
//! that round trip is half of what a request costs here. So this is a pool of the sizes we need:
//!
//! - A lease whose query ran to its end goes back; any other is closed. A query that was given up
//!   (time-out, client gone) leaves its connection in the middle of an answer.
//! - A connection that was idle for a while is tested before it is lent again. One that fails takes
//!   the other idle ones with it: they died of the same cause.
//! - Waiting for a place, testing, connecting and querying share one deadline, the caller's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// A connection that was idle for longer is tested before use.
const TRUSTED_IDLE: Duration = Duration::from_millis(500);

/// How long that test may take: a round trip, with room.
const TEST: Duration = Duration::from_millis(500);

/// A connection is not used for longer, so that a new address behind the name is found in time.
const LIFETIME: Duration = Duration::from_mins(30);

/// The connections of one process. Cloning it shares them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: PgConnectOptions,
    /// Sent to the server as `statement_timeout`: what we no longer wait for, it need not do.
    statement_timeout: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    born: Instant,
    since: Instant,
}

/// A connection on loan.
pub struct Lease {
    connection: PgConnection,
    born: Instant,
    reused: bool,
    shared: Arc<Shared>,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    /// At most `size` connections, none yet.
    pub fn new(options: PgConnectOptions, size: u32, statement_timeout: Duration) -> Self {
        let places = Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(1).max(1)));
        let idle = Mutex::new(Vec::new());
        Self {
            shared: Arc::new(Shared {
                options,
                statement_timeout,
                places,
                idle,
            }),
        }
    }

    /// Lends a connection: an idle one that works, else a new one. Unbounded: the caller bounds it
    /// together with what it does next. `PoolClosed` once the pool is.
    pub async fn lease(&self) -> sqlx::Result<Lease> {
        let shared = Arc::clone(&self.shared);
        let place = Arc::clone(&shared.places).acquire_owned().await;
        let place = place.map_err(|_closed| sqlx::Error::PoolClosed)?;
        let found = self.pop();
        if let Some(mut idle) = found {
            let trusted = idle.since.elapsed() < TRUSTED_IDLE;
            if trusted || matches!(timeout(TEST, idle.connection.ping()).await, Ok(Ok(()))) {
                let Idle {
                    connection, born, ..
                } = idle;
                return Ok(Lease {
                    connection,
                    born,
                    reused: true,
                    shared,
                    _place: place,
                });
            }
            self.forget();
        }
        let mut connection = shared.options.connect().await?;
        let ms = shared.statement_timeout.as_millis().max(1).to_string();
        sqlx::query!("SELECT set_config($1, $2, false)", "statement_timeout", ms)
            .fetch_one(&mut connection)
            .await?;
        Ok(Lease {
            connection,
            born: Instant::now(),
            reused: false,
            shared,
            _place: place,
        })
    }

    /// The connection that was used last and is young enough.
    fn pop(&self) -> Option<Idle> {
        let mut idle = self
            .shared
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while let Some(last) = idle.pop() {
            if last.born.elapsed() < LIFETIME {
                return Some(last);
            }
        }
        None
    }

    /// Closes the idle connections without a word: what broke one has broken them.
    pub fn forget(&self) {
        self.take_idle();
    }

    fn take_idle(&self) -> Vec<Idle> {
        std::mem::take(
            &mut *self
                .shared
                .idle
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Lends nothing any more, and says goodbye on the idle connections.
    pub async fn close(&self) {
        self.shared.places.close();
        for idle in self.take_idle() {
            if let Err(error) = idle.connection.close().await {
                tracing::debug!(%error, "close a connection");
            }
        }
    }
}

impl Lease {
    /// Whether it served before. If such a one breaks, a new one may do better.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// To query with.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives the connection back, after a query that ran to its end. Without this it is closed.
    pub fn give_back(self) {
        let Self {
            connection,
            born,
            shared,
            ..
        } = self;
        let mut idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.places.is_closed() {
            idle.push(Idle {
                connection,
                born,
                since: Instant::now(),
            });
        }
    }
}
