//! A running container, from its first process to the last line of its log.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::{
    Dial, Exit,
    cgroup::Group,
    dial::{self, NamespaceDial, Sockets},
    log::Tail,
    spawn::{Child, signal_pidfd},
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

/// What ends together with a container.
pub(super) struct Supervised {
    /// Its first process.
    pub child: Child,
    /// The process that hands out its sockets.
    pub handout: Option<Child>,
    /// Copies its output; ends by itself.
    pub pump: tokio::task::JoinHandle<()>,
    /// Services that it may reach.
    pub reach: Vec<(TcpListener, SocketAddr)>,
    /// Its limits.
    pub group: Option<Group>,
    /// Tells the handles.
    pub exit: watch::Sender<Option<Exit>>,
}

/// Processes that a task has left behind may hold its output open where nothing isolates them.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Supervised {
    /// Waits for the end of a container and cleans up behind it.
    pub async fn run(self) {
        let mut forwards = JoinSet::new();
        for (listener, service) in self.reach {
            forwards.spawn(dial::forward(listener, service));
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
        if let Some(group) = &self.group {
            exit.out_of_memory = exit.signal.is_some() && group.out_of_memory();
        }
        let _ = self.exit.send(Some(exit));
        if let Some(group) = self.group {
            // It may have to wait a moment.
            let _ = tokio::task::spawn_blocking(move || drop(group)).await;
        }
    }
}
