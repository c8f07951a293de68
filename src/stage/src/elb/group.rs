//! Target groups: who is registered, who is healthy, and whose turn it is.
//!
//! The proxy asks one question a request, "which target is next?", and it is answered from an
//! immutable list that is swapped whenever somebody's health or registration changes. Everything
//! else happens under a lock that no request takes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use rollout::event::Event;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    health::{self, Health, Outcome, TargetHealth, TargetState},
    link::Verdict,
    meters::GroupMeters,
    options::{Target, TargetGroupOptions},
    upstream::Pool,
};
use crate::{clock::Clock, events::Events, runtime::Dial};

/// A registered target.
pub(super) struct Member {
    pub(super) id: Arc<str>,
    pub(super) dial: Arc<dyn Dial>,
    pub(super) pool: Pool,
    draining: AtomicBool,
    health: Mutex<Health>,
    checks: Mutex<Option<AbortHandle>>,
    /// Becomes true when the target is gone.
    drained: watch::Sender<bool>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("id", &self.id)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Whether connections may go back to the pool.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn state(&self) -> TargetState {
        lock(&self.health).state
    }

    fn stop_checks(&self) {
        if let Some(checks) = lock(&self.checks).take() {
            checks.abort();
        }
    }
}

/// A target group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    options: TargetGroupOptions,
    pub(super) meters: GroupMeters,
    members: Mutex<Members>,
    choices: ArcSwap<Vec<Arc<Member>>>,
    turn: AtomicUsize,
    clock: Clock,
    events: Events,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Arc<Member>>,
    in_use: bool,
}

impl Group {
    pub(super) fn new(
        options: TargetGroupOptions,
        meters: GroupMeters,
        clock: Clock,
        events: Events,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        Arc::new(Self {
            name: options.name.as_str().into(),
            options,
            meters,
            members: Mutex::default(),
            choices: ArcSwap::default(),
            turn: AtomicUsize::new(0),
            clock,
            events,
            runtime,
        })
    }

    /// The target whose turn it is: round robin over the healthy ones or, if none is healthy, over
    /// all that are registered ("fail open"). `None` if none is registered.
    pub(super) fn choose(&self) -> Option<Arc<Member>> {
        let choices = self.choices.load();
        match choices.len() {
            0 => None,
            1 => Some(Arc::clone(&choices[0])),
            n => Some(Arc::clone(
                &choices[self.turn.fetch_add(1, Ordering::Relaxed) % n],
            )),
        }
    }

    /// Registers a target. One that is registered already is replaced if it is draining and left
    /// alone if it is not.
    pub(super) fn register(self: &Arc<Self>, target: Target) {
        let mut members = lock(&self.members);
        if members
            .list
            .iter()
            .any(|member| *member.id == *target.id && !member.is_draining())
        {
            return;
        }
        let member = Arc::new(Member {
            id: target.id.into(),
            dial: target.dial,
            pool: Pool::default(),
            draining: AtomicBool::new(false),
            health: Mutex::new(Health::registered(members.in_use)),
            checks: Mutex::default(),
            drained: watch::Sender::new(false),
        });
        members.list.push(Arc::clone(&member));
        self.announce(&member);
        if members.in_use {
            self.start_checks(&member);
        }
        self.refresh(&members);
    }

    /// Takes a target out of service at once, and for good after the deregistration delay.
    ///
    /// The result tells when that is; `None` if there is no such target.
    pub(super) fn deregister(self: &Arc<Self>, id: &str) -> Option<watch::Receiver<bool>> {
        let members = lock(&self.members);
        let member = Arc::clone(members.list.iter().rfind(|member| *member.id == *id)?);
        let drained = member.drained.subscribe();
        if member.draining.swap(true, Ordering::AcqRel) {
            return Some(drained);
        }
        member.stop_checks();
        lock(&member.health).draining();
        self.announce(&member);
        self.refresh(&members);
        drop(members);
        member.pool.close_idle();
        let group = Arc::clone(self);
        self.runtime.spawn(async move {
            group.clock.sleep(group.options.deregistration_delay).await;
            group.drained(&member);
        });
        Some(drained)
    }

