//! What happens on the stage, as a stream of typed events.
//!
//! The rooms of the stage do not log, print or count for anybody: they emit events, and whoever
//! shows or stores something subscribes. A subscriber that is slower than the stage does not slow
//! it; it is told how many events it has missed (and a record that misses events is a bug to be
//! seen, not to be hidden).

use rollout::event::{Entry, Event};
use tokio::sync::broadcast;

use crate::clock::Clock;

/// Events a subscriber may be behind before it misses some. A rehearsal has a few hundred.
const CAPACITY: usize = 16 * 1024;

/// Where events go. Clones are the same stream.
#[derive(Clone, Debug)]
pub struct Events {
    clock: Clock,
    sender: broadcast::Sender<Entry>,
}

impl Events {
    /// A stream without subscribers, stamped by `clock`.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            sender: broadcast::Sender::new(CAPACITY),
        }
    }

    /// Stamps an event with the present and hands it to every subscriber.
    pub fn emit(&self, event: Event) {
        self.emit_entry(Entry {
            at: self.clock.now(),
            event,
        });
    }

    /// Hands over an event that already has its time.
    pub fn emit_entry(&self, entry: Entry) {
        // An error only says that nobody listens.
        let _ = self.sender.send(entry);
    }

    /// Every event from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Entry> {
        self.sender.subscribe()
    }
}
