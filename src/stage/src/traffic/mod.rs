//! Generated traffic: stand-ins for users, who do not wait for each other.
//!
//! The load is *open-loop*: when a request is sent is decided by a schedule alone. A generator that
//! waits for an answer before it sends the next request sends less exactly when the server is bad,
//! and so hides what users would have seen (coordinated omission). For the same reason latency is
//! measured from the time at which a request was *due*.
//!
//! Every request that was due has exactly one outcome, also those that could not be sent because too
//! many were still open: they count as timed out, which is what they would have been. After
//! [`Traffic::stop`] the outcomes add up to the number of requests, to the last one.
//!
//! Which target group took a request is not visible to a client. Each request therefore carries an
//! `X-Amzn-Trace-Id` of its own, and the load balancer's access log, which has it too, is joined to
//! the outcomes. What the log does not tell (nobody listens on the port, or entries were missed) is
//! [`Totals::unattributed`].

mod client;
mod ledger;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rollout::event::Event;
use tokio::{sync::watch, task::JoinHandle};

pub use ledger::Totals;

use self::{client::Client, ledger::Ledger};
use crate::{clock::Clock, elb::AccessLog, events::Events};

/// What to generate.
#[derive(Clone, Debug)]
pub struct TrafficOptions {
    /// Where to send: the production listener, most of the time.
    pub address: SocketAddr,
    /// The `Host` header; the address if none.
    pub host: Option<String>,
    /// Path and query.
    pub path: String,
    /// Requests per *real* second.
    pub rate: f64,
    /// The schedule.
    pub arrivals: Arrivals,
    /// Which connections are used.
    pub connections: Connections,
    /// How long a user waits for the whole answer, real.
    pub timeout: Duration,
    /// Requests open at the same time at most; what would exceed it counts as timed out.
    pub max_open: usize,
    /// How often [`Event::Traffic`] is emitted, virtual.
    pub period: Duration,
}

impl TrafficOptions {
    /// `GET /` at a rate, by users who come at random and keep their connections.
    pub fn new(address: SocketAddr, rate: f64) -> Self {
        Self {
            address,
            host: None,
            path: "/".into(),
            rate,
            arrivals: Arrivals::Poisson,
            connections: Connections::KeepAlive,
            timeout: Duration::from_secs(10),
            max_open: 2000,
            period: Duration::from_mins(1),
        }
    }
}

/// When requests are due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// Independently of each other, as users come.
    #[default]
    Poisson,
    /// At equal distances.
    Fixed,
}

/// Which connections requests use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connections {
    /// An idle one if there is one.
    #[default]
    KeepAlive,
    /// A new one each.
    New,
}

/// Why traffic cannot be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// The rate is not a positive number that a timer can follow.
    #[error("cannot send {0} requests a second; use a number above 0 and up to 100000")]
    Rate(f64),
    /// Path or host cannot stand in a request.
    #[error("cannot request {path:?} from host {host:?}: {source}")]
    Request {
        /// The path.
        path: String,
        /// The host.
        host: String,
        /// What is wrong with it.
        source: http::Error,
    },
}

