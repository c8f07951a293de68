//! The life of one task, from PROVISIONING to STOPPED.
//!
//! The order is that of "Amazon ECS task lifecycle": the image is pulled and secrets are read in
//! PENDING, the target is registered in ACTIVATING, and when the task is to end the target drains
//! in DEACTIVATING *before* SIGTERM is sent in STOPPING. What ends the task first decides its
//! `stopCode`; the exit codes are those of its containers, whatever ended them.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rollout::event::Event;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    Ecs,
    prepare::prepare,
    scheduler::target_id,
    state::{LoadBalancerBinding, ServiceKey, State, Stop, Task, TaskContainer, TaskSet},
    task_definition::{ContainerDefinition, Tag, TaskDefinition},
};
use crate::{
    elb::Target,
    runtime::{Container, ContainerSpec, Exit},
};

/// ECS's default for `stopTimeout`, real.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A task to start.
pub(super) struct Launch {
    pub id: String,
    pub cluster: String,
    pub group: String,
    pub started_by: Option<String>,
    pub service: Option<ServiceKey>,
    pub task_definition: Arc<TaskDefinition>,
    pub load_balancer: Option<LoadBalancerBinding>,
    pub overrides: Value,
    pub network_configuration: Value,
    pub platform_version: String,
    pub tags: Vec<Tag>,
}

impl Launch {
    /// A task of a task set.
    pub fn of_service(key: &ServiceKey, set: &TaskSet) -> Self {
        Self {
            id: new_id(),
            cluster: key.cluster.clone(),
            group: format!("service:{}", key.service),
            started_by: Some(set.id.clone()),
            service: Some(key.clone()),
            task_definition: Arc::clone(&set.task_definition),
            load_balancer: Some(set.load_balancer.clone()),
            overrides: Value::default(),
            network_configuration: set.network_configuration.clone(),
            platform_version: set.platform_version.clone(),
            tags: Vec::new(),
        }
    }
}

/// 32 hexadecimal digits, as task ids are.
pub(super) fn new_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

impl Task {
    /// Asks it to end. Only the first request counts.
    pub fn ask_to_stop(&mut self, stop: Stop) {
        if self.desired_status == "STOPPED" {
            return;
        }
        self.desired_status = "STOPPED";
        self.stop.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(stop);
            first
        });
    }

    fn set_status(&mut self, status: &'static str) {
        self.last_status = status;
        self.version += 1;
    }

    fn container(&mut self, name: &str) -> Option<&mut TaskContainer> {
        self.containers
            .iter_mut()
            .find(|container| container.name == name)
    }
}

/// Enters a task into the state and begins its life.
pub(super) fn start(ecs: &Ecs, state: &mut State, launch: Launch) {
    let now = ecs.clock.now();
    let (stop, stopped) = watch::channel(None);
    let (ended, has_ended) = watch::channel(false);
    state.addresses += 1;
    let address = format!(
        "10.0.{}.{}",
        state.addresses / 250,
        state.addresses % 250 + 4
    );
    let definition = &launch.task_definition.definition;
    let containers = definition
        .container_definitions
        .iter()
        .map(|container| TaskContainer {
            name: container.name.clone(),
            image: container.image.clone(),
            image_digest: None,
            runtime_id: None,
            last_status: "PENDING",
            exit_code: None,
            reason: None,
            cpu: container.cpu,
            memory: container.memory,
        })
        .collect();
    let task = Task {
        id: launch.id.clone(),
        arn: ecs.arn(&format!("task/{}/{}", launch.cluster, launch.id)),
        cluster: launch.cluster.clone(),
        group: launch.group.clone(),
        started_by: launch.started_by.clone(),
        service: launch.service.clone(),
        task_definition: Arc::clone(&launch.task_definition),
        overrides: launch.overrides.clone(),
        network_configuration: launch.network_configuration.clone(),
        platform_version: launch.platform_version.clone(),
        tags: launch.tags.clone(),
        address,
        last_status: "PROVISIONING",
        desired_status: "RUNNING",
        containers,
        created_at: now,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        stop_code: None,
        stopped_reason: None,
        was_healthy: false,
        healthy: false,
        version: 1,
        stop,
        ended: has_ended,
    };
    state.tasks.insert(launch.id.clone(), task);
    let life = Life {
        ecs: ecs.clone(),
        launch,
        stopped,
    };
    tokio::spawn(async move {
        life.live().await;
        ended.send_replace(true);
    });
}

/// A task while it lives.
struct Life {
    ecs: Ecs,
    launch: Launch,
    stopped: watch::Receiver<Option<Stop>>,
}

/// The containers that were started, in their order.
type Started = Vec<(String, bool, Container)>;

