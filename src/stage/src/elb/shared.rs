//! What all connections of one load balancer share.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use arc_swap::ArcSwap;
use rollout::Timestamp;

use super::{
    Listener,
    access_log::Subscribers,
    group::Group,
    link::{Links, Ticks},
    meters::Meters,
};
use crate::clock::Clock;

/// Where a listener forwards to.
#[derive(Debug, Default)]
pub(super) struct Routing {
    entries: Vec<(Arc<Group>, u32)>,
    total: u32,
    /// Since when it holds.
    pub(super) since: Timestamp,
}

impl Routing {
    pub(super) fn new(entries: Vec<(Arc<Group>, u32)>, since: Timestamp) -> Self {
        let total = entries.iter().map(|(_, weight)| weight).sum();
        Self {
            entries,
            total,
            since,
        }
    }

    /// A group by chance, in proportion to the weights. `None` if all are zero.
    pub(super) fn choose(&self) -> Option<&Arc<Group>> {
        let mut point = match self.total {
            0 => return None,
            total if self.entries.len() > 1 => rand::random_range(0..total),
            _ => 0,
        };
        for (group, weight) in &self.entries {
            match point.checked_sub(*weight) {
                None => return Some(group),
                Some(rest) => point = rest,
            }
        }
        None
    }

    pub(super) fn weights(&self) -> Vec<(String, u32)> {
        self.entries
            .iter()
            .map(|(group, weight)| (group.name.to_string(), *weight))
            .collect()
    }

    pub(super) fn contains(&self, group: &Arc<Group>) -> bool {
        self.entries
            .iter()
            .any(|(other, _)| Arc::ptr_eq(other, group))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) meters: Meters,
    pub(super) access_log: Subscribers,
    pub(super) production: ArcSwap<Routing>,
    pub(super) test: ArcSwap<Routing>,
    pub(super) ticks: Arc<Ticks>,
    /// Connections of clients.
    pub(super) clients: Links,
    pub(super) connect_timeout: Duration,
    pub(super) idle_timeout: Duration,
    /// Set when the load balancer ends: connections are not kept alive any more.
    pub(super) stopping: AtomicBool,
}

impl Shared {
    pub(super) fn routing(&self, listener: Listener) -> &ArcSwap<Routing> {
        match listener {
            Listener::Production => &self.production,
            Listener::Test => &self.test,
        }
    }
}
