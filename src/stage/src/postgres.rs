//! A private PostgreSQL for a rehearsal, from the server that is installed on this machine.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How to start a [`Postgres`].
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// A directory for the server's log and socket; made if it is missing.
    pub dir: PathBuf,
    /// The directory with the programs `postgres` and `initdb`; `None` looks for them.
    pub bin: Option<PathBuf>,
    /// The loopback TCP port; 0 lets the system choose.
    pub port: u16,
}

/// A running PostgreSQL server. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Postgres {
    address: SocketAddr,
    socket_dir: Arc<Path>,
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

/// Why PostgreSQL is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No server on this machine.
    #[error(
        "cannot find PostgreSQL's programs postgres and initdb (looked in {}); install them with `apt-get install postgresql`, or say where they are",
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
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        output: String,
    },
}

impl Postgres {
    /// Makes a cluster and starts its server; returns when it accepts connections.
    #[expect(clippy::unused_async, reason = "lands soon")]
    pub async fn start(options: PostgresOptions) -> Result<Self, PostgresError> {
        Err(PostgresError::NotInstalled {
            looked_in: vec![options.dir.display().to_string()],
        })
    }

    /// Where it accepts TCP connections, with a password.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of its Unix-domain socket, for libpq's `host`.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// Makes a role that can log in and a database that it owns, or gives an existing role a new
    /// password. Names are quoted as needed.
    #[expect(clippy::unused_async, reason = "lands soon")]
    pub async fn create_database(
        &self,
        name: &str,
        user: &str,
        password: &str,
    ) -> Result<Database, PostgresError> {
        Ok(Database {
            address: self.address,
            name: name.into(),
            user: user.into(),
            password: password.into(),
        })
    }

    /// Stops the server at once, as a failing database does: clients lose their connections.
    #[expect(clippy::unused_async, reason = "lands soon")]
    pub async fn stop(&self) -> Result<(), PostgresError> {
        Ok(())
    }

    /// Starts it again on the same port with the same data.
    #[expect(clippy::unused_async, reason = "lands soon")]
    pub async fn start_again(&self) -> Result<(), PostgresError> {
        Ok(())
    }

    /// Whether the server's process is there.
    pub fn is_running(&self) -> bool {
        false
    }
}

impl Database {
    /// `postgres://user:password@host:port/name`, with what must be escaped escaped.
    pub fn url(&self) -> String {
        format!(
            "postgres://{}:{}@{}/{}",
            self.user, self.password, self.address, self.name
        )
    }
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
