//! The load balancer of the stage: an Application Load Balancer with a production and a test
//! listener.
//!
//! A rehearsal depends on the load balancer's habits more than on its speed: that a weight is a
//! chance per request, that a target group nobody forwards to is not checked, that all targets
//! being unhealthy means that all of them get traffic, that a refused connection is a 502 which no
//! target-group metric shows. They are taken from the ALB user guide, one module a subject:
//!
//! | module | habit |
//! | --- | --- |
//! | `proxy` | the way of a request; what is tried twice |
//! | `group` | registration, choice, draining |
//! | [`health`] | health checks |
//! | `headers` | what is added and removed |
//! | [`meters`] | what is counted, with which dimensions |
//! | [`access_log`] | what is logged |
//! | `link` | time-outs |
//! | `upgrade` | WebSocket |
//!
//! What a client gets when something is wrong:
//!
//! | situation | answer | counted as |
//! | --- | --- | --- |
//! | no group with a weight, or no registered target in the chosen group | 503 | ELB 5XX |
//! | no target of the group is healthy | fail open: one of them is asked | what it answers |
//! | connection refused or broken, answer malformed or too large, draining over | 502 | ELB 5XX |
//! | connecting takes over 10 s, or the target is silent for the idle time-out | 504 | ELB 5XX |
//! | the target answers 5xx | as it is | target 5XX |
//! | the client left first | (460 in the log) | ELB 4XX |
//!
//! # Speed
//!
//! The proxy runs on one thread of its own with a single-threaded runtime: nothing it does waits
//! for a lock that somebody else holds, a request is one task, and what the rest of the stage does
//! does not delay it. `benches/load-balancer` compares what a request costs with nginx and `HAProxy`.

pub mod access_log;
mod answer;
pub(crate) mod counters;
mod error;
mod gate;
mod group;
mod headers;
pub mod health;
mod link;
mod listener;
pub mod meters;
mod options;
mod proxy;
mod service;
mod shared;
mod socket;
mod ticket;
mod upgrade;
mod upstream;

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use access_log::{AccessLog, AccessLogEntry};
pub use counters::{COUNTERS_PATH, Counters, GroupCounters};
pub use error::ElbError;
pub use health::{Reason, TargetHealth, TargetState};
pub use meters::Counts;
pub use options::{HealthCheck, Matcher, MatcherError, Options, Target, TargetGroupOptions};

use self::{
    group::Group,
    link::{Links, Ticks},
    meters::{GroupMeters, Meters},
    service::{Phase, Work},
    shared::{Routing, Shared},
};
use crate::{clock::Clock, cloudwatch::Metrics, events::Events};

/// The largest weight of a target group in a forward action.
pub const MAX_WEIGHT: u32 = 999;

/// The most target groups that one forward action may name.
pub const MAX_GROUPS: usize = 5;

/// One of the two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The one that users reach.
    Production,
    /// The one on which a new version is looked at before users are.
    Test,
}

/// A running load balancer. Clones are the same one; it ends with [`LoadBalancer::stop`] or with the
/// last clone.
#[derive(Clone, Debug)]
pub struct LoadBalancer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    groups: HashMap<String, Arc<Group>>,
    production: SocketAddr,
    test: SocketAddr,
    /// Serialises changes of listeners, whose effect on "in use" depends on both.
    changes: Mutex<()>,
    /// Set to true to end the thread; each receiver dropped is one that has ended.
    ending: watch::Sender<Phase>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.ending.send_replace(Phase::Ended);
    }
}

