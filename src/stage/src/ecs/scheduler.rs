//! The service scheduler: makes the tasks of each task set what they should be.
//!
//! One loop a service. Each turn looks at what the load balancer says of the targets, starts what
//! is missing, stops what is too much or unhealthy, and judges stability: a task set is in
//! `STEADY_STATE` when it runs as many tasks as it should, none is pending, and every target is
//! healthy ("`TaskSet`", `stabilityStatus`). A target whose group no listener forwards to is not
//! checked by ELB and counts as healthy here too, as it does on AWS.
//!
//! Tasks that die before they were ever healthy are started again after growing pauses ("Amazon
//! ECS service throttle logic"), so that a version that exits at once does not eat the machine.

use std::{collections::HashMap, time::Duration};

use super::{
    Ecs,
    state::{Service, ServiceKey, ServiceStatus, State, Stop, Task, TaskSetStatus},
    task::{self, Launch},
};
use crate::elb::health::{Reason, TargetHealth, TargetState};

/// The pause after the second failure in a row, virtual; it doubles with each further one.
const BACK_OFF: Duration = Duration::from_secs(10);
/// The longest pause, virtual ("Amazon ECS service throttle logic": 27 minutes).
const LONGEST_BACK_OFF: Duration = Duration::from_mins(27);
/// The shortest pause, real: however fast the clock, a crash loop must not be a fork bomb.
const SHORTEST_BACK_OFF: Duration = Duration::from_millis(250);
/// Failures in a row after which the service says that it cannot start its tasks.
const COMPLAIN_AFTER: u32 = 3;

/// How long a task may be unhealthy after its start whatever the grace period, real: a process takes
/// real time to start, and a fast clock must not make a quick start a slow one.
const START: Duration = Duration::from_secs(3);

/// Target healths by target group and target.
type Healths = HashMap<String, HashMap<String, TargetHealth>>;

/// Starts the loop of a service.
pub(super) fn start(ecs: &Ecs, key: ServiceKey) {
    let ecs = ecs.clone();
    tokio::spawn(async move {
        let mut changes = ecs.changes();
        // The turns between changes are for what only the load balancer knows.
        let turn = ecs
            .clock
            .real(Duration::from_secs(1))
            .clamp(Duration::from_millis(20), Duration::from_millis(200));
        while ecs.turn(&key) {
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(turn) => {}
            }
        }
    });
}

impl Ecs {
    /// One turn of the loop. `false`: the service is no more.
    fn turn(&self, key: &ServiceKey) -> bool {
        let healths = self.healths();
        let mut state = self.state();
        if state.shut_down {
            return false;
        }
        let Some(mut service) = state.services.remove(key) else {
            return false;
        };
        // The service is taken out for the turn, so that it and the tasks can both be changed.
        let before = fingerprint(&service);
        self.observe_targets(&mut state, &mut service, &healths);
        let launches = self.scale(&mut state, &mut service);
        self.judge(&state, &mut service);
        let ended = service.status == ServiceStatus::Inactive;
        let changed = before != fingerprint(&service) || !launches.is_empty();
        state.services.insert(key.clone(), service);
        for launch in launches {
            task::start(self, &mut state, launch);
        }
        drop(state);
        if changed {
            self.changed();
        }
        !ended
    }

    fn healths(&self) -> Healths {
        let front = self.front.get();
        front
            .groups
            .iter()
            .filter_map(|group| {
                let healths = front.load_balancer.target_health(&group.name).ok()?;
                let by_id = healths
                    .into_iter()
                    .map(|health| (health.id.clone(), health));
                Some((group.name.clone(), by_id.collect()))
            })
            .collect()
    }

    /// Takes over what the load balancer found, and ends tasks that it finds unhealthy.
    fn observe_targets(&self, state: &mut State, service: &mut Service, healths: &Healths) {
        let now = self.clock.now();
        let grace = Duration::from_secs(service.health_check_grace_period_seconds.into())
            .max(START.mul_f64(self.clock.speed()));
        let mut unhealthy = Vec::new();
        for set in &mut service.task_sets {
            let group = self
                .target_group(&set.load_balancer.target_group_arn)
                .unwrap_or_default();
            let Some(targets) = healths.get(&group) else {
                continue;
            };
            let tasks = state.tasks.values_mut().filter(|task| {
                task.started_by.as_deref() == Some(set.id.as_str())
                    && task.last_status == "RUNNING"
                    && task.desired_status == "RUNNING"
            });
            for task in tasks {
                let id = target_id(task, set.load_balancer.container_port);
                let Some(health) = targets.get(&id) else {
                    task.healthy = false;
                    continue;
                };
                let unchecked = health.reason == Some(Reason::NotInUse);
                task.healthy = health.state == TargetState::Healthy || unchecked;
                if task.healthy {
                    task.was_healthy = true;
                    set.failures = 0;
                }
                let started = task.started_at.unwrap_or(now);
                if health.state == TargetState::Unhealthy && now > started + grace {
                    unhealthy.push((task.id.clone(), health.description().unwrap_or_default()));
                    if !task.was_healthy {
                        set.failures += 1;
                        set.not_before = now + self.back_off(set.failures);
                    }
                    task.ask_to_stop(Stop {
                        code: "ServiceSchedulerInitiated",
                        reason: format!(
                            "Task failed ELB health checks in (target-group {})",
                            set.load_balancer.target_group_arn
                        ),
                    });
                }
            }
        }
        for (task, why) in unhealthy {
            let set = service.task_sets.iter().find(|set| {
                state
                    .tasks
                    .get(&task)
                    .is_some_and(|t| t.started_by.as_deref() == Some(&set.id))
            });
            let Some(binding) = set.map(|set| set.load_balancer.clone()) else {
                continue;
            };
            let message = format!(
                "(service {}) (task {task}) (port {}) is unhealthy in (target-group {}) due to \
                 (reason {why}).",
                service.key.service, binding.container_port, binding.target_group_arn
            );
            service.say(now, &message);
        }
    }

