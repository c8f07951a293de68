//! A running container, from its first process to the last line of its log.

use std::{
    fmt,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, unix::pipe},
    sync::watch,
    task::JoinSet,
};

use super::{
    ContainerSpec, Dial, Exit, Runtime,
    cgroup::Group,
    dial::{self, NamespaceDial, Sockets},
    log::{self, Tail},
    remove_tree,
    spawn::{Child, Handout, signal_pidfd},
};

/// A started container. Clones are handles of the same one.
///
/// It runs until it ends by itself, is stopped or killed, or its [`Runtime`](super::Runtime) ends;
/// dropping the handles does nothing.
#[derive(Debug, Clone)]
pub struct Container {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub id: String,
    pub pid: u32,
    pub pidfd: OwnedFd,
    pub exit: watch::Receiver<Option<Exit>>,
    pub stop_signal: Signal,
    /// Whether the stage has sent SIGKILL.
    pub killed: AtomicBool,
    pub network: Network,
    pub log: PathBuf,
    pub tail: Tail,
}

/// How a container is reached.
pub(super) enum Network {
    /// It has a network of its own.
    Own {
        address: Ipv4Addr,
        sockets: Arc<Sockets>,
    },
    /// It shares this machine's, and was told to listen on an address of its own.
    Shared { address: Ipv4Addr },
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("id", &self.id)
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Container {
    /// A name that is unique among all containers of this stage.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The process id of the container's first process, as this machine counts.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// The container's own address, where it must listen to be reached: what ECS shows as a task's
    /// private IPv4 address. Only [`Container::dialer`] can reach it.
    pub fn address(&self) -> IpAddr {
        match self.inner.network {
            Network::Own { address, .. } | Network::Shared { address } => address.into(),
        }
    }

    /// How it ended, once it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.inner.exit.borrow()
    }

    /// Waits for the end. Its output is then in its log, all of it.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.inner.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::KILLED),
            // Nobody watches it any more: the runtime is gone, and has taken it along.
            Err(_) => Exit::KILLED,
        }
    }

    /// Sends the image's stop signal (SIGTERM unless it says otherwise), and SIGKILL after
    /// `stop_timeout` of real time; returns when it has ended.
    pub async fn stop(&self, stop_timeout: Duration) -> Exit {
        if self.exit().is_none() {
            signal_pidfd(&self.inner.pidfd, self.inner.stop_signal);
        }
        if let Ok(exit) = tokio::time::timeout(stop_timeout, self.wait()).await {
            return exit;
        }
        self.kill();
        self.wait().await
    }

    /// Sends SIGKILL. Does not wait.
    pub fn kill(&self) {
        self.inner.killed.store(true, Ordering::Relaxed);
        signal_pidfd(&self.inner.pidfd, Signal::KILL);
    }

    /// Opens connections to `port` of this container.
    pub fn dialer(&self, port: u16) -> Arc<dyn Dial> {
        match &self.inner.network {
            Network::Own { address, sockets } => Arc::new(NamespaceDial {
                sockets: Arc::clone(sockets),
                address: SocketAddr::from((*address, port)),
            }),
            Network::Shared { address } => Arc::new(SocketAddr::from((*address, port))),
        }
    }

    /// The file with the container's output.
    pub fn log_path(&self) -> &Path {
        &self.inner.log
    }

    /// The last lines of the output, for messages.
    pub fn log_tail(&self, lines: usize) -> Vec<String> {
        self.inner.tail.last(lines)
    }
}

/// A process that runs a task's program, and what belongs to it.
pub(super) struct Parts {
    pub id: String,
    pub spec: ContainerSpec,
    /// Its first process, or the program that stands for it.
    pub child: Child,
    /// The container's first process, where that is not `child`.
    pub first: Option<(Pid, OwnedFd)>,
    /// The process that hands out its sockets.
    pub handout: Option<Handout>,
    /// Sockets that listen inside, in the order of the specification's `reach`.
    pub listeners: Vec<std::net::TcpListener>,
    pub group: Option<Group>,
    /// The end of the pipe from its output.
    pub output: OwnedFd,
    pub log: File,
    pub address: Ipv4Addr,
    /// Whether the address is one of this machine's.
    pub shared: bool,
    pub stop_signal: Signal,
    /// Removed when it has ended.
    pub scratch: Option<TempDir>,
}