impl LoadBalancer {
    /// Binds both listeners and starts to serve, on a thread of its own.
    ///
    /// # Errors
    /// [`ElbError::Bind`], or what [`LoadBalancer::set_weights`] says about the weights at the start.
    pub fn start(
        options: Options,
        clock: Clock,
        metrics: &Metrics,
        events: &Events,
    ) -> Result<Self, ElbError> {
        let production = listener::bind(Listener::Production, options.production_port)?;
        let test = listener::bind(Listener::Test, options.test_port)?;
        let address = |socket: &std::net::TcpListener| socket.local_addr();
        let production_address = address(&production).map_err(ElbError::Thread)?;
        let test_address = address(&test).map_err(ElbError::Thread)?;

        // The runtime is made on its thread: it must not be dropped where others are async.
        let (ready, handle) = std::sync::mpsc::channel();
        let (begin, beginning) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("load-balancer".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let (runtime, handle) = match runtime {
                    Ok(runtime) => {
                        let handle = runtime.handle().clone();
                        (Some(runtime), Ok(handle))
                    }
                    Err(error) => (None, Err(error)),
                };
                let _ = ready.send(handle);
                if let Some(runtime) = runtime {
                    runtime.block_on(async {
                        // An error says that the start has failed elsewhere.
                        if let Ok(work) = beginning.await {
                            service::run(work).await;
                        }
                    });
                    // What is left of requests is cut here.
                    runtime.shutdown_background();
                }
            })
            .map_err(ElbError::Thread)?;
        let handle = handle
            .recv()
            .map_err(|error| ElbError::Thread(std::io::Error::other(error)))?
            .map_err(ElbError::Thread)?;
        let ticks = Ticks::new();
        let shared = Arc::new(Shared {
            clock,
            meters: Meters::new(metrics, &options.dimension),
            access_log: access_log::Subscribers::default(),
            production: ArcSwap::default(),
            test: ArcSwap::default(),
            ticks,
            clients: Links::default(),
            connect_timeout: options.connect_timeout,
            idle_timeout: options.idle_timeout,
            stopping: AtomicBool::new(false),
        });
        let mut groups = HashMap::new();
        for group in options.groups {
            let meters = GroupMeters::new(metrics, &options.dimension, &group.dimension);
            let name = group.name.clone();
            let group = Group::new(group, meters, clock, events.clone(), handle.clone());
            if groups.insert(name.clone(), group).is_some() {
                return Err(ElbError::DuplicateGroup { name });
            }
        }
        let (ending, phase) = watch::channel(Phase::Running);
        let balancer = Self(Arc::new(Inner {
            shared: Arc::clone(&shared),
            groups,
            production: production_address,
            test: test_address,
            changes: Mutex::new(()),
            ending,
        }));
        balancer.set_weights(Listener::Production, &options.production)?;
        balancer.set_weights(Listener::Test, &options.test)?;