    /// The end of the deregistration delay: what still runs is cut.
    fn drained(&self, member: &Arc<Member>) {
        for link in member.pool.links.open() {
            link.end(Verdict::Drained);
        }
        member.pool.close_idle();
        lock(&self.members)
            .list
            .retain(|other| !Arc::ptr_eq(other, member));
        self.events.emit(Event::TargetHealthChanged {
            target_group: self.name.to_string(),
            target: member.id.to_string(),
            state: TargetState::Unused.as_str().into(),
            reason: health::Reason::NotRegistered.as_str().into(),
        });
        member.drained.send_replace(true);
    }

    /// Says whether a listener forwards to this group. Only then are its targets checked.
    pub(super) fn set_in_use(self: &Arc<Self>, in_use: bool) {
        let mut members = lock(&self.members);
        if members.in_use == in_use {
            return;
        }
        members.in_use = in_use;
        for member in members.list.iter().filter(|member| !member.is_draining()) {
            member.stop_checks();
            *lock(&member.health) = Health::registered(in_use);
            self.announce(member);
            if in_use {
                self.start_checks(member);
            }
        }
        self.refresh(&members);
    }

    pub(super) fn is_in_use(&self) -> bool {
        lock(&self.members).in_use
    }

    pub(super) fn target_health(&self) -> Vec<TargetHealth> {
        lock(&self.members)
            .list
            .iter()
            .map(|member| {
                let health = lock(&member.health);
                TargetHealth {
                    id: member.id.to_string(),
                    state: health.state,
                    reason: health.reason,
                    codes: health.code,
                }
            })
            .collect()
    }

    /// Numbers of healthy and of unhealthy targets; those that are initial or draining are neither.
    pub(super) fn hosts(&self) -> (usize, usize) {
        let members = lock(&self.members);
        let count = |state| {
            members
                .list
                .iter()
                .filter(|member| member.state() == state)
                .count()
        };
        (count(TargetState::Healthy), count(TargetState::Unhealthy))
    }

    /// Every target, draining ones included.
    pub(super) fn members(&self) -> Vec<Arc<Member>> {
        lock(&self.members).list.clone()
    }

    fn start_checks(self: &Arc<Self>, member: &Arc<Member>) {
        let (group, checked) = (Arc::downgrade(self), Arc::downgrade(member));
        let observe = move |outcome: Option<Outcome>| {
            if let (Some(group), Some(member)) = (group.upgrade(), checked.upgrade()) {
                group.observe(&member, outcome);
            }
        };
        let checks = self.runtime.spawn(health::check_forever(
            Arc::clone(&member.id),
            Arc::clone(&member.dial),
            self.options.health_check.clone(),
            self.clock,
            observe,
        ));
        *lock(&member.checks) = Some(checks.abort_handle());
    }

    fn observe(&self, member: &Arc<Member>, outcome: Option<Outcome>) {
        let members = lock(&self.members);
        if member.is_draining() || !members.in_use {
            return;
        }
        let changed = {
            let mut health = lock(&member.health);
            match outcome {
                None => {
                    health.checking();
                    true
                }
                Some(outcome) => health.observe(outcome, &self.options.health_check),
            }
        };
        if changed {
            self.announce(member);
            self.refresh(&members);
        }
    }

    fn announce(&self, member: &Member) {
        let health = lock(&member.health);
        self.events.emit(Event::TargetHealthChanged {
            target_group: self.name.to_string(),
            target: member.id.to_string(),
            state: health.state.as_str().into(),
            reason: health.reason.map_or("", health::Reason::as_str).into(),
        });
    }

    fn refresh(&self, members: &Members) {
        let registered = || members.list.iter().filter(|member| !member.is_draining());
        let mut choices: Vec<_> = registered()
            .filter(|member| member.state() == TargetState::Healthy)
            .cloned()
            .collect();
        if choices.is_empty() {
            choices = registered().cloned().collect();
        }
        self.choices.store(Arc::new(choices));
    }

    /// The deregistration delay, virtual.
    pub(super) fn deregistration_delay(&self) -> Duration {
        self.options.deregistration_delay
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
