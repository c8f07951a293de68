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
//! SIGKILL: see [`spawn`] for how.

mod cgroup;
mod container;
mod dial;
mod explain;
mod ids;
mod image;
mod log;
mod prepare;
mod runc;
mod sandbox;
pub(crate) mod spawn;
mod spec;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

pub use container::Container;
pub use image::{Image, ImageConfig, ImageError, ImageStore, remove_tree};
pub use spec::{ContainerSpec, Env};

use crate::leftovers::Claim;
use cgroup::{Groups, Named};
use runc::Runc;
use spawn::Spawner;

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

impl Kind {
    /// `auto`, `sandbox`, `runc` or `process`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Sandbox => "sandbox",
            Self::Runc => "runc",
            Self::Process => "process",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Auto, Self::Sandbox, Self::Runc, Self::Process]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| format!("{name:?} is not one of auto, sandbox, runc and process"))
    }
}

/// How to make a [`Runtime`].
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// A directory for the runtime's own files; made if it is missing.
    pub dir: PathBuf,
    /// The way of isolating tasks.
    pub kind: Kind,
    /// The stage's claim on its directory, in which started processes are written down.
    pub claim: Option<Claim>,
}

impl RuntimeOptions {
    /// The best isolation that this machine allows.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            kind: Kind::Auto,
            claim: None,
        }
    }
}

/// How tasks are isolated on this machine, for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolation {
    /// What is in use; never [`Kind::Auto`].
    pub kind: Kind,
    /// Why the better kinds are not in use; empty when the best is.
    pub because: Vec<String>,
    /// Whether limits of memory and processes are enforced, and if not, why.
    pub limits: Result<(), String>,
}

impl std::fmt::Display for Isolation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Sandbox => "own namespaces (user, mount, pid, ipc, uts, net)",
            Kind::Runc => "runc",
            Kind::Process | Kind::Auto => "NOT ISOLATED: plain processes of this machine",
        })?;
        if let Err(problem) = &self.limits {
            write!(f, "; memory limits are not enforced ({problem})")?;
        }
        for reason in &self.because {
            write!(f, "; {reason}")?;
        }
        Ok(())
    }
}

/// Why a task could not be started, or what went wrong with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The kind of isolation that was asked for does not work here.
    #[error("cannot isolate tasks by {kind} on this machine: {problem}")]
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
    /// Ended by SIGKILL.
    const KILLED: Self = Self {
        code: None,
        signal: Some(9),
        out_of_memory: false,
    };

    /// The number that ECS shows: the exit code, or 128 + the signal's number.
    pub fn exit_code(self) -> i32 {
        self.code
            .unwrap_or_else(|| 128 + self.signal.unwrap_or_default())
    }
}

/// Starts containers. Clones share everything.
///
/// When the last clone is gone, whatever still runs is killed.
#[derive(Debug, Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    isolation: Isolation,
    dir: PathBuf,
    claim: Option<Claim>,
    /// Why there are no control groups is in `isolation`.
    groups: Option<Groups>,
    runc: Option<Runc>,
    /// Where `runc` makes its own.
    runc_groups: Option<Named>,
    containers: Mutex<HashMap<String, Container>>,
    count: AtomicU32,
    // Dropped last: its end kills what is left.
    spawner: Arc<Spawner>,
}

impl Runtime {
    /// Finds out what works on this machine, by trying it in a child process: that takes some
    /// milliseconds, in which the calling thread is blocked.
    pub fn new(mut options: RuntimeOptions) -> Result<Self, RuntimeError> {
        let made = std::fs::create_dir_all(&options.dir);
        let made = made.and_then(|()| std::fs::canonicalize(&options.dir));
        options.dir = made.map_err(|source| RuntimeError::Directory {
            path: options.dir.clone(),
            source,
        })?;
        let spawner = Spawner::new().map_err(|error| RuntimeError::Unavailable {
            kind: options.kind,
            problem: format!("cannot start a thread: {error}"),
        })?;
        let spawner = Arc::new(spawner);
        let groups = Groups::find();
        let mut because = Vec::new();
        let (kind, runc) = choose(&options, &spawner, &mut because)?;
        let (groups, limits) = match groups {
            // It makes its own.
            Ok(_) if kind == Kind::Runc => (None, Ok(())),
            Ok(groups) => (Some(groups), Ok(())),
            Err(problem) => (None, Err(problem)),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                isolation: Isolation {
                    kind,
                    because,
                    limits,
                },
                dir: options.dir,
                claim: options.claim,
                groups,
                runc,
                runc_groups: (kind == Kind::Runc && ids::is_root()).then(Named::new),
                containers: Mutex::default(),
                count: AtomicU32::new(0),
                spawner,
            }),
        })
    }

    /// How tasks are isolated, for reports.
    pub fn isolation(&self) -> &Isolation {
        &self.inner.isolation
    }

    /// Starts a container; returns when its program runs (`execve` has succeeded).
    ///
    /// # Errors
    /// [`RuntimeError::CannotStart`] names what is missing in the image or on the machine.
    pub async fn start(&self, spec: ContainerSpec) -> Result<Container, RuntimeError> {
        let number = self.inner.count.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", spec.name);
        let container = match self.inner.isolation.kind {
            Kind::Sandbox | Kind::Auto => self.start_sandbox(spec, id, number).await,
            Kind::Runc => self.start_runc(spec, id, number).await,
            Kind::Process => self.start_process(spec, id).await,
        }?;
        if let Some(claim) = &self.inner.claim {
            claim.started(container.pid());
        }
        Ok(container)
    }

    /// Kills everything that still runs, and waits until it is gone.
    pub async fn shutdown(&self) {
        let running: Vec<Container> = self.containers().values().cloned().collect();
        for container in &running {
            container.kill();
        }
        for container in &running {
            container.wait().await;
        }
    }

    fn containers(&self) -> std::sync::MutexGuard<'_, HashMap<String, Container>> {
        self.inner
            .containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind that is used, and whether it can limit tasks. What did not work goes to `because`.
fn choose(
    options: &RuntimeOptions,
    spawner: &Arc<Spawner>,
    because: &mut Vec<String>,
) -> Result<(Kind, Option<Runc>), RuntimeError> {
    let wanted = |kind| options.kind == kind || options.kind == Kind::Auto;
    if wanted(Kind::Sandbox) {
        match sandbox::probe(spawner, &options.dir) {
            Ok(()) => return Ok((Kind::Sandbox, None)),
            Err(problem) => because.push(problem),
        }
    }
    if wanted(Kind::Runc) {
        match runc::probe(spawner, &options.dir) {
            Ok(runc) => {
                if options.kind == Kind::Runc {
                    because.push(format!("{}, as asked for", runc.version));
                }
                return Ok((Kind::Runc, Some(runc)));
            }
            Err(problem) => because.push(problem),
        }
    }
    if wanted(Kind::Process) {
        if options.kind == Kind::Process {
            because.push("as asked for".into());
        }
        return Ok((Kind::Process, None));
    }
    Err(RuntimeError::Unavailable {
        kind: options.kind,
        problem: because.join("; "),
    })
}

fn host_name(id: &str) -> String {
    id.chars().take(64).collect()
}

/// The directory that a root file system is entered by.
fn open_root(rootfs: &Path) -> io::Result<std::os::fd::OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(rootfs, flags, Mode::empty())?)
}