        let work = Work {
            groups: balancer.0.groups.values().cloned().collect(),
            shared,
            events: events.clone(),
            sockets: [production, test],
            phase,
        };
        begin
            .send(work)
            .map_err(|_| ElbError::Thread(std::io::Error::other("it has ended")))?;
        Ok(balancer)
    }

    /// Registers a target. It gets requests when its first health check has passed, or at once if
    /// no target of the group is healthy.
    ///
    /// A target that is registered already stays as it is; one that is draining comes back anew.
    ///
    /// # Errors
    /// [`ElbError::UnknownGroup`].
    pub fn register(&self, group: &str, target: Target) -> Result<(), ElbError> {
        self.group(group)?.register(target);
        Ok(())
    }

    /// Takes a target out: no new requests from now on; it is shown as draining for the group's
    /// deregistration delay, then what still runs is cut and the target gone.
    ///
    /// The future ends when the target is gone. Dropping it changes nothing.
    ///
    /// # Errors
    /// [`ElbError::UnknownGroup`], [`ElbError::UnknownTarget`].
    pub fn deregister(
        &self,
        group: &str,
        target: &str,
    ) -> Result<impl Future<Output = ()> + Send + use<>, ElbError> {
        let mut drained =
            self.group(group)?
                .deregister(target)
                .ok_or_else(|| ElbError::UnknownTarget {
                    group: group.into(),
                    target: target.into(),
                })?;
        Ok(async move {
            // An error says that the load balancer has gone, and the target with it.
            let _ = drained.wait_for(|drained| *drained).await;
        })
    }

    /// The health of every target of a group, draining ones included, as `DescribeTargetHealth`
    /// shows it.
    ///
    /// # Errors
    /// [`ElbError::UnknownGroup`].
    pub fn target_health(&self, group: &str) -> Result<Vec<TargetHealth>, ElbError> {
        Ok(self.group(group)?.target_health())
    }

    /// Replaces where a listener forwards to. New requests follow it at once, running ones are not
    /// touched. A weight is an integer from 0 to 999; a group with weight 0 gets no requests but
    /// is in use, and so is checked.
    ///
    /// # Errors
    /// [`ElbError::UnknownGroup`], [`ElbError::Weight`], [`ElbError::DuplicateGroup`],
    /// [`ElbError::TooManyGroups`]. Nothing has changed then.
    pub fn set_weights(
        &self,
        listener: Listener,
        weights: &[(String, u32)],
    ) -> Result<(), ElbError> {
        if weights.len() > MAX_GROUPS {
            return Err(ElbError::TooManyGroups(weights.len()));
        }
        let mut entries: Vec<(Arc<Group>, u32)> = Vec::with_capacity(weights.len());
        for (name, weight) in weights {
            let group = self.group(name)?;
            if *weight > MAX_WEIGHT {
                return Err(ElbError::Weight {
                    name: name.clone(),
                    weight: *weight,
                });
            }
            if entries.iter().any(|(other, _)| Arc::ptr_eq(other, group)) {
                return Err(ElbError::DuplicateGroup { name: name.clone() });
            }
            entries.push((Arc::clone(group), *weight));
        }
        let shared = &self.0.shared;
        let _one_at_a_time = self
            .0
            .changes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shared
            .routing(listener)
            .store(Arc::new(Routing::new(entries, shared.clock.now())));
        let (production, test) = (shared.production.load(), shared.test.load());
        for group in self.0.groups.values() {
            group.set_in_use(production.contains(group) || test.contains(group));
        }
        Ok(())
    }

    /// Where a listener forwards to.
    pub fn weights(&self, listener: Listener) -> Vec<(String, u32)> {
        self.0.shared.routing(listener).load().weights()
    }

    /// The address of the production listener.
    pub fn production_address(&self) -> SocketAddr {
        self.0.production
    }

    /// The address of the test listener.
    pub fn test_address(&self) -> SocketAddr {
        self.0.test
    }

    /// Subscribes to the access log from now on. `capacity` entries may wait to be read; what comes
    /// when they do is dropped and counted.
    pub fn access_log(&self, capacity: usize) -> AccessLog {
        self.0.shared.access_log.subscribe(capacity)
    }

    /// Running totals of a target group since the start, for the cost of a few loads.
    ///
    /// # Errors
    /// [`ElbError::UnknownGroup`].
    pub fn counts(&self, group: &str) -> Result<Counts, ElbError> {
        Ok(self.group(group)?.meters.counts())
    }

    /// What every target group has counted since the start, for whoever compares them.
    pub fn counters(&self) -> Counters {
        let shared = &self.0.shared;
        loop {
            let since = shared.production.load().since;
            let counters = Counters {
                at: shared.clock.now(),
                weights_since: since,
                weights: self.weights(Listener::Production).into_iter().collect(),
                target_groups: self
                    .0
                    .groups
                    .values()
                    .map(|group| (group.name.to_string(), group.meters.counters()))
                    .collect(),
            };
            // Else the weights changed while it was put together.
            if shared.production.load().since == since {
                return counters;
            }
        }
    }

    /// The deregistration delay of a group, virtual.
    ///
    /// # Errors
    /// [`ElbError::UnknownGroup`].
    pub fn deregistration_delay(&self, group: &str) -> Result<Duration, ElbError> {
        Ok(self.group(group)?.deregistration_delay())
    }

    /// Ends the load balancer: closes both ports at once, lets running requests finish for up to
    /// five real seconds, and returns when its thread has nothing left to do.
    pub async fn stop(&self) {
        let inner = &self.0;
        inner.shared.stopping.store(true, Ordering::Release);
        inner.ending.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            *phase = if running { Phase::Closing } else { *phase };
            running
        });
        inner.ending.closed().await;
        inner.shared.access_log.close();
    }

    fn group(&self, name: &str) -> Result<&Arc<Group>, ElbError> {
        self.0
            .groups
            .get(name)
            .ok_or_else(|| ElbError::UnknownGroup {
                name: name.into(),
                known: {
                    let mut known: Vec<_> = self.0.groups.keys().cloned().collect();
                    known.sort();
                    known
                },
            })
    }
}
