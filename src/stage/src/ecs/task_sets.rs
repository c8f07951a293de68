//! Task sets: made, promoted and removed by CodeDeploy, shown to everybody, managed by nobody else
//!
//! `DescribeTaskSets`, and the refusals of `CreateTaskSet`, `UpdateTaskSet`, `DeleteTaskSet` and
//! `UpdateServicePrimaryTaskSet`: those are for the EXTERNAL deployment controller.

use rollout::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ecs, invalid,
    services::{active_task_definition, check_network, check_platform},
    services_update,
    state::{LoadBalancerBinding, Service, ServiceKey, State, TaskSet, TaskSetStatus},
};
use crate::wire::{
    ApiError,
    json::{read, time},
};

/// How many task sets a service may have, draining ones included.
const LIMIT: usize = 5;

/// A task set to create. What is `None` is as in the PRIMARY task set.
#[derive(Debug, Clone)]
pub(crate) struct NewTaskSet {
    /// Family and revision, or ARN.
    pub task_definition: String,
    pub load_balancer: LoadBalancerBinding,
    pub external_id: Option<String>,
    pub started_by: Option<String>,
    pub platform_version: Option<String>,
    pub network_configuration: Option<Value>,
    pub capacity_provider_strategy: Option<Value>,
}

/// What CodeDeploy sees of a service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceView {
    pub arn: String,
    /// In the order of their creation.
    pub task_sets: Vec<TaskSetView>,
}

/// What CodeDeploy sees of a task set.
#[derive(Debug, Clone)]
pub(crate) struct TaskSetView {
    pub id: String,
    pub status: TaskSetStatus,
    pub load_balancer: LoadBalancerBinding,
    pub desired: u32,
    pub pending: u32,
    pub running: u32,
    /// `STEADY_STATE`
    pub steady: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    cluster: Option<String>,
    #[serde(default)]
    service: String,
    #[serde(default)]
    task_sets: Vec<String>,
}

impl Ecs {
    /// The service, if it is ACTIVE. Names may be ARNs.
    pub fn service_view(&self, cluster: &str, service: &str) -> Option<(ServiceKey, ServiceView)> {
        let state = self.state();
        let key = services_update::find(&state, Some(cluster), service).ok()?;
        let service = state.services.get(&key)?;
        let task_sets = service
            .task_sets
            .iter()
            .map(|set| {
                let (running, pending) = state.counts(&set.id);
                TaskSetView {
                    id: set.id.clone(),
                    status: set.status,
                    load_balancer: set.load_balancer.clone(),
                    desired: set.computed_desired_count(service.desired_count),
                    pending,
                    running,
                    steady: set.steady,
                }
            })
            .collect();
        let view = ServiceView {
            arn: self.service_arn(&key),
            task_sets,
        };
        Some((key, view))
    }

    /// CodeDeploy's `CreateTaskSet`: a task set beside the PRIMARY one, at full scale.
    ///
    /// # Errors
    /// What ECS would answer: an unknown task definition or container, too many task sets.
    pub fn create_task_set(&self, key: &ServiceKey, new: NewTaskSet) -> Result<String, ApiError> {
        let mut state = self.state();
        let id = self.add_task_set(&mut state, key, new, TaskSetStatus::Active)?;
        drop(state);
        self.changed();
        Ok(id)
    }

    pub(super) fn add_task_set(
        &self,
        state: &mut State,
        key: &ServiceKey,
        new: NewTaskSet,
        status: TaskSetStatus,
    ) -> Result<String, ApiError> {
        let task_definition = active_task_definition(state, &new.task_definition)?;
        self.check_binding(&new.load_balancer, &task_definition)?;
        let platform_version = new
            .platform_version
            .as_deref()
            .map(|version| check_platform(Some(version)))
            .transpose()?;
        let network = new
            .network_configuration
            .as_ref()
            .map(|network| check_network(Some(network), "Network Configuration"))
            .transpose()?;
        let service = state
            .services
            .get_mut(key)
            .ok_or_else(|| ApiError::client("ServiceNotFoundException", "Service not found."))?;
        if service.task_sets.len() >= LIMIT {
            return Err(invalid(format!(
                "Service {} already has {LIMIT} task sets or deployments, draining ones included, \
                 which is the maximum.",
                key.service
            )));
        }
        let primary = service.primary();
        let platform_version = platform_version
            .or_else(|| primary.map(|set| set.platform_version.clone()))
            .unwrap_or_else(|| "1.4.0".into());
        let network_configuration = network
            .or_else(|| primary.map(|set| set.network_configuration.clone()))
            .unwrap_or_default();
        let capacity_provider_strategy = new
            .capacity_provider_strategy
            .or_else(|| primary.and_then(|set| set.capacity_provider_strategy.clone()));
        let now = self.clock.now();
        // 19 digits, as ECS's numbers are.
        let number = 1_000_000_000_000_000_000 + rand::random::<u64>() % 8_000_000_000_000_000_000;
        let id = format!("ecs-svc/{number}");
        service.steady = false;
        service.task_sets.push(TaskSet {
            arn: self.arn(&format!("task-set/{}/{}/{id}", key.cluster, key.service)),
            id: id.clone(),
            status,
            task_definition,
            load_balancer: new.load_balancer,
            external_id: new.external_id,
            started_by: new.started_by,
            scale: 100.0,
            platform_version,
            network_configuration,
            capacity_provider_strategy,
            created_at: now,
            updated_at: now,
            steady: false,
            steady_at: now,
            failures: 0,
            not_before: Timestamp::EPOCH,
        });
        Ok(id)
    }

