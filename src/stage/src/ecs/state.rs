//! What ECS knows: plain data, and the questions that need nothing but it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rollout::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::task_definition::{Tag, TaskDefinition};
use crate::wire::json::time;

/// Everything.
#[derive(Default)]
pub(super) struct State {
    pub clusters: BTreeMap<String, Cluster>,
    /// Revisions by family, oldest first.
    pub task_definitions: BTreeMap<String, Vec<Arc<TaskDefinition>>>,
    pub services: BTreeMap<ServiceKey, Service>,
    pub tasks: BTreeMap<String, Task>,
    /// `RunTask`'s client tokens: the request and the tasks it started.
    pub tokens: BTreeMap<String, (Value, Vec<String>)>,
    /// For the tasks' private addresses.
    pub addresses: u32,
    pub shut_down: bool,
}

/// A cluster, as it is shown.
pub(super) struct Cluster {
    pub name: String,
    pub active: bool,
    pub settings: Vec<Value>,
    pub capacity_providers: Vec<Value>,
    pub default_capacity_provider_strategy: Vec<Value>,
    pub configuration: Option<Value>,
    pub tags: Vec<Tag>,
}

/// A service's cluster and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ServiceKey {
    pub cluster: String,
    pub service: String,
}

/// `loadBalancers[]` of a service or task set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoadBalancerBinding {
    #[serde(default)]
    pub target_group_arn: String,
    #[serde(default)]
    pub container_name: String,
    #[serde(default)]
    pub container_port: u32,
}

/// `ACTIVE`, `DRAINING` and `INACTIVE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServiceStatus {
    Active,
    Draining,
    Inactive,
}

/// A service with the `CODE_DEPLOY` controller.
pub(super) struct Service {
    pub key: ServiceKey,
    pub status: ServiceStatus,
    pub desired_count: u32,
    pub created_at: Timestamp,
    pub created_by: String,
    /// The members that are echoed as they were given or completed.
    pub settings: BTreeMap<String, Value>,
    pub health_check_grace_period_seconds: u32,
    pub tags: Vec<Tag>,
    pub task_sets: Vec<TaskSet>,
    /// Newest first, at most 100.
    pub events: VecDeque<Value>,
    /// Whether "has reached a steady state" has been said since the last change.
    pub steady: bool,
}

/// PRIMARY serves users, ACTIVE is beside it, DRAINING is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskSetStatus {
    Primary,
    Active,
    Draining,
}

impl TaskSetStatus {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Active => "ACTIVE",
            Self::Draining => "DRAINING",
        }
    }
}

/// A task set.
#[derive(Debug, Clone)]
pub(super) struct TaskSet {
    /// `ecs-svc/<number>`
    pub id: String,
    pub arn: String,
    pub status: TaskSetStatus,
    pub task_definition: Arc<TaskDefinition>,
    pub load_balancer: LoadBalancerBinding,
    pub external_id: Option<String>,
    pub started_by: Option<String>,
    /// Percent of the service's desired count.
    pub scale: f64,
    pub platform_version: String,
    pub network_configuration: Value,
    pub capacity_provider_strategy: Option<Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub steady: bool,
    pub steady_at: Timestamp,
    /// Tasks that died in a row without having become healthy.
    pub failures: u32,
    /// No task is started before; the back-off.
    pub not_before: Timestamp,
}

/// Why a task is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stop {
    /// `stopCode`
    pub code: &'static str,
    /// `stoppedReason`
    pub reason: String,
}

