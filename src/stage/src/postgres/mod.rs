//! A private PostgreSQL for a rehearsal, from the server that is installed on this machine.
//!
//! A rehearsal's migrations and queries must run on the real thing. So the stage looks for an
//! installed server, makes a cluster of its own beside whatever else the machine runs, and throws it
//! away in the end. Nothing is downloaded, and no other cluster is touched: this one has its own
//! directory, its own port on 127.0.0.1 and its own socket.
//!
//! It is made to start fast and to be thrown away: no `fsync`, the data in memory if there is room (or
//! if the stage's directory is not one that the server's user can reach), and a cached cluster in place
//! of `initdb`. A server killed by the kernel with the stage leaves files, which the next start
//! removes.

mod cluster;
mod find;
mod server;
mod sql;

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::process::Signal;
use tokio::sync::{Mutex, watch};

use crate::{leftovers::Claim, runtime::spawn::Spawner};
use cluster::{Cluster, SUPERUSER};
use server::Inner;
use sql::{Session, SqlError, identifier, literal};

/// Where the data is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placement {
    /// In memory (`/dev/shm`) if it has room, else in the directory.
    #[default]
    Memory,
    /// In the directory.
    Directory,
}

/// How to start a [`Postgres`].
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// A directory for the server's log and, if it is not in memory, its data; made if it is missing.
    pub dir: PathBuf,
    /// The directory with the programs `postgres` and `initdb`; `None` looks for them.
    pub bin: Option<PathBuf>,
    /// The loopback TCP port; 0 lets the system choose.
    pub port: u16,
    /// Where the data is kept.
    pub placement: Placement,
    /// A directory in which a fresh cluster is kept for the next start, which then takes a fraction
    /// of the time; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// The stage's claim on its directory, in which the server's process is written down.
    pub claim: Option<Claim>,
}

impl PostgresOptions {
    /// The installed server, any port, data in memory, and the user's own cache.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            bin: None,
            port: 0,
            placement: Placement::Memory,
            cache: default_cache(),
            claim: None,
        }
    }
}

/// `$XDG_CACHE_HOME/serein/postgres`, or the same below `~/.cache`.
pub fn default_cache() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let dir = std::env::var_os(name).map(PathBuf::from);
        dir.filter(|dir| dir.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("serein/postgres"))
}

/// Why PostgreSQL is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No server on this machine.
    #[error(
        "cannot find PostgreSQL's programs postgres and initdb (looked in {}); install them with \
         `apt-get install postgresql`, or say where they are",
        looked_in.join(", ")
    )]
    NotInstalled {
        /// The places, in order.
        looked_in: Vec<String>,
    },
    /// A file or directory cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The server's user cannot get to its directory, or the path of its socket would be too long.
    #[error(
        "cannot keep a database cluster in {}: PostgreSQL does not run as root, and its user cannot \
         reach that directory, or its path is longer than a socket's may be; name a shorter \
         directory that others may pass", path.display()
    )]
    Unreachable {
        /// The directory.
        path: PathBuf,
    },
    /// The port is taken.
    #[error(
        "cannot start PostgreSQL on 127.0.0.1:{port}: {source}; choose another port, or 0 for any"
    )]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("cannot run PostgreSQL's {program} ({status}): {output}")]
    Failed {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        output: String,
    },
    /// The server did not do what it was told.
    #[error("cannot {what}: {problem}")]
    Sql {
        /// What was attempted.
        what: String,
        /// What the server said.
        problem: String,
    },
}

/// How the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It accepts connections.
    Running,
    /// It was stopped.
    Stopped,
    /// It ended by itself: the last lines of its log.
    Crashed(String),
}

/// A running PostgreSQL server. Clones are handles of the same one; with the last of them it ends,
/// and its data is removed.
#[derive(Debug, Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

/// A database and the role that owns it.
#[derive(Clone)]
pub struct Database {
    /// The server's TCP address.
    pub address: SocketAddr,
    /// The database.
    pub name: String,
    /// The role that owns it.
    pub user: String,
    /// The role's password.
    pub password: String,
}

/// Ports that are tried when any will do: another program may be faster.
const ATTEMPTS: u32 = 5;

