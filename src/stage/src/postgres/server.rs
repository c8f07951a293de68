//! The server's process: how it is started, watched and ended.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::sync::{Mutex, watch};

use super::{
    PostgresError, Status,
    cluster::{Cluster, last_lines},
};
use crate::{
    leftovers::Claim,
    runtime::spawn::{Child, Spawner, is_readable, signal_pidfd},
};

/// What the handles of a server share.
#[derive(Debug)]
pub struct Inner {
    pub address: SocketAddr,
    pub socket_dir: PathBuf,
    pub log: PathBuf,
    pub claim: Option<Claim>,
    pub server: Mutex<Option<Server>>,
    pub status: watch::Sender<Status>,
    // In the order in which they are to go: the spawner's end kills the server.
    pub spawner: Arc<Spawner>,
    pub cluster: Cluster,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    pub pidfd: OwnedFd,
    pub ended: watch::Receiver<bool>,
    /// Set before the server is told to stop, so that its end is not taken for a crash.
    pub told: watch::Sender<bool>,
}

/// How long the server may take to accept connections. Real time; it takes 0.2 s.
const PATIENCE: Duration = Duration::from_mins(1);

impl Inner {
    /// Starts the server and waits until it accepts connections.
    pub async fn run(&self) -> Result<(), PostgresError> {
        let mut slot = self.server.lock().await;
        let began = fs::metadata(&self.log).map_or(0, |log| log.len());
        let command = self.server_command()?;
        let spawner = Arc::clone(&self.spawner);
        let started = tokio::task::spawn_blocking(move || {
            let child = spawner.command(command)?;
            Child::adopt(&child)
        });
        let failed = |status: String, output: String| PostgresError::Failed {
            program: "postgres",
            status,
            output,
        };
        let child = started
            .await
            .map_err(io::Error::other)
            .and_then(|child| child)
            .map_err(|error| failed(error.to_string(), String::new()))?;
        if let Some(claim) = &self.claim {
            claim.started(child.pid().as_raw_nonzero().get().cast_unsigned());
        }
        let server = self
            .watch(child, began)
            .map_err(|error| failed(error.to_string(), String::new()))?;
        let until = Instant::now() + PATIENCE;
        while !self.is_ready() {
            let ended = *server.ended.borrow();
            if ended || Instant::now() > until {
                server.told.send_replace(true);
                signal_pidfd(&server.pidfd, Signal::QUIT);
                let status = if ended { "it ended" } else { "it is not ready" };
                return Err(failed(status.into(), last_lines(&self.log_since(began))));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.status.send_replace(Status::Running);
        *slot = Some(server);
        Ok(())
    }

    fn server_command(&self) -> Result<std::process::Command, PostgresError> {
        let unusable = |source| PostgresError::Directory {
            path: self.log.clone(),
            source,
        };
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(unusable)?;
        let mut command = self.cluster.command("postgres");
        command
            .arg("-D")
            .arg(self.cluster.data())
            .arg("-k")
            .arg(&self.socket_dir)
            .args(["-p", &self.address.port().to_string()])
            .stdout(log.try_clone().map_err(unusable)?)
            .stderr(log);
        for setting in [
            "listen_addresses=127.0.0.1",
            "password_encryption=scram-sha-256",
            "max_connections=100",
            "shared_buffers=32MB",
            // To be thrown away: what a crash of this machine does to it does not matter.
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "wal_level=minimal",
            "max_wal_senders=0",
            "min_wal_size=2MB",
            "autovacuum=off",
            "jit=off",
            // In the data directory, which is removed whatever happens, and not in /dev/shm.
            "dynamic_shared_memory_type=mmap",
            "log_line_prefix=%m [%p] ",
        ] {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    /// Notices the server's end, however it comes.
    fn watch(&self, child: Child, log_began: u64) -> io::Result<Server> {
        let pidfd = child.pidfd()?;
        let (ended, has_ended) = watch::channel(false);
        let (told, was_told) = watch::channel(false);
        let status = self.status.clone();
        let log = self.log.clone();
        tokio::spawn(async move {
            let exit = child.wait().await;
            let before = status.borrow().clone();
            if *was_told.borrow() {
                status.send_replace(Status::Stopped);
            } else if before == Status::Running {
                let said = last_lines(&read_since(&log, log_began));
                tracing::error!(?exit, log = %log.display(), "PostgreSQL ended by itself: {said}");
                status.send_replace(Status::Crashed(said));
            }
            let _ = ended.send(true);
        });
        Ok(Server {
            pidfd,
            ended: has_ended,
            told,
        })
    }

    /// As `pg_ctl` sees it: the last line of `postmaster.pid`.
    fn is_ready(&self) -> bool {
        let file = self.cluster.data().join("postmaster.pid");
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .nth(7)
            .is_some_and(|status| status.trim() == "ready")
    }

    fn log_since(&self, start: u64) -> String {
        read_since(&self.log, start)
    }

    pub async fn end(&self, signal: Signal) {
        let Some(mut server) = self.server.lock().await.take() else {
            return;
        };
        server.told.send_replace(true);
        signal_pidfd(&server.pidfd, signal);
        let gone = server.ended.wait_for(|ended| *ended);
        if tokio::time::timeout(PATIENCE, gone).await.is_err() {
            signal_pidfd(&server.pidfd, Signal::KILL);
            let _ = server.ended.wait_for(|ended| *ended).await;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(server) = self.server.get_mut() {
            server.told.send_replace(true);
            signal_pidfd(&server.pidfd, Signal::QUIT);
            // 30 ms; then its files can be removed.
            is_readable(&server.pidfd, Duration::from_secs(2));
        }
    }
}

fn read_since(log: &Path, start: u64) -> String {
    use std::io::{Read as _, Seek as _};
    let mut text = Vec::new();
    let read = || -> io::Result<()> {
        let mut file = fs::File::open(log)?;
        file.seek(io::SeekFrom::Start(start))?;
        file.take(1 << 20).read_to_end(&mut text)?;
        Ok(())
    };
    let mut read = read;
    let _ = read();
    String::from_utf8_lossy(&text).into_owned()
}
