//! The thread of a load balancer: accepts, watches over connections, reports each minute, and ends
//! in order.

use std::{sync::Arc, time::Duration};

use rollout::{Timestamp, event::Event};
use tokio::sync::watch;

use super::{Listener, group::Group, listener, meters::Counts, shared::Shared};
use crate::{clock::Clock, events::Events};

/// How long [`super::LoadBalancer::stop`] lets running requests finish, real.
const GRACE: Duration = Duration::from_secs(5);

/// How far the life of the thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Everything works.
    Running,
    /// No new connections.
    Closing,
    /// The thread ends now.
    Ended,
}

/// What the thread works on.
pub(super) struct Work {
    pub(super) shared: Arc<Shared>,
    pub(super) groups: Vec<Arc<Group>>,
    pub(super) events: Events,
    pub(super) sockets: [std::net::TcpListener; 2],
    pub(super) phase: watch::Receiver<Phase>,
}

/// The life of the thread.
pub(super) async fn run(work: Work) {
    let Work {
        shared,
        groups,
        events,
        sockets,
        mut phase,
    } = work;
    let [production, test] = sockets.map(tokio::net::TcpListener::from_std);
    let (Ok(production), Ok(test)) = (production, test) else {
        tracing::error!("cannot use the listeners' sockets");
        return;
    };
    let accepting = tokio::spawn(listener::accept(
        Arc::clone(&shared),
        Listener::Production,
        production,
    ));
    let accepting_test = tokio::spawn(listener::accept(Arc::clone(&shared), Listener::Test, test));
    let watching = tokio::spawn(watch_connections(Arc::clone(&shared), groups.clone()));
    let reporting = tokio::spawn(report_minutes(shared.clock, groups, events));
    // An error says that the last handle has been dropped.
    let _ = phase.wait_for(|phase| *phase != Phase::Running).await;
    accepting.abort();
    accepting_test.abort();
    reporting.abort();
    let all_closed = async {
        loop {
            for link in shared.clients.open() {
                if !link.is_busy() {
                    link.end_reading();
                }
            }
            if shared.clients.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = all_closed => {}
        () = tokio::time::sleep(GRACE) => {}
        _ = phase.wait_for(|phase| *phase == Phase::Ended) => {}
    }
    watching.abort();
}

/// Applies the idle time-out and forgets connections that targets have closed.
async fn watch_connections(shared: Arc<Shared>, groups: Vec<Arc<Group>>) {
    let beat =
        (shared.idle_timeout / 8).clamp(Duration::from_millis(5), Duration::from_millis(250));
    // Connections note the time of the last beat, which may be a beat old.
    let limit = shared.idle_timeout + beat;
    let mut beats = tokio::time::interval(beat);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let now = shared.ticks.advance();
        // While a request is on it, the connection to the target is the one that counts: if both
        // were silent, a client would be cut off instead of getting its 504.
        shared
            .clients
            .end_silent(now, limit, |link| !link.is_busy());
        for group in &groups {
            for member in group.members() {
                member.pool.links.end_silent(now, limit, |_| true);
                member.pool.sweep();
            }
        }
    }
}

/// Publishes the host counts of each minute, and tells what each group did in it.
async fn report_minutes(clock: Clock, groups: Vec<Arc<Group>>, events: Events) {
    const MINUTE: Duration = Duration::from_mins(1);
    let mut before: Vec<Counts> = groups.iter().map(|group| group.meters.counts()).collect();
    let mut at = clock.now();
    loop {
        let end = minute_after(at);
        clock.sleep_until(end).await;
        at = clock.now();
        for (group, before) in groups.iter().zip(&mut before) {
            if group.is_in_use() {
                let (healthy, unhealthy) = group.hosts();
                group.meters.hosts(at, healthy, unhealthy);
            }
            let now = group.meters.counts();
            let answered = |counts: &Counts| counts.target.iter().sum::<u64>();
            let event = Event::TargetGroupPeriod {
                target_group: group.name.to_string(),
                period_s: MINUTE.as_secs(),
                requests: answered(&now) - answered(before),
                target_5xx: now.target[4] - before.target[4],
                elb_5xx: now.elb_5xx - before.elb_5xx,
            };
            let idle = now.requests == before.requests && answered(&now) == answered(before);
            if !idle || now.elb_5xx != before.elb_5xx {
                events.emit(event);
            }
            *before = now;
        }
    }
}

fn minute_after(at: Timestamp) -> Timestamp {
    Timestamp::from_millis((at.as_millis() / 60_000 + 1) * 60_000)
}