impl Postgres {
    /// Makes a cluster and starts its server; returns when it accepts connections.
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        let made = tokio::task::spawn_blocking(move || make(options)).await;
        let (cluster, spawner, options, cached) = match made {
            Ok(made) => made?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (status, _) = watch::channel(Status::Stopped);
        let mut inner = Inner {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, options.port)),
            socket_dir: cluster.socket_dir(),
            log: options.dir.join("postgres.log"),
            claim: options.claim,
            server: Mutex::new(None),
            status,
            spawner: Arc::new(spawner),
            cluster,
        };
        let mut attempt = 0;
        let mut cached = cached.then_some(options.cache).flatten();
        loop {
            attempt += 1;
            let port = free_port(options.port)?;
            inner.address.set_port(port);
            match inner.run().await {
                Ok(()) => break,
                Err(_) if options.port == 0 && attempt < ATTEMPTS => {
                    if let Some(cache) = cached.take() {
                        inner.cluster.distrust_cache(&cache);
                        inner.cluster.init(&inner.spawner)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Where it accepts TCP connections, with a password.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The directory of its Unix-domain socket, for libpq's `host`. Only the server's user (and root)
    /// can enter it, and needs no password there.
    pub fn socket_dir(&self) -> &Path {
        &self.inner.socket_dir
    }

    /// The server's log.
    pub fn log_path(&self) -> &Path {
        &self.inner.log
    }

    /// Makes a role that can log in and a database that it owns. A role that is there already gets
    /// the password; a database that is there already is left as it is. Names are quoted as needed.
    pub async fn create_database(
        &self,
        name: &str,
        user: &str,
        password: &str,
    ) -> Result<Database, PostgresError> {
        let failed = |what: String| {
            move |error: SqlError| PostgresError::Sql {
                what,
                problem: error.to_string(),
            }
        };
        let socket = self.socket();
        let mut session = Session::connect(&socket, SUPERUSER, SUPERUSER)
            .await
            .map_err(failed(format!("log in to {}", socket.display())))?;
        let what = || format!("make the database role {user}");
        // A statement with a password in it must not be logged, even when it fails.
        let quiet = "SET log_min_error_statement = panic; SET log_statement = none";
        session.run(quiet).await.map_err(failed(what()))?;
        let known = format!("SELECT 1 FROM pg_roles WHERE rolname = {}", literal(user));
        let known = session.run(&known).await.map_err(failed(what()))?;
        let verb = if known.is_empty() { "CREATE" } else { "ALTER" };
        let role = format!(
            "{verb} ROLE {} LOGIN PASSWORD {}",
            identifier(user),
            literal(password)
        );
        session.run(&role).await.map_err(failed(what()))?;
        let database = format!(
            "CREATE DATABASE {} OWNER {}",
            identifier(name),
            identifier(user)
        );
        match session.run(&database).await {
            // 42P04: duplicate_database.
            Err(SqlError::Server(state, _)) if state == "42P04" => {}
            made => {
                made.map_err(failed(format!("make the database {name}")))?;
            }
        }
        Ok(Database {
            address: self.inner.address,
            name: name.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    fn socket(&self) -> PathBuf {
        let port = self.inner.address.port();
        self.inner.socket_dir.join(format!(".s.PGSQL.{port}"))
    }

    /// Stops the server as an administrator does (`pg_ctl stop -m fast`): clients lose their
    /// connections, and new ones are refused. Its data stays.
    pub async fn stop(&self) -> Result<(), PostgresError> {
        self.inner.end(Signal::INT).await;
        Ok(())
    }

    /// Ends the server at once, as a crash does (`pg_ctl stop -m immediate`). Its data stays, and is
    /// recovered when it is started again.
    pub async fn crash(&self) {
        self.inner.end(Signal::QUIT).await;
    }

    /// Starts it again on the same port with the same data; does nothing while it runs.
    pub async fn start_again(&self) -> Result<(), PostgresError> {
        if self.is_running() {
            return Ok(());
        }
        self.inner.run().await
    }

    /// Whether the server accepts connections.
    pub fn is_running(&self) -> bool {
        self.status() == Status::Running
    }

    /// How the server is.
    pub fn status(&self) -> Status {
        self.inner.status.borrow().clone()
    }

    /// Follows how the server is, to notice a crash.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }
}

/// Everything before the server runs; blocking.
fn make(
    options: PostgresOptions,
) -> Result<(Cluster, Spawner, PostgresOptions, bool), PostgresError> {
    let bin = find::bin(options.bin.as_deref())?;
    if options.port != 0 {
        // Before anything is made.
        free_port(options.port)?;
    }
    let unusable = |source| PostgresError::Directory {
        path: options.dir.clone(),
        source,
    };
    fs::create_dir_all(&options.dir).map_err(unusable)?;
    let spawner = Spawner::new().map_err(unusable)?;
    let dir = fs::canonicalize(&options.dir).map_err(unusable)?;
    let cluster = Cluster::new(&dir, options.placement, bin)?;
    let cached = options
        .cache
        .as_deref()
        .is_some_and(|cache| cluster.copy_cached(cache));
    if !cached {
        cluster.init(&spawner)?;
        if let Some(cache) = &options.cache {
            cluster.fill_cache(cache);
        }
    }
    Ok((cluster, spawner, options, cached))
}

/// A port that nobody listens on; the one that was asked for, unless that is 0.
fn free_port(wanted: u16) -> Result<u16, PostgresError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| PostgresError::Port {
            port: wanted,
            source,
        })
}

impl Database {
    /// `postgres://user:password@host:port/name`, with what must be escaped escaped.
    pub fn url(&self) -> String {
        format!(
            "postgres://{}:{}@{}/{}",
            escape(&self.user),
            escape(&self.password),
            self.address,
            escape(&self.name)
        )
    }
}

fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database")
            .field("address", &self.address)
            .field("name", &self.name)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_url_escapes_and_debug_hides() {
        let database = Database {
            address: "127.0.0.1:5432".parse().unwrap(),
            name: "shop".into(),
            user: "o'hara".into(),
            password: "p@ss/word".into(),
        };
        let url = "postgres://o%27hara:p%40ss%2Fword@127.0.0.1:5432/shop";
        assert_eq!(database.url(), url);
        assert!(!format!("{database:?}").contains("word"));
    }
}
