//! `RunTask`, `DescribeTasks`, `ListTasks`, `StopTask`

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ecs, client, cluster_name, cluster_not_found, failure, invalid, list_answer, page,
    services::{active_task_definition, check_launch_type, check_network, check_platform},
    short_name,
    state::{State, Stop, Task, TaskContainer},
    task::{self, Launch, new_id},
    task_definition::{Tag, TaskDefinition},
};
use crate::wire::{
    ApiError,
    json::{read, time},
};

/// The largest `overrides`, in characters of JSON.
const OVERRIDES_LIMIT: usize = 8192;
/// How many stopped tasks are remembered; ECS remembers them for an hour.
const REMEMBERED: usize = 1000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunTask {
    cluster: Option<String>,
    task_definition: String,
    count: Option<u32>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Value>,
    network_configuration: Option<Value>,
    #[serde(default)]
    overrides: Value,
    platform_version: Option<String>,
    started_by: Option<String>,
    client_token: Option<String>,
    group: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    propagate_tags: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeTasks {
    cluster: Option<String>,
    #[serde(default)]
    tasks: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListTasks {
    cluster: Option<String>,
    family: Option<String>,
    started_by: Option<String>,
    service_name: Option<String>,
    desired_status: Option<String>,
    launch_type: Option<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

#[derive(Deserialize)]
struct StopTask {
    cluster: Option<String>,
    task: String,
    reason: Option<String>,
}

impl Ecs {
    pub(super) fn run_task(&self, input: Value) -> Answer {
        let request = input.clone();
        let input: RunTask = read(input)?;
        let cluster = cluster_name(input.cluster.as_deref()).to_owned();
        let mut state = self.state();
        state.cluster(&cluster).ok_or_else(cluster_not_found)?;
        if let Some(token) = &input.client_token {
            if token.len() > 64 {
                return Err(invalid("clientToken must be at most 64 characters long."));
            }
            if let Some((before, tasks)) = state.tokens.get(token) {
                if *before != request {
                    return Err(ApiError::client(
                        "ConflictException",
                        "The RunTask request could not be processed due to conflicts. The provided \
                         clientToken is already in use with a different RunTask request.",
                    ));
                }
                return Ok(self.ran(&state, tasks));
            }
        }
        let count = input.count.unwrap_or(1);
        if !(1..=10).contains(&count) {
            return Err(invalid("Count must be between 1 and 10."));
        }
        check_launch_type(
            input.launch_type.as_deref(),
            input.capacity_provider_strategy.as_ref(),
        )?;
        let definition = active_task_definition(&state, &input.task_definition)?;
        let network = check_network(
            input.network_configuration.as_ref(),
            "Network Configuration",
        )?;
        let platform_version = check_platform(input.platform_version.as_deref())?;
        check_overrides(&input.overrides, &definition)?;
        if input.started_by.as_deref().is_some_and(|by| by.len() > 128) {
            return Err(invalid("startedBy must be at most 128 characters long."));
        }
        if input.propagate_tags.as_deref() == Some("SERVICE") {
            return Err(invalid(
                "propagateTags cannot be SERVICE when running a task.",
            ));
        }
        let mut tags = input.tags;
        if input.propagate_tags.as_deref() == Some("TASK_DEFINITION") {
            let inherited = definition
                .tags
                .iter()
                .filter(|t| !tags.iter().any(|o| o.key == t.key));
            tags.extend(inherited.cloned().collect::<Vec<_>>());
        }
        let group = input
            .group
            .unwrap_or_else(|| format!("family:{}", definition.definition.family));
        let mut ids = Vec::new();
        for _ in 0..count {
            let id = new_id();
            ids.push(id.clone());
            let launch = Launch {
                id,
                cluster: cluster.clone(),
                group: group.clone(),
                started_by: input.started_by.clone(),
                service: None,
                task_definition: definition.clone(),
                load_balancer: None,
                overrides: input.overrides.clone(),
                network_configuration: network.clone(),
                platform_version: platform_version.clone(),
                tags: tags.clone(),
            };
            task::start(self, &mut state, launch);
        }
        let answer = self.ran(&state, &ids);
        if let Some(token) = input.client_token {
            state.tokens.insert(token, (request, ids));
        }
        forget_old_tasks(&mut state);
        drop(state);
        self.changed();
        Ok(answer)
    }

    fn ran(&self, state: &State, ids: &[String]) -> Value {
        let tasks: Vec<Value> = ids
            .iter()
            .filter_map(|id| Some(self.show_task(state.tasks.get(id)?)))
            .collect();
        json!({ "tasks": tasks, "failures": [] })
    }

    pub(super) fn describe_tasks(&self, input: Value) -> Answer {
        let input: DescribeTasks = read(input)?;
        let cluster = cluster_name(input.cluster.as_deref());
        if input.tasks.is_empty() {
            return Err(invalid("Tasks cannot be empty."));
        }
        if input.tasks.len() > 100 {
            return Err(invalid("Tasks cannot have more than 100 elements."));
        }
        let tags = input.include.iter().any(|what| what == "TAGS");
        let state = self.state();
        state.cluster(cluster).ok_or_else(cluster_not_found)?;
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for wanted in &input.tasks {
            let id = short_name(wanted);
            match state.tasks.get(id).filter(|task| task.cluster == cluster) {
                Some(task) => {
                    let mut shown = self.show_task(task);
                    if tags {
                        shown["tags"] = json!(task.tags);
                    }
                    tasks.push(shown);
                }
                None => failures.push(failure(self.arn(&format!("task/{cluster}/{id}")))),
            }
        }
        Ok(json!({ "tasks": tasks, "failures": failures }))
    }

    /// By default the tasks that are to run; a one-off that has ended is found with STOPPED.
    pub(super) fn list_tasks(&self, input: Value) -> Answer {
        let input: ListTasks = read(input)?;
        let cluster = cluster_name(input.cluster.as_deref());
        let desired = input.desired_status.as_deref().unwrap_or("RUNNING");
        if !matches!(desired, "RUNNING" | "PENDING" | "STOPPED") {
            return Err(invalid(format!(
                "Invalid value '{desired}' for desiredStatus."
            )));
        }
        let state = self.state();
        state.cluster(cluster).ok_or_else(cluster_not_found)?;
        let service = input.service_name.as_deref().map(short_name);
        if let Some(service) = service {
            let known = state
                .services
                .keys()
                .any(|k| k.cluster == cluster && k.service == service);
            if !known {
                return Err(ApiError::client(
                    "ServiceNotFoundException",
                    "Service not found.",
                ));
            }
        }
        let launch_type = input.launch_type.as_deref();
        let fargate = launch_type.is_none_or(|one| one == "FARGATE");
        let mut tasks: Vec<&Task> = state
            .tasks
            .values()
            .filter(|task| task.cluster == cluster && task.desired_status == desired && fargate)
            .filter(|task| {
                let family = &task.task_definition.definition.family;
                input.family.as_ref().is_none_or(|wanted| wanted == family)
            })
            .filter(|task| input.started_by.is_none() || task.started_by == input.started_by)
            .filter(|task| {
                service.is_none_or(|name| task.service.as_ref().is_some_and(|k| k.service == name))
            })
            .collect();
        tasks.sort_by_key(|task| (task.created_at, task.id.clone()));
        let arns = tasks.iter().map(|task| task.arn.clone()).collect();
        let (arns, next) = page(arns, input.next_token.as_deref(), input.max_results, 100)?;
        Ok(list_answer("taskArns", &arns, next))
    }

    pub(super) fn stop_task(&self, input: Value) -> Answer {
        let input: StopTask = read(input)?;
        let cluster = cluster_name(input.cluster.as_deref());
        let mut state = self.state();
        state.cluster(cluster).ok_or_else(cluster_not_found)?;
        let task = state
            .tasks
            .get_mut(short_name(&input.task))
            .filter(|task| task.cluster == cluster)
            .ok_or_else(|| invalid("The referenced task was not found."))?;
        let reason = input
            .reason
            .unwrap_or_else(|| "Task stopped by user".into());
        task.ask_to_stop(Stop {
            code: "UserInitiated",
            reason,
        });
        let shown = self.show_task(task);
        drop(state);
        self.changed();
        Ok(json!({ "task": shown }))
    }

    fn show_task(&self, task: &Task) -> Value {
        let definition = &task.task_definition.definition;
        let interface = &task.id;
        let attachment = format!("{}-eni", task.id);
        let status = match task.last_status {
            "PROVISIONING" => "PRECREATED",
            "STOPPED" | "DEPROVISIONING" => "DELETED",
            _ => "ATTACHED",
        };
        let mut shown = json!({
            "attachments": [{
                "id": attachment,
                "type": "ElasticNetworkInterface",
                "status": status,
                "details": [
                    { "name": "subnetId", "value": task.network_configuration["awsvpcConfiguration"]["subnets"][0] },
                    { "name": "networkInterfaceId", "value": format!("eni-{}", &interface[..17.min(interface.len())]) },
                    { "name": "privateIPv4Address", "value": task.address },
                ],
            }],
            "attributes": [{ "name": "ecs.cpu-architecture", "value": "x86_64" }],
            "availabilityZone": format!("{}a", self.stack.region),
            "clusterArn": self.arn(&format!("cluster/{}", task.cluster)),
            "connectivity": "CONNECTED",
            "connectivityAt": time(task.created_at),
            "containers": task
                .containers
                .iter()
                .map(|container| self.show_container(task, container, &attachment))
                .collect::<Vec<_>>(),
            "cpu": definition.cpu,
            "createdAt": time(task.created_at),
            "desiredStatus": task.desired_status,
            "enableExecuteCommand": false,
            "group": task.group,
            "healthStatus": "UNKNOWN",
            "lastStatus": task.last_status,
            "launchType": "FARGATE",
            "memory": definition.memory,
            "overrides": show_overrides(task),
            "platformVersion": task.platform_version,
            "platformFamily": "Linux",
            "tags": [],
            "taskArn": task.arn,
            "taskDefinitionArn": task.task_definition.arn,
            "version": task.version,
            "ephemeralStorage": { "sizeInGiB": definition
                .ephemeral_storage.as_ref().map_or(20, |storage| storage.size_in_gib) },
        });
        let times = [
            ("pullStartedAt", task.pull_started_at),
            ("pullStoppedAt", task.pull_stopped_at),
            ("startedAt", task.started_at),
            ("stoppingAt", task.stopping_at),
            ("executionStoppedAt", task.execution_stopped_at),
            ("stoppedAt", task.stopped_at),
        ];
        for (name, at) in times {
            if let Some(at) = at {
                shown[name] = time(at);
            }
        }
        let asked = task.stop.borrow().clone();
        let code = task.stop_code.or(asked.as_ref().map(|stop| stop.code));
        let reason = task
            .stopped_reason
            .clone()
            .or(asked.map(|stop| stop.reason));
        if let (Some(code), Some(reason)) = (code, reason) {
            shown["stopCode"] = json!(code);
            shown["stoppedReason"] = json!(reason);
        }
        if let Some(by) = &task.started_by {
            shown["startedBy"] = json!(by);
        }
        shown
    }

    fn show_container(&self, task: &Task, container: &TaskContainer, attachment: &str) -> Value {
        let mut shown = json!({
            "containerArn": self.arn(&format!("container/{}/{}/{}", task.cluster, task.id, container.name)),
            "taskArn": task.arn,
            "name": container.name,
            "image": container.image,
            "lastStatus": container.last_status,
            "networkInterfaces": [
                { "attachmentId": attachment, "privateIpv4Address": task.address },
            ],
            "healthStatus": "UNKNOWN",
            "cpu": container.cpu.to_string(),
        });
        if let Some(memory) = container.memory {
            shown["memory"] = json!(memory.to_string());
        }
        if let Some(digest) = &container.image_digest {
            shown["imageDigest"] = json!(digest);
        }
        if let Some(id) = &container.runtime_id {
            shown["runtimeId"] = json!(id);
        }
        if let Some(code) = container.exit_code {
            shown["exitCode"] = json!(code);
        }
        if let Some(reason) = &container.reason {
            shown["reason"] = json!(reason);
        }
        shown
    }
}

/// The overrides as they were given, with an entry for each container.
fn show_overrides(task: &Task) -> Value {
    let mut shown = if task.overrides.is_object() {
        task.overrides.clone()
    } else {
        json!({})
    };
    let mut list = shown
        .get("containerOverrides")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for container in &task.containers {
        if !list.iter().any(|one| one["name"] == json!(container.name)) {
            list.push(json!({ "name": container.name }));
        }
    }
    shown["containerOverrides"] = json!(list);
    if shown.get("inferenceAcceleratorOverrides").is_none() {
        shown["inferenceAcceleratorOverrides"] = json!([]);
    }
    shown
}

/// A container's command, environment, cpu and memory can be overridden, its image cannot.
fn check_overrides(overrides: &Value, definition: &TaskDefinition) -> Result<(), ApiError> {
    if overrides.is_null() {
        return Ok(());
    }
    if overrides.to_string().len() > OVERRIDES_LIMIT {
        return Err(invalid(format!(
            "Container Overrides length must be at most {OVERRIDES_LIMIT}"
        )));
    }
    let list = overrides
        .get("containerOverrides")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for one in list {
        let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
        if definition.definition.container(name).is_none() {
            return Err(invalid(
                "Override for container named ".to_owned()
                    + name
                    + " is not a container in the TaskDefinition.",
            ));
        }
        for member in one.as_object().into_iter().flat_map(serde_json::Map::keys) {
            if matches!(member.as_str(), "image" | "entryPoint" | "secrets") {
                return Err(client(format!("{member} cannot be overridden.")));
            }
        }
    }
    Ok(())
}

/// Keeps the youngest stopped tasks.
fn forget_old_tasks(state: &mut State) {
    let mut stopped: Vec<_> = state
        .tasks
        .values()
        .filter(|task| task.last_status == "STOPPED")
        .map(|task| (task.stopped_at, task.id.clone()))
        .collect();
    if stopped.len() > REMEMBERED {
        stopped.sort();
        for (_, id) in stopped.iter().take(stopped.len() - REMEMBERED) {
            state.tasks.remove(id);
        }
    }
}