impl Life {
    async fn live(mut self) {
        self.status("PENDING");
        let started = tokio::select! {
            // Both may be ready: a task that was asked to stop is not started any more.
            biased;
            stop = asked(&mut self.stopped) => Err(stop),
            prepared = prepare(&self.ecs, &self.launch) => match prepared {
                Ok(specs) => self.start_containers(specs).await,
                Err(reason) => Err(Stop { code: "TaskFailedToStart", reason }),
            },
        };
        let started = match started {
            Ok(started) => started,
            Err(stop) => return self.finish(stop, None),
        };
        self.activate(&started);
        let (stop, exit) = self.run(&started).await;
        self.shut(&started, exit.is_none()).await;
        self.finish(stop, exit);
    }

    /// Changes this task under the lock.
    fn change(&self, change: impl FnOnce(&mut Task)) {
        let mut state = self.ecs.state();
        if let Some(task) = state.tasks.get_mut(&self.launch.id) {
            change(task);
        }
        drop(state);
        self.ecs.changed();
    }

    fn status(&self, status: &'static str) {
        self.change(|task| task.set_status(status));
    }

    /// Starts the containers in the order of their dependencies.
    async fn start_containers(
        &self,
        mut waiting: Vec<(ContainerDefinition, ContainerSpec)>,
    ) -> Result<Started, Stop> {
        let mut started = Started::new();
        while !waiting.is_empty() {
            let ready = waiting.iter().position(|(definition, _)| {
                definition.depends_on.iter().all(|dependency| {
                    started
                        .iter()
                        .any(|(name, ..)| *name == dependency.container_name)
                })
            });
            let Some(ready) = ready else {
                return Err(self
                    .failed(&started, "its containers depend on each other in a circle")
                    .await);
            };
            let (definition, spec) = waiting.remove(ready);
            for dependency in &definition.depends_on {
                let on = started
                    .iter()
                    .find(|(name, ..)| *name == dependency.container_name);
                let Some((name, _, container)) = on else {
                    continue;
                };
                if matches!(dependency.condition.as_str(), "COMPLETE" | "SUCCESS") {
                    let exit = container.wait().await;
                    if dependency.condition == "SUCCESS" && exit.exit_code() != 0 {
                        let why = format!("dependency {name} did not succeed");
                        return Err(self.failed(&started, &why).await);
                    }
                }
            }
            let (image_digest, name) = (spec.image.digest.clone(), definition.name.clone());
            match self.ecs.runtime.start(spec).await {
                Ok(container) => {
                    self.change(|task| {
                        if let Some(shown) = task.container(&name) {
                            shown.image_digest = Some(image_digest);
                            shown.runtime_id = Some(container.id().to_owned());
                            shown.last_status = "RUNNING";
                        }
                    });
                    started.push((name, definition.essential, container));
                }
                Err(error) => {
                    let reason = error.to_string();
                    self.change(|task| {
                        if let Some(shown) = task.container(&name) {
                            shown.reason = Some(reason.clone());
                        }
                    });
                    return Err(self.failed(&started, &reason).await);
                }
            }
        }
        Ok(started)
    }

    async fn failed(&self, started: &Started, reason: &str) -> Stop {
        for (_, _, container) in started {
            container.kill();
            container.wait().await;
        }
        Stop {
            code: "TaskFailedToStart",
            reason: format!("Task failed to start: {reason}"),
        }
    }

    /// Registers the target; the task is RUNNING then.
    fn activate(&self, started: &Started) {
        self.status("ACTIVATING");
        if let Some(binding) = &self.launch.load_balancer
            && let Some((_, _, container)) = started
                .iter()
                .find(|(name, ..)| *name == binding.container_name)
        {
            let port = u16::try_from(binding.container_port).unwrap_or_default();
            let target = Target {
                id: self.target_id(),
                dial: container.dialer(port),
            };
            let balancer = &self.ecs.front.get().load_balancer;
            if let Err(error) = balancer.register(&self.target_group(), target) {
                tracing::error!(%error, task = %self.launch.id, "cannot register a target");
            }
            self.say(|set| {
                format!(
                    "{set} registered 1 targets in (target-group {})",
                    binding.target_group_arn
                )
            });
        }
        let now = self.ecs.clock.now();
        self.change(|task| {
            task.set_status("RUNNING");
            task.started_at = Some(now);
        });
        self.ecs.events.emit(Event::TaskStarted {
            task: self.launch.id.clone(),
            group: Some(self.launch.group.clone()),
            task_definition: self.launch.task_definition.arn.clone(),
        });
    }

    /// Waits until the task is to end: the reason, and the exit that ended it if one did.
    async fn run(&mut self, started: &Started) -> (Stop, Option<Exit>) {
        let mut exits: FuturesUnordered<_> = started
            .iter()
            .map(|(name, essential, container)| async move {
                (name.clone(), *essential, container.wait().await)
            })
            .collect();
        loop {
            tokio::select! {
                Some((name, essential, exit)) = exits.next() => {
                    self.exited(&name, exit);
                    if essential {
                        let reason = "Essential container in task exited".into();
                        return (Stop { code: "EssentialContainerExited", reason }, Some(exit));
                    }
                }
                stop = asked(&mut self.stopped) => return (stop, None),
            }
        }
    }