/// Running traffic. It ends with [`Traffic::stop`], or abruptly when dropped.
#[derive(Debug)]
pub struct Traffic {
    ledger: Arc<Mutex<Ledger>>,
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long an outcome waits for its entry in the access log before it counts as unattributed.
const LOG_GRACE: Duration = Duration::from_secs(2);

impl Traffic {
    /// Starts to send, on the current tokio runtime. `access_log` is the log of the load balancer
    /// behind the address; it must have been subscribed to before.
    ///
    /// # Errors
    /// [`TrafficError`]: nothing has been sent then.
    pub fn start(
        options: TrafficOptions,
        clock: Clock,
        events: Events,
        access_log: Option<AccessLog>,
    ) -> Result<Self, TrafficError> {
        if !(options.rate > 0.0 && options.rate <= 100_000.0) {
            return Err(TrafficError::Rate(options.rate));
        }
        let ledger = Arc::new(Mutex::new(Ledger::new(access_log.is_some())));
        let client = Arc::new(Client::new(&options, lock(&ledger).trace_prefix())?);
        let (stopping, stopped) = watch::channel(false);
        let generator = Generator {
            options,
            clock,
            events,
            client,
            ledger: Arc::clone(&ledger),
            stopped,
        };
        let task = tokio::spawn(generator.run(access_log));
        Ok(Self {
            ledger,
            stopping,
            task,
        })
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Totals {
        lock(&self.ledger).totals()
    }

    /// Sends nothing more, waits for the outcome of every request that was sent (at most for their
    /// time-out), and returns the totals.
    pub async fn stop(mut self) -> Totals {
        self.stopping.send_replace(true);
        // An error says that the task was aborted with the runtime: the totals stand as they are.
        let _ = (&mut self.task).await;
        self.snapshot()
    }
}

struct Generator {
    options: TrafficOptions,
    clock: Clock,
    events: Events,
    client: Arc<Client>,
    ledger: Arc<Mutex<Ledger>>,
    stopped: watch::Receiver<bool>,
}

impl Generator {
    async fn run(self, access_log: Option<AccessLog>) {
        let mut send = std::pin::pin!(self.send_until_stopped());
        let mut join = std::pin::pin!(join_log(&self.ledger, access_log));
        let mut report = std::pin::pin!(self.report_periods());
        let mut log_open = true;
        loop {
            tokio::select! {
                () = &mut send => break,
                () = &mut join, if log_open => log_open = false,
                () = &mut report => {}
            }
        }
        let joined = async {
            while lock(&self.ledger).waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = joined => {}
            () = &mut join, if log_open => {}
            () = tokio::time::sleep(LOG_GRACE) => {}
        }
        lock(&self.ledger).expire(Duration::ZERO);
        self.report();
    }

    async fn send_until_stopped(&self) {
        let mut requests = tokio::task::JoinSet::new();
        let mut stopped = self.stopped.clone();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = tokio::time::sleep_until(due.into()) => {}
            }
            // A timer that is late sends all that has become due since.
            let now = Instant::now();
            while due <= now {
                let id = lock(&self.ledger).sent();
                if requests.len() < self.options.max_open {
                    let (client, ledger) = (Arc::clone(&self.client), Arc::clone(&self.ledger));
                    let (clock, due) = (self.clock, due);
                    requests.spawn(async move {
                        let outcome = client.get(id).await;
                        lock(&ledger).ended(id, outcome, clock.now(), due.elapsed());
                    });
                } else {
                    let mut ledger = lock(&self.ledger);
                    ledger.not_sent(id, self.clock.now());
                }
                due += self.pause();
            }
            while requests.try_join_next().is_some() {}
        }
        while requests.join_next().await.is_some() {}
    }

    /// Real time from one arrival to the next.
    fn pause(&self) -> Duration {
        let mean = 1.0 / self.options.rate;
        Duration::from_secs_f64(match self.options.arrivals {
            Arrivals::Fixed => mean,
            // The inverse of the exponential distribution; 1 - x is never zero.
            Arrivals::Poisson => -mean * (1.0 - rand::random::<f64>()).ln(),
        })
    }

    async fn report_periods(&self) {
        loop {
            self.clock.sleep(self.options.period).await;
            lock(&self.ledger).expire(LOG_GRACE);
            self.report();
        }
    }

    fn report(&self) {
        let Some((groups, unattributed)) = lock(&self.ledger).take_period() else {
            return;
        };
        self.events.emit(Event::Traffic {
            period_s: self.options.period.as_secs(),
            groups,
            unattributed,
        });
    }
}

/// Reads the access log to its end.
async fn join_log(ledger: &Mutex<Ledger>, access_log: Option<AccessLog>) {
    let Some(mut access_log) = access_log else {
        return std::future::pending().await;
    };
    while let Some(entry) = access_log.recv().await {
        lock(ledger).logged(&entry.trace_id, entry.target_group.as_deref());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