    /// How long to wait after a number of failures in a row, virtual.
    pub(super) fn back_off(&self, failures: u32) -> Duration {
        let shortest = SHORTEST_BACK_OFF.mul_f64(self.clock.speed());
        if failures < 2 {
            return shortest;
        }
        BACK_OFF
            .saturating_mul(2_u32.saturating_pow(failures - 2))
            .min(LONGEST_BACK_OFF)
            .max(shortest)
    }

    /// Says what is to be started, and asks what is too much to stop.
    fn scale(&self, state: &mut State, service: &mut Service) -> Vec<Launch> {
        let now = self.clock.now();
        let mut launches = Vec::new();
        let mut messages = Vec::new();
        for set in &mut service.task_sets {
            let wanted = set.computed_desired_count(service.desired_count) as usize;
            let mut live: Vec<&mut Task> = state
                .tasks
                .values_mut()
                .filter(|task| {
                    task.started_by.as_deref() == Some(set.id.as_str())
                        && task.service.is_some()
                        && task.desired_status == "RUNNING"
                })
                .collect();
            if live.len() < wanted && now >= set.not_before {
                let missing = wanted - live.len();
                let new: Vec<Launch> = (0..missing)
                    .map(|_| Launch::of_service(&service.key, set))
                    .collect();
                messages.push(format!(
                    "{} has started {missing} tasks: {}.",
                    set.named(&service.key.service),
                    listed(new.iter().map(|launch| launch.id.as_str()))
                ));
                launches.extend(new);
            } else if live.len() > wanted {
                live.sort_by_key(|task| std::cmp::Reverse(task.created_at));
                let excess = live.len() - wanted;
                let ended: Vec<String> = live
                    .into_iter()
                    .take(excess)
                    .map(|task| {
                        task.ask_to_stop(Stop {
                            code: "ServiceSchedulerInitiated",
                            reason: format!(
                                "Scaling activity initiated by (deployment {})",
                                set.id
                            ),
                        });
                        task.id.clone()
                    })
                    .collect();
                messages.push(format!(
                    "{} has stopped {excess} running tasks: {}.",
                    set.named(&service.key.service),
                    listed(ended.iter().map(String::as_str))
                ));
            }
        }
        for message in messages {
            service.say(now, &message);
        }
        launches
    }

    /// Steady or not; gone or not.
    fn judge(&self, state: &State, service: &mut Service) {
        let now = self.clock.now();
        let desired_count = service.desired_count;
        let mut messages = Vec::new();
        for set in &mut service.task_sets {
            if set.status == TaskSetStatus::Draining {
                continue;
            }
            let (running, pending) = state.counts(&set.id);
            let steady = running == set.computed_desired_count(desired_count)
                && pending == 0
                && state
                    .tasks_of(&set.id)
                    .all(|task| task.last_status == "RUNNING" && task.healthy);
            if steady != set.steady {
                set.steady = steady;
                set.steady_at = now;
                if steady {
                    messages.push(format!(
                        "{} updated state to STEADY_STATE.",
                        set.named(&service.key.service)
                    ));
                }
            }
        }
        service.task_sets.retain(|set| {
            set.status != TaskSetStatus::Draining || state.tasks_of(&set.id).next().is_some()
        });
        for message in messages {
            service.say(now, &message);
        }
        let steady = service.status == ServiceStatus::Active
            && !service.task_sets.is_empty()
            && service
                .task_sets
                .iter()
                .all(|set| set.steady && set.status != TaskSetStatus::Draining);
        if steady && !service.steady {
            let message = format!(
                "(service {}) has reached a steady state.",
                service.key.service
            );
            service.say(now, &message);
        }
        service.steady = steady;
        if service.status == ServiceStatus::Draining && service.task_sets.is_empty() {
            service.status = ServiceStatus::Inactive;
        }
    }

    /// A task of a service died by itself: how soon may the next be started?
    pub(super) fn count_failure(&self, state: &mut State, id: &str) {
        let Some(task) = state.tasks.get(id) else {
            return;
        };
        let Some(key) = task.service.clone() else {
            return;
        };
        let (set_id, was_healthy) = (task.started_by.clone(), task.was_healthy);
        let now = self.clock.now();
        let Some(service) = state.services.get_mut(&key) else {
            return;
        };
        let Some(set) = service
            .task_sets
            .iter_mut()
            .find(|set| Some(&set.id) == set_id.as_ref())
        else {
            return;
        };
        set.failures = if was_healthy { 1 } else { set.failures + 1 };
        set.not_before = now + self.back_off(set.failures);
        if set.failures == COMPLAIN_AFTER {
            let message = format!(
                "{} is unable to consistently start tasks successfully. For more information, see \
                 the Troubleshooting section of the Amazon ECS Developer Guide.",
                set.named(&service.key.service)
            );
            service.say(now, &message);
        }
    }
}

/// How the load balancer calls a task's port.
pub(super) fn target_id(task: &Task, port: u32) -> String {
    format!("{}:{port}", task.address)
}

fn listed<'a>(ids: impl Iterator<Item = &'a str>) -> String {
    ids.map(|id| format!("(task {id})"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What others wait for.
fn fingerprint(service: &Service) -> (usize, bool, bool, Vec<bool>) {
    (
        service.task_sets.len(),
        service.steady,
        service.status == ServiceStatus::Inactive,
        service.task_sets.iter().map(|set| set.steady).collect(),
    )
}
