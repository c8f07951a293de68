//! Runs tasks from an image, isolated as well as the machine allows.
//!
//! A rehearsal that ran the application as a plain process on the developer's machine would miss
//! what breaks on Fargate: a file that is not in the image, a path that cannot be written, a
//! process that as PID 1 ignores SIGTERM, a port that two tasks cannot both bind, an address that
//! only exists on this machine. So a task here gets what it gets there: the image's own file system,
//! its own process, mount, IPC, host-name and network namespaces, no privileges at all, exactly the
//! environment that its task definition gives, and SIGTERM before SIGKILL.
//!
//! There is no daemon and no root to ask for. On Linux an ordinary user may make a *user namespace*
//! and inside it everything else, so the stage does what a container engine does, itself, in about
//! ten milliseconds. Where a machine forbids that, there are two fallbacks, and the
//! [`Isolation`] that the runtime reports says which one is in use and why:
//!
//! | kind | isolation |
//! | --- | --- |
//! | [`Kind::Sandbox`] | own namespaces, read-only shared root file system, no capabilities |
//! | [`Kind::Runc`] | the same by `runc` |
//! | [`Kind::Process`] | **none**: a process of this machine, started in the unpacked image |
//!
//! # The network of a task
//!
//! ECS's `awsvpc` mode gives each task an address of its own, so that every task may listen on port
//! 8080. Here each task has an empty network namespace. Nothing can be routed into it, and nothing
//! needs to be: a socket belongs to the namespace in which it was *created*, not to the one of the
//! process that uses it. A tiny process in the namespace creates sockets and hands them out, and the
//! stage connects them. That is what [`Dial`] hides. The other way round, the services that a task
//! may reach (its database) are offered inside by listening sockets that the stage accepts from.
//! So a task can reach exactly what its specification names, and nothing else on this machine.
//!
//! # Nothing outlives the stage
//!
//! Every process that is started here is killed by the kernel when the stage's process dies, even by
//! SIGKILL.

mod image;
mod spec;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

pub use image::{Image, ImageConfig, ImageError, ImageStore};
pub use spec::ContainerSpec;

/// Opens connections to one port of one task.
pub trait Dial: Send + Sync + 'static {
    /// One new connection.
    ///
    /// # Errors
    /// As `connect(2)`: refused while nothing listens on the port or after the task has ended.
    /// There is no time-out; the caller has one.
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// Which way of isolating tasks is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// The first of the others, in their order, that works on this machine.
    #[default]
    Auto,
    /// Own namespaces.
    Sandbox,
    /// The program `runc`.
    Runc,
    /// A plain process: no isolation.
    Process,
}

/// How to make a [`Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// A directory for the runtime's own files; made if it is missing.
    pub dir: PathBuf,
    /// The way of isolating tasks.
    pub kind: Kind,
}

/// How tasks are isolated on this machine, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// What is in use; never [`Kind::Auto`].
    pub kind: Kind,
    /// Why the better kinds are not in use; empty when the best is.
    pub because: Vec<String>,
    /// Whether a task's memory limit is enforced, and if not, why.
    pub limits: Result<(), String>,
}

/// Why a task could not be started, or what went wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The kind of isolation that was asked for does not work here.
    #[error("cannot isolate tasks by {kind:?} on this machine: {problem}")]
    Unavailable {
        /// What was asked for.
        kind: Kind,
        /// Why it does not work.
        problem: String,
    },
    /// The task's program could not be started. It never ran and has no exit code.
    ///
    /// The text is the `reason` of an ECS container.
    #[error("CannotStartContainerError: {0}")]
    CannotStart(String),
    /// The directory of the runtime cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Starts containers. Clones share everything.
///
/// When the last clone and the last [`Container`] are gone, whatever still runs is killed.
#[derive(Debug, Clone)]
pub struct Runtime {
    isolation: Arc<Isolation>,
}

/// A started container. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Container {
    id: Arc<str>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, if the process ended by itself.
    pub code: Option<i32>,
    /// The signal that ended it, else.
    pub signal: Option<i32>,
    /// It was killed because it wanted more memory than its limit.
    pub out_of_memory: bool,
}

impl Exit {
    /// The number that ECS shows: the exit code, or 128 + the signal's number.
    pub fn exit_code(self) -> i32 {
        self.code.unwrap_or_else(|| 128 + self.signal.unwrap_or(0))
    }
}

impl Runtime {
    /// Finds out what works on this machine; takes some milliseconds.
    pub fn new(options: RuntimeOptions) -> Result<Self, RuntimeError> {
        Err(RuntimeError::Unavailable {
            kind: options.kind,
            problem: "the runtime has not landed yet".into(),
        })
    }

    /// How tasks are isolated, for reports.
    pub fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    /// Starts a container; returns when its program runs (`execve` has succeeded).
    #[expect(clippy::unused_async, reason = "lands within minutes")]
    pub async fn start(&self, spec: ContainerSpec) -> Result<Container, RuntimeError> {
        Err(RuntimeError::CannotStart(spec.name))
    }

    /// Kills everything that still runs, and waits until it is gone.
    #[expect(clippy::unused_async, reason = "lands within minutes")]
    pub async fn shutdown(&self) {}
}

impl Container {
    /// A name that is unique among all containers of this stage.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The process id of the container's first process, as this machine counts.
    pub fn pid(&self) -> u32 {
        0
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        None
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Exit {
        std::future::pending().await
    }

    /// Sends the image's stop signal (SIGTERM unless it says otherwise), and SIGKILL after
    /// `stop_timeout` of real time; returns when it has ended.
    #[expect(unused_variables, reason = "lands within minutes")]
    pub async fn stop(&self, stop_timeout: Duration) -> Exit {
        self.wait().await
    }

    /// Sends SIGKILL. Does not wait.
    pub fn kill(&self) {}

    /// Opens connections to `port` of this container.
    #[expect(unused_variables, reason = "lands within minutes")]
    pub fn dialer(&self, port: u16) -> Arc<dyn Dial> {
        Arc::new(Nowhere)
    }

    /// The file with the container's output.
    pub fn log_path(&self) -> PathBuf {
        PathBuf::new()
    }

    /// The last lines of the output, for messages.
    #[expect(unused_variables, reason = "lands within minutes")]
    pub fn log_tail(&self, lines: usize) -> Vec<String> {
        Vec::new()
    }
}

/// A connection to one address of this machine: for targets that are not containers, and for tests.
impl Dial for SocketAddr {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(*self))
    }
}

struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}
