//! The access log: one entry a request, as ALB writes them to S3, but handed over at once.
//!
//! Subscribers have a bounded queue of their own. The proxy never waits for one: when a queue is
//! full, the entry is dropped for that subscriber and counted ([`AccessLog::missed`]). Without a
//! subscriber no entry is built at all.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rollout::Timestamp;
use tokio::sync::mpsc;

use super::Listener;

/// What one request was and what became of it ("Access logs for your Application Load Balancer").
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogEntry {
    /// When the load balancer was done with the request, virtual.
    pub time: Timestamp,
    /// The listener that took it.
    pub listener: Listener,
    /// The value of `X-Amzn-Trace-Id` as the target got it.
    pub trace_id: Arc<str>,
    /// `GET /path?query`.
    pub method: http::Method,
    /// Path and query.
    pub path: String,
    /// The target group chosen by weight; none if the request was refused before.
    pub target_group: Option<Arc<str>>,
    /// The target chosen in the group; none if the group had none.
    pub target: Option<Arc<str>>,
    /// The status sent to the client; 460 if the client was gone before there was one.
    pub elb_status: u16,
    /// The status the target answered; none if it did not answer.
    pub target_status: Option<u16>,
    /// From the request's head until it was on its way to the target, connecting included. Real.
    pub request_processing_time: Option<Duration>,
    /// From then until the target's response head. Real.
    pub target_processing_time: Option<Duration>,
    /// From then until the response had been read whole from the target. Real.
    pub response_processing_time: Option<Duration>,
    /// Bytes of the request's body.
    pub received_bytes: u64,
    /// Bytes of the response's body.
    pub sent_bytes: u64,
    /// Whether the response was passed on to its end.
    pub complete: bool,
}

/// A subscription to the access log.
#[derive(Debug)]
pub struct AccessLog {
    entries: mpsc::Receiver<Arc<AccessLogEntry>>,
    missed: Arc<AtomicU64>,
}

impl AccessLog {
    /// The next entry; `None` when the load balancer has gone.
    ///
    /// Cancel safe: an entry is never lost by dropping the future.
    pub async fn recv(&mut self) -> Option<Arc<AccessLogEntry>> {
        self.entries.recv().await
    }

    /// The next entry if there is one already.
    pub fn try_recv(&mut self) -> Option<Arc<AccessLogEntry>> {
        self.entries.try_recv().ok()
    }

    /// How many entries did not fit into this subscription's queue.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Subscriber {
    entries: mpsc::Sender<Arc<AccessLogEntry>>,
    missed: Arc<AtomicU64>,
}

/// The writing end.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    any: AtomicBool,
    list: Mutex<Vec<Subscriber>>,
}

impl Subscribers {
    pub(super) fn subscribe(&self, capacity: usize) -> AccessLog {
        let (sender, entries) = mpsc::channel(capacity.max(1));
        let missed = Arc::new(AtomicU64::new(0));
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push(Subscriber {
            entries: sender,
            missed: Arc::clone(&missed),
        });
        self.any.store(true, Ordering::Release);
        AccessLog { entries, missed }
    }

    /// Whether an entry would be read by anybody.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(super) fn send(&self, entry: AccessLogEntry) {
        let entry = Arc::new(entry);
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(
            |subscriber| match subscriber.entries.try_send(Arc::clone(&entry)) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    subscriber.missed.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            },
        );
        self.any.store(!list.is_empty(), Ordering::Release);
    }

    /// Ends every subscription.
    pub(super) fn close(&self) {
        self.list
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.any.store(false, Ordering::Release);
    }
}
