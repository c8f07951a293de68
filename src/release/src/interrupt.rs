//! Ctrl-C.
//!
//! The first one ends the run in order: a rehearsal is taken down, a deployment elsewhere goes on
//! and the command that follows it is printed. The second one ends the process at once; whatever
//! the stage started then dies with it, because every task is bound to this process's life.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::exit_codes;

/// Tells whoever waits that the user wants to leave. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    pressed: watch::Receiver<bool>,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on. Must be called within the runtime.
    pub fn listen() -> Interrupt {
        let (sender, pressed) = watch::channel(false);
        tokio::spawn(async move {
            let mut signals = Signals::new();
            signals.next().await;
            sender.send_replace(true);
            signals.next().await;
            std::process::exit(i32::from(exit_codes::INTERRUPTED));
        });
        Interrupt { pressed }
    }

    /// Returns when it was pressed; never, if it never is.
    pub async fn pressed(&self) {
        let mut pressed = self.pressed.clone();
        if pressed.wait_for(|pressed| *pressed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Signals(Vec<Signal>);

impl Signals {
    fn new() -> Signals {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        Signals(
            kinds
                .into_iter()
                .filter_map(|kind| signal(kind).ok())
                .collect(),
        )
    }

    async fn next(&mut self) {
        let waits = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        if waits.len() == 0 {
            std::future::pending::<()>().await;
        }
        let (received, _, _) = futures_util::future::select_all(waits).await;
        if received.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