impl Runtime {
    /// Makes a container of its parts, and looks after it until it has ended.
    pub(super) fn look_after(&self, parts: Parts) -> io::Result<Container> {
        let tail = Tail::default();
        let output = pipe::Receiver::from_owned_fd(parts.output)?;
        let timestamps = parts.spec.log_timestamps;
        let pump = tokio::spawn(log::pump(output, parts.log, timestamps, tail.clone()));
        let (handout, sockets) = match parts.handout {
            Some(handout) => (
                Some(handout.child),
                Some(Arc::new(Sockets::new(handout.control)?)),
            ),
            None => (None, None),
        };
        let address = parts.address;
        let network = match &sockets {
            Some(sockets) if !parts.shared => Network::Own {
                address,
                sockets: Arc::clone(sockets),
            },
            _ => Network::Shared { address },
        };
        let listeners = parts.listeners.into_iter().map(TcpListener::from_std);
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let (exit, exited) = watch::channel(None);
        let foreign = parts.first.is_some();
        let (pid, pidfd) = match parts.first {
            Some(first) => first,
            None => (parts.child.pid(), parts.child.pidfd()?),
        };
        let container = Container {
            inner: Arc::new(Inner {
                id: parts.id.clone(),
                pid: pid.as_raw_nonzero().get().cast_unsigned(),
                pidfd: pidfd.try_clone()?,
                exit: exited,
                stop_signal: parts.stop_signal,
                killed: AtomicBool::new(false),
                network,
                log: parts.spec.log,
                tail,
            }),
        };
        let supervised = Supervised {
            container: container.clone(),
            child: parts.child,
            foreign,
            _first: EndWith(pidfd.try_clone()?),
            shared: parts.shared,
            limited: parts.spec.memory.is_some(),
            handout,
            _sockets: sockets,
            pump,
            reach: listeners.into_iter().zip(parts.spec.reach).collect(),
            group: parts.group,
            exit,
            scratch: parts.scratch,
        };
        self.containers()
            .insert(parts.id.clone(), container.clone());
        let runtime = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            supervised.run().await;
            if let Some(inner) = runtime.upgrade() {
                Self { inner }.containers().remove(&parts.id);
            }
        });
        Ok(container)
    }
}

/// What ends together with a container.
struct Supervised {
    container: Container,
    child: Child,
    /// `child` is a program that stands for the container: its exit code is the container's.
    foreign: bool,
    /// Whatever ends the care for a container, it does not go on alone.
    _first: EndWith,
    shared: bool,
    limited: bool,
    handout: Option<Child>,
    /// Its end is the end of the connection to `handout`.
    _sockets: Option<Arc<Sockets>>,
    /// Copies the output; ends by itself.
    pump: tokio::task::JoinHandle<()>,
    /// Services that it may reach.
    reach: Vec<(TcpListener, SocketAddr)>,
    group: Option<Group>,
    /// Tells the handles.
    exit: watch::Sender<Option<Exit>>,
    scratch: Option<TempDir>,
}

/// Kills a process when it is dropped.
struct EndWith(OwnedFd);

impl Drop for EndWith {
    fn drop(&mut self) {
        signal_pidfd(&self.0, Signal::KILL);
    }
}

/// Processes that a task has left behind may hold its output open where nothing isolates them.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Supervised {
    /// Waits for the end of a container and cleans up behind it.
    async fn run(self) {
        let mut forwards = JoinSet::new();
        for (listener, service) in self.reach {
            forwards.spawn(dial::forward(listener, service));
        }
        let pid = self.child.pid();
        if self.shared && !self.foreign && self.child.ended().await.is_ok() {
            // No namespace takes its children along. Before it is waited for, the number of its
            // group can mean no other.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
        let mut exit = match self.child.wait().await {
            Ok(exit) => exit,
            Err(error) => {
                tracing::error!(%error, "cannot wait for a task");
                Exit::KILLED
            }
        };
        drop(forwards);
        if let Some(handout) = self.handout {
            handout.signal(Signal::KILL);
            let _ = handout.wait().await;
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.pump).await;
        let killed = exit.exit_code() == 128 + 9;
        if self.foreign {
            // Its control groups are gone when it has ended. Nobody else sends SIGKILL.
            let by_us = self.container.inner.killed.load(Ordering::Relaxed);
            exit.out_of_memory = killed && self.limited && !by_us;
        } else if let Some(group) = &self.group {
            exit.out_of_memory = killed && group.out_of_memory();
        }
        let _ = self.exit.send(Some(exit));
        let (group, scratch) = (self.group, self.scratch);
        // That may have to wait a moment.
        let _ = tokio::task::spawn_blocking(move || {
            drop(group);
            if let Some(scratch) = scratch {
                let _ = remove_tree(&scratch.keep());
            }
        })
        .await;
    }
}
