//! One TCP connection, as those see it who watch over it from outside.
//!
//! Two things must be able to end a connection that somebody else is busy with: the idle time-out
//! and the end of a target's deregistration delay. Asking the busy side to look at a timer or a
//! cancellation token would cost every request something. Instead each connection notes when it
//! last moved (one relaxed store), and the watcher, a few times per time-out, looks at all of them
//! and shuts down the socket of those that are due. The busy side then sees an I/O error, and
//! [`Link::verdict`] tells it why.

use std::{
    net::Shutdown,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

/// A clock of milliseconds that is read for the cost of a load: the watcher moves it.
#[derive(Debug)]
pub(super) struct Ticks {
    started: Instant,
    now: AtomicU64,
}

impl Ticks {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            now: AtomicU64::new(0),
        })
    }

    /// Milliseconds at the last [`Ticks::advance`].
    pub(super) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    pub(super) fn advance(&self) -> u64 {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now.store(now, Ordering::Relaxed);
        now
    }
}

/// Why a watcher ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// Nobody did.
    None = 0,
    /// It was silent for the idle time-out.
    Idle = 1,
    /// The target's deregistration delay is over.
    Drained = 2,
}

/// The watched side of one connection.
#[derive(Debug)]
pub(super) struct Link {
    /// A second descriptor of the same socket: shutting it down shuts down both.
    socket: OwnedFd,
    ticks: Arc<Ticks>,
    touched: AtomicU64,
    busy: AtomicBool,
    verdict: AtomicU8,
}

impl Link {
    pub(super) fn new(stream: &TcpStream, ticks: Arc<Ticks>) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            socket: stream.as_fd().try_clone_to_owned()?,
            touched: AtomicU64::new(ticks.now()),
            ticks,
            busy: AtomicBool::new(false),
            verdict: AtomicU8::new(Verdict::None as u8),
        }))
    }

    /// Notes that the connection moved.
    pub(super) fn touch(&self) {
        self.touched.store(self.ticks.now(), Ordering::Relaxed);
    }

    /// Notes whether a request is on it.
    pub(super) fn set_busy(&self, busy: bool) {
        self.touch();
        self.busy.store(busy, Ordering::Release);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Acquire) {
            1 => Verdict::Idle,
            2 => Verdict::Drained,
            _ => Verdict::None,
        }
    }

    /// Shuts the connection down in both directions.
    pub(super) fn end(&self, verdict: Verdict) {
        self.verdict.store(verdict as u8, Ordering::Release);
        self.shutdown(Shutdown::Both);
    }

    /// Makes the connection look closed by its peer, so that an idle server side ends it.
    pub(super) fn end_reading(&self) {
        self.shutdown(Shutdown::Read);
    }

    fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Read => rustix::net::Shutdown::Read,
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        // An error says that the peer was faster.
        let _ = rustix::net::shutdown(&self.socket, how);
    }

    fn silent_since(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.touched.load(Ordering::Relaxed)))
    }
}

/// All connections of one kind.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<Vec<Weak<Link>>>);

impl Links {
    pub(super) fn add(&self, link: &Arc<Link>) {
        self.lock().push(Arc::downgrade(link));
    }

    /// The connections that are open.
    pub(super) fn open(&self) -> Vec<Arc<Link>> {
        let mut links = self.lock();
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().iter().all(|link| link.strong_count() == 0)
    }

    /// Ends those that were silent for `limit` or longer, if their owner says that it matters.
    pub(super) fn end_silent(&self, now: u64, limit: Duration, matters: impl Fn(&Link) -> bool) {
        for link in self.open() {
            if link.verdict() == Verdict::None && link.silent_since(now) >= limit && matters(&link)
            {
                link.end(Verdict::Idle);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Link>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