    fn exited(&self, name: &str, exit: Exit) {
        self.change(|task| {
            if let Some(shown) = task.container(name) {
                shown.last_status = "STOPPED";
                shown.exit_code = Some(exit.exit_code());
                if exit.out_of_memory {
                    let reason = "OutOfMemoryError: Container killed due to memory usage";
                    shown.reason = Some(reason.into());
                }
            }
        });
    }

    /// Drains the target, then ends the containers.
    async fn shut(&self, started: &Started, alive: bool) {
        let now = self.ecs.clock.now();
        self.change(|task| {
            task.desired_status = "STOPPED";
            task.stopping_at = Some(now);
        });
        if let Some(binding) = &self.launch.load_balancer {
            self.status("DEACTIVATING");
            self.say(|set| format!("{set} has begun draining connections on 1 tasks."));
            self.say(|set| {
                format!(
                    "{set} deregistered 1 targets in (target-group {})",
                    binding.target_group_arn
                )
            });
            let balancer = self.ecs.front.get();
            let drained = balancer
                .load_balancer
                .deregister(&self.target_group(), &self.target_id());
            if let (Ok(drained), true) = (drained, alive) {
                // Whoever is dead already has nothing to drain.
                let dead = essential_exit(started);
                tokio::select! {
                    () = drained => {}
                    () = dead => {}
                }
            }
        }
        self.status("STOPPING");
        let definition = &self.launch.task_definition.definition;
        // In the reverse order of their start, as dependencies ask.
        for (name, _, container) in started.iter().rev() {
            let timeout = definition
                .container(name)
                .and_then(|container| container.stop_timeout)
                .map_or(STOP_TIMEOUT, |seconds| Duration::from_secs(seconds.into()));
            let exit = container.stop(timeout).await;
            self.exited(name, exit);
        }
        let now = self.ecs.clock.now();
        self.change(|task| {
            task.execution_stopped_at = Some(now);
            task.set_status("DEPROVISIONING");
        });
    }

    fn finish(&self, stop: Stop, exit: Option<Exit>) {
        let now = self.ecs.clock.now();
        let mut exit_code = exit.map(Exit::exit_code);
        let mut state = self.ecs.state();
        if let Some(task) = state.tasks.get_mut(&self.launch.id) {
            task.desired_status = "STOPPED";
            task.set_status("STOPPED");
            task.stopping_at.get_or_insert(now);
            task.stopped_at = Some(now);
            task.stop_code = Some(stop.code);
            task.stopped_reason = Some(stop.reason.clone());
            task.healthy = false;
            for container in &mut task.containers {
                container.last_status = "STOPPED";
                exit_code = exit_code.or(container.exit_code);
            }
        }
        if matches!(stop.code, "EssentialContainerExited" | "TaskFailedToStart") {
            self.ecs.count_failure(&mut state, &self.launch.id);
        }
        drop(state);
        self.ecs.changed();
        self.ecs.events.emit(Event::TaskStopped {
            task: self.launch.id.clone(),
            stop_code: stop.code.to_owned(),
            reason: stop.reason,
            exit_code,
        });
    }

    /// A service event about this task's task set.
    fn say(&self, message: impl FnOnce(&str) -> String) {
        let now = self.ecs.clock.now();
        let (Some(key), Some(set)) = (&self.launch.service, &self.launch.started_by) else {
            return;
        };
        let mut state = self.ecs.state();
        if let Some(service) = state.services.get_mut(key) {
            let message = message(&format!("(service {}, taskSet {set})", key.service));
            service.say(now, &message);
        }
    }

    fn target_group(&self) -> String {
        let arn = self
            .launch
            .load_balancer
            .as_ref()
            .map(|binding| binding.target_group_arn.as_str());
        arn.and_then(|arn| self.ecs.target_group(arn))
            .unwrap_or_default()
    }

    fn target_id(&self) -> String {
        let port = self
            .launch
            .load_balancer
            .as_ref()
            .map_or(0, |binding| binding.container_port);
        let state = self.ecs.state();
        state
            .tasks
            .get(&self.launch.id)
            .map(|task| target_id(task, port))
            .unwrap_or_default()
    }
}

/// Waits until the task is asked to stop.
async fn asked(stopped: &mut watch::Receiver<Option<Stop>>) -> Stop {
    match stopped
        .wait_for(Option::is_some)
        .await
        .map(|stop| stop.clone())
    {
        Ok(Some(stop)) => stop,
        // The task has been taken out of the state: the stage ends.
        _ => Stop {
            code: "UserInitiated",
            reason: "the stage ends".into(),
        },
    }
}

/// Ends when an essential container has ended.
async fn essential_exit(started: &Started) {
    let mut exits: FuturesUnordered<_> = started
        .iter()
        .filter(|(_, essential, _)| *essential)
        .map(|(_, _, container)| container.wait())
        .collect();
    exits.next().await;
}
