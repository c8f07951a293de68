//! A waker that does not wake a task for what the task is just doing itself.
//!
//! hyper's connection and its user talk through channels, as they are meant to be two tasks: taking a
//! part of a body wakes the connection, sending a request does. Here both are one task (see
//! `upstream`), so each of these wakes would poll it once more for nothing, twice a request. While
//! the connection is being polled, wakes are only noted. They are passed on if the poll ends
//! with nothing to show ([`Gate::close`] with `pending`), because then somebody relies on them;
//! otherwise the caller polls again anyway, as the contract of `Future` and `Body` has it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    task::{Wake, Waker},
};

const OPEN: u8 = 0;
const HOLDING: u8 = 1;
const HELD: u8 = 2;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: AtomicU8,
    /// Whom to wake; nobody while the connection is idle.
    task: Mutex<Option<Waker>>,
}

impl Gate {
    /// From now on wakes are for `task`, and are held back until [`Gate::close`].
    pub(super) fn hold(&self, task: &Waker) {
        self.state.store(HOLDING, Ordering::Release);
        let mut current = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(waker) if waker.will_wake(task) => {}
            _ => *current = Some(task.clone()),
        }
    }

    /// Ends holding back; if the poll was `pending`, what was held back is passed on.
    pub(super) fn close(&self, pending: bool) {
        if self.state.swap(OPEN, Ordering::AcqRel) == HELD && pending {
            self.wake_task();
        }
    }

    /// Nobody is to be woken any more.
    pub(super) fn forget(&self) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn wake_task(&self) {
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let held = self
            .state
            .compare_exchange(HOLDING, HELD, Ordering::AcqRel, Ordering::Acquire);
        match held {
            Ok(_) | Err(HELD) => {}
            Err(_) => self.wake_task(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wakes_are_held_back_and_passed_on_where_they_matter() {
        let (gate, count) = (Arc::new(Gate::default()), Arc::new(Count::default()));
        let (waker, task) = (
            Waker::from(Arc::clone(&gate)),
            Waker::from(Arc::clone(&count)),
        );
        let woken = || count.0.load(Ordering::Relaxed);
        waker.wake_by_ref();
        assert_eq!(woken(), 0, "nobody to wake");
        gate.hold(&task);
        waker.wake_by_ref();
        waker.wake_by_ref();
        gate.close(false);
        assert_eq!(woken(), 0, "the poll was ready");
        gate.hold(&task);
        waker.wake_by_ref();
        gate.close(true);
        assert_eq!(woken(), 1, "the poll was pending");
        gate.hold(&task);
        gate.close(true);
        assert_eq!(woken(), 1, "nothing was held back");
        waker.wake_by_ref();
        assert_eq!(woken(), 2, "between polls");
        gate.forget();
        waker.wake_by_ref();
        assert_eq!(woken(), 2);
    }
}