    /// CodeDeploy's `UpdateServicePrimaryTaskSet`. `false`: there is no such task set.
    pub fn make_primary(&self, key: &ServiceKey, id: &str) -> bool {
        let mut state = self.state();
        let now = self.clock.now();
        let Some(service) = state.services.get_mut(key) else {
            return false;
        };
        if !service.task_sets.iter().any(|set| set.id == id) {
            return false;
        }
        for set in &mut service.task_sets {
            let status = match set.status {
                _ if set.id == id => TaskSetStatus::Primary,
                TaskSetStatus::Primary => TaskSetStatus::Active,
                other => other,
            };
            if set.status != status {
                set.status = status;
                set.updated_at = now;
            }
        }
        drop(state);
        self.changed();
        true
    }

    /// CodeDeploy's `DeleteTaskSet`: scale 0 and DRAINING; gone when its tasks are.
    pub fn delete_task_set(&self, key: &ServiceKey, id: &str) {
        let mut state = self.state();
        let now = self.clock.now();
        if let Some(service) = state.services.get_mut(key) {
            for set in service.task_sets.iter_mut().filter(|set| set.id == id) {
                set.status = TaskSetStatus::Draining;
                set.scale = 0.0;
                set.updated_at = now;
                set.steady = false;
                set.steady_at = now;
            }
        }
        drop(state);
        self.changed();
    }

    /// A task set's task definition, and the version that it says it runs: the label
    /// `org.opencontainers.image.version` of the container behind the load balancer.
    pub fn task_set_version(&self, key: &ServiceKey, id: &str) -> (String, Option<String>) {
        let state = self.state();
        let set = state
            .services
            .get(key)
            .and_then(|service| service.task_sets.iter().find(|set| set.id == id));
        let Some(set) = set else {
            return (String::new(), None);
        };
        let definition = &set.task_definition.definition;
        let version = definition
            .container(&set.load_balancer.container_name)
            .and_then(|container| container.docker_labels.as_ref())
            .and_then(|labels| labels.get("org.opencontainers.image.version"))
            .and_then(Value::as_str);
        (set.task_definition.arn.clone(), version.map(str::to_owned))
    }

    pub(super) fn show_task_set(&self, state: &State, service: &Service, set: &TaskSet) -> Value {
        let (running, pending) = state.counts(&set.id);
        let key = &service.key;
        let mut shown = json!({
            "id": set.id,
            "taskSetArn": set.arn,
            "serviceArn": self.service_arn(key),
            "clusterArn": self.arn(&format!("cluster/{}", key.cluster)),
            "status": set.status.as_str(),
            "taskDefinition": set.task_definition.arn,
            "computedDesiredCount": set.computed_desired_count(service.desired_count),
            "pendingCount": pending,
            "runningCount": running,
            "createdAt": time(set.created_at),
            "updatedAt": time(set.updated_at),
            "platformVersion": set.platform_version,
            "platformFamily": "Linux",
            "networkConfiguration": set.network_configuration,
            "loadBalancers": [set.load_balancer],
            "serviceRegistries": [],
            "scale": { "value": set.scale, "unit": "PERCENT" },
            "stabilityStatus": if set.steady { "STEADY_STATE" } else { "STABILIZING" },
            "stabilityStatusAt": time(set.steady_at),
            "tags": [],
        });
        match &set.capacity_provider_strategy {
            Some(strategy) => shown["capacityProviderStrategy"] = strategy.clone(),
            None => shown["launchType"] = json!("FARGATE"),
        }
        if let Some(id) = &set.external_id {
            shown["externalId"] = json!(id);
        }
        if let Some(by) = &set.started_by {
            shown["startedBy"] = json!(by);
        }
        shown
    }

    pub(super) fn describe_task_sets(&self, input: Value) -> Answer {
        let input: About = read(input)?;
        let state = self.state();
        let key = services_update::find(&state, input.cluster.as_deref(), &input.service)?;
        let Some(service) = state.services.get(&key) else {
            return Ok(json!({}));
        };
        let shown: Vec<Value> = service
            .task_sets
            .iter()
            .filter(|set| {
                let wanted = &input.task_sets;
                wanted.is_empty() || wanted.iter().any(|w| *w == set.id || *w == set.arn)
            })
            .map(|set| self.show_task_set(&state, service, set))
            .collect();
        let failures: Vec<Value> = input
            .task_sets
            .iter()
            .filter(|w| {
                !service
                    .task_sets
                    .iter()
                    .any(|set| **w == set.id || **w == set.arn)
            })
            .map(|wanted| super::failure(wanted.clone()))
            .collect();
        Ok(json!({ "taskSets": shown, "failures": failures }))
    }

    /// `CreateTaskSet` by a client: the limit is looked at before the controller.
    pub(super) fn create_task_set_refused(&self, input: Value) -> Answer {
        let about: About = read(input.clone())?;
        {
            let state = self.state();
            let key = services_update::find(&state, about.cluster.as_deref(), &about.service)?;
            let full = state
                .services
                .get(&key)
                .is_some_and(|s| s.task_sets.len() >= LIMIT);
            if full {
                return Err(invalid(format!(
                    "Service {} already has {LIMIT} task sets or deployments, draining ones \
                     included, which is the maximum.",
                    key.service
                )));
            }
        }
        self.task_set_refused(input)
    }

    /// The task set operations of clients, for a service of CodeDeploy's.
    pub(super) fn task_set_refused(&self, input: Value) -> Answer {
        let about: About = read(input)?;
        let state = self.state();
        services_update::find(&state, about.cluster.as_deref(), &about.service)?;
        Err(invalid(
            "Unsupported operation for deployment controller type CODE_DEPLOY: task sets of this \
             service are managed by AWS CodeDeploy.",
        ))
    }
}