/// A task.
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Task {
    pub id: String,
    pub arn: String,
    pub cluster: String,
    pub group: String,
    pub started_by: Option<String>,
    pub service: Option<ServiceKey>,
    pub task_definition: Arc<TaskDefinition>,
    pub overrides: Value,
    pub network_configuration: Value,
    pub platform_version: String,
    pub tags: Vec<Tag>,
    /// The private address of its network interface.
    pub address: String,
    pub last_status: &'static str,
    pub desired_status: &'static str,
    pub containers: Vec<TaskContainer>,
    pub created_at: Timestamp,
    pub pull_started_at: Option<Timestamp>,
    pub pull_stopped_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub stopping_at: Option<Timestamp>,
    pub execution_stopped_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub stop_code: Option<&'static str>,
    pub stopped_reason: Option<String>,
    /// Whether the load balancer has ever found it healthy, and whether it does now.
    pub was_healthy: bool,
    pub healthy: bool,
    pub version: u64,
    /// Asks it to end; the first request counts.
    pub stop: watch::Sender<Option<Stop>>,
    /// True once it is STOPPED.
    pub ended: watch::Receiver<bool>,
}

/// One container of a task.
pub(super) struct TaskContainer {
    pub name: String,
    pub image: String,
    pub image_digest: Option<String>,
    pub runtime_id: Option<String>,
    pub last_status: &'static str,
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub cpu: u32,
    pub memory: Option<u32>,
}

impl State {
    /// The cluster, if it is ACTIVE.
    pub fn cluster(&self, name: &str) -> Option<&Cluster> {
        self.clusters.get(name).filter(|cluster| cluster.active)
    }

    /// The revision that `family`, `family:revision` or an ARN names; the family alone is its latest
    /// ACTIVE one.
    pub fn task_definition(&self, name_or_arn: &str) -> Option<Arc<TaskDefinition>> {
        let name = match name_or_arn.split_once(":task-definition/") {
            Some((_, name)) => name,
            None => name_or_arn,
        };
        let (family, revision) = match name.split_once(':') {
            Some((family, revision)) => (family, Some(revision.parse::<u32>().ok()?)),
            None => (name, None),
        };
        let revisions = self.task_definitions.get(family)?;
        let found = match revision {
            Some(revision) => revisions.iter().find(|one| one.revision == revision),
            None => revisions
                .iter()
                .rev()
                .find(|one| one.deregistered_at.is_none()),
        };
        found.cloned()
    }

    /// The tasks of a task set that are not STOPPED.
    pub fn tasks_of<'a>(&'a self, task_set: &'a str) -> impl Iterator<Item = &'a Task> {
        self.tasks.values().filter(move |task| {
            task.started_by.as_deref() == Some(task_set)
                && task.service.is_some()
                && task.last_status != "STOPPED"
        })
    }

    /// Running and pending tasks of a task set.
    pub fn counts(&self, task_set: &str) -> (u32, u32) {
        let (mut running, mut pending) = (0, 0);
        for task in self.tasks_of(task_set) {
            match task.last_status {
                "RUNNING" | "DEACTIVATING" => running += 1,
                "PROVISIONING" | "PENDING" | "ACTIVATING" => pending += 1,
                _ => {}
            }
        }
        (running, pending)
    }
}

impl Service {
    /// The PRIMARY task set.
    pub fn primary(&self) -> Option<&TaskSet> {
        self.task_sets
            .iter()
            .find(|set| set.status == TaskSetStatus::Primary)
    }

    /// Adds an event, newest first, in ECS's form.
    pub fn say(&mut self, at: Timestamp, message: &str) {
        tracing::info!(service = %self.key.service, "{message}");
        self.events.push_front(json!({
            "id": crate::wire::uuid(),
            "createdAt": time(at),
            "message": message,
        }));
        self.events.truncate(100);
    }
}

impl TaskSet {
    /// ceil(desired count × scale)
    pub fn computed_desired_count(&self, desired_count: u32) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range"
        )]
        let count = (f64::from(desired_count) * self.scale / 100.0).ceil() as u32;
        count
    }

    /// `(service X, taskSet ecs-svc/N)`, as service events begin.
    pub fn named(&self, service: &str) -> String {
        format!("(service {service}, taskSet {})", self.id)
    }
}
