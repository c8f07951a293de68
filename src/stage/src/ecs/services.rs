//! `CreateService`, `DescribeServices`, `ListServices`, and a service as clients see it

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ecs, client, cluster_name, cluster_not_found, failure, invalid, list_answer, page,
    scheduler, short_name,
    state::{LoadBalancerBinding, Service, ServiceKey, ServiceStatus, State, TaskSetStatus},
    task_definition::{Tag, TaskDefinition},
    task_sets::NewTaskSet,
};
use crate::wire::{
    ApiError,
    json::{read, time},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateService {
    cluster: Option<String>,
    #[serde(default)]
    service_name: String,
    task_definition: Option<String>,
    #[serde(default)]
    load_balancers: Vec<LoadBalancerBinding>,
    desired_count: Option<u32>,
    launch_type: Option<String>,
    capacity_provider_strategy: Option<Value>,
    platform_version: Option<String>,
    network_configuration: Option<Value>,
    health_check_grace_period_seconds: Option<u32>,
    scheduling_strategy: Option<String>,
    deployment_controller: Option<Controller>,
    deployment_configuration: Option<Value>,
    placement_constraints: Option<Value>,
    placement_strategy: Option<Value>,
    service_registries: Option<Value>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(rename = "enableECSManagedTags")]
    enable_ecs_managed_tags: Option<bool>,
    propagate_tags: Option<String>,
    enable_execute_command: Option<bool>,
    availability_zone_rebalancing: Option<String>,
}

#[derive(Deserialize)]
struct Controller {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DescribeServices {
    cluster: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListServices {
    cluster: Option<String>,
    launch_type: Option<String>,
    scheduling_strategy: Option<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

impl Ecs {
    pub(super) fn create_service(&self, input: Value) -> Answer {
        let mut input: CreateService = read(input)?;
        // An empty list is as good as none: clients send what they have no values for.
        input.capacity_provider_strategy = input
            .capacity_provider_strategy
            .filter(|list| list.as_array().is_none_or(|list| !list.is_empty()));
        let name = input.service_name.clone();
        let valid = !name.is_empty()
            && name.len() <= 255
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if !valid {
            return Err(invalid(
                "Invalid service name: up to 255 letters, digits, - and _.",
            ));
        }
        let cluster = cluster_name(input.cluster.as_deref()).to_owned();
        let key = ServiceKey {
            cluster,
            service: name,
        };
        let mut state = self.state();
        state.cluster(&key.cluster).ok_or_else(cluster_not_found)?;
        let exists = state
            .services
            .get(&key)
            .is_some_and(|service| service.status != ServiceStatus::Inactive);
        if exists {
            return Err(invalid("Creation of service was not idempotent."));
        }
        check_kind(&input)?;
        let desired_count = input
            .desired_count
            .ok_or_else(|| invalid("desiredCount must be specified."))?;
        let wanted = input
            .task_definition
            .as_deref()
            .ok_or_else(|| invalid("TaskDefinition can not be blank."))?;
        let task_definition = active_task_definition(&state, wanted)?;
        let network_configuration = check_network(
            input.network_configuration.as_ref(),
            "Network Configuration",
        )?;
        let platform_version = check_platform(input.platform_version.as_deref())?;
        let [binding] = input.load_balancers.as_slice() else {
            return Err(invalid(
                "A service with the CODE_DEPLOY deployment controller needs exactly one load balancer.",
            ));
        };
        self.check_binding(binding, &task_definition)?;

        let first = NewTaskSet {
            task_definition: task_definition.arn.clone(),
            load_balancer: binding.clone(),
            external_id: None,
            started_by: None,
            platform_version: Some(platform_version.clone()),
            network_configuration: Some(network_configuration.clone()),
            capacity_provider_strategy: input.capacity_provider_strategy.clone(),
        };
        let now = self.clock.now();
        let grace = input.health_check_grace_period_seconds.unwrap_or(0);
        let tags = input.tags.clone();
        let service = Service {
            key: key.clone(),
            status: ServiceStatus::Active,
            desired_count,
            created_at: now,
            created_by: format!("arn:aws:iam::{}:user/stage", self.stack.account_id),
            settings: settings(input),
            health_check_grace_period_seconds: grace,
            tags,
            task_sets: Vec::new(),
            events: VecDeque::new(),
            steady: false,
        };
        state.services.insert(key.clone(), service);
        self.add_task_set(&mut state, &key, first, TaskSetStatus::Primary)?;
        let shown = self.show_service(&state, &key, true);
        drop(state);
        scheduler::start(self, key);
        self.changed();
        Ok(json!({ "service": shown }))
    }

    /// What ECS checks of a load balancer's entry.
    pub(super) fn check_binding(
        &self,
        binding: &LoadBalancerBinding,
        task_definition: &TaskDefinition,
    ) -> Result<(), ApiError> {
        if self.target_group(&binding.target_group_arn).is_none() {
            return Err(invalid(format!(
                "The target group with targetGroupArn {} does not have an associated load balancer.",
                binding.target_group_arn
            )));
        }
        let name = &binding.container_name;
        let container = task_definition.definition.container(name).ok_or_else(|| {
            invalid(format!(
                "The container {name} does not exist in the task definition."
            ))
        })?;
        let port = binding.container_port;
        let listens = container
            .port_mappings
            .iter()
            .any(|p| p.container_port == Some(port));
        if !listens {
            return Err(invalid(format!(
                "The container {name} did not have a container port {port} defined."
            )));
        }
        Ok(())
    }

    /// The name of the target group with this ARN.
    pub fn target_group(&self, arn: &str) -> Option<String> {
        self.front.get().group_name(arn).map(str::to_owned)
    }

    /// Where load balancers are made elsewhere: the one of a service that is to be created.
    pub(super) async fn take_over(&self, input: &Value) -> Result<(), ApiError> {
        let arn = input["loadBalancers"][0]["targetGroupArn"].as_str();
        match (&self.account, arn) {
            (Some(account), Some(arn)) => account.take_over(arn).await,
            _ => Ok(()),
        }
    }

    pub(super) fn describe_services(&self, input: Value) -> Answer {
        let input: DescribeServices = read(input)?;
        if input.services.is_empty() {
            return Err(invalid("Services cannot be empty."));
        }
        if input.services.len() > 10 {
            return Err(invalid("Services cannot have more than 10 elements."));
        }
        let cluster = cluster_name(input.cluster.as_deref());
        let tags = input.include.iter().any(|what| what == "TAGS");
        let state = self.state();
        state.cluster(cluster).ok_or_else(cluster_not_found)?;
        let (mut services, mut failures) = (Vec::new(), Vec::new());
        for wanted in &input.services {
            let service = short_name(wanted).to_owned();
            let key = ServiceKey {
                cluster: cluster.to_owned(),
                service,
            };
            match self.show_service(&state, &key, tags) {
                Some(shown) => services.push(shown),
                None => failures.push(failure(self.service_arn(&key))),
            }
        }
        Ok(json!({ "services": services, "failures": failures }))
    }

    pub(super) fn list_services(&self, input: Value) -> Answer {
        let input: ListServices = read(input)?;
        let cluster = cluster_name(input.cluster.as_deref());
        let state = self.state();
        state.cluster(cluster).ok_or_else(cluster_not_found)?;
        let matches = input
            .launch_type
            .as_deref()
            .is_none_or(|one| one == "FARGATE")
            && input
                .scheduling_strategy
                .as_deref()
                .is_none_or(|one| one == "REPLICA");
        let arns = state
            .services
            .iter()
            .filter(|(key, service)| {
                matches && key.cluster == cluster && service.status != ServiceStatus::Inactive
            })
            .map(|(key, _)| self.service_arn(key))
            .collect();
        let size = Some(input.max_results.unwrap_or(10));
        let (arns, next) = page(arns, input.next_token.as_deref(), size, 100)?;
        Ok(list_answer("serviceArns", &arns, next))
    }

    pub(super) fn service_arn(&self, key: &ServiceKey) -> String {
        self.arn(&format!("service/{}/{}", key.cluster, key.service))
    }

    /// A service as `DescribeServices` shows it during a deployment: `deployments` is there and
    /// empty (the SDKs' waiters depend on it), the top level mirrors the PRIMARY task set, and
    /// `runningCount` is the sum over all task sets while `desiredCount` is not doubled.
    pub(super) fn show_service(
        &self,
        state: &State,
        key: &ServiceKey,
        tags: bool,
    ) -> Option<Value> {
        let service = state.services.get(key)?;
        let (mut running, mut pending) = (0, 0);
        for set in &service.task_sets {
            let counts = state.counts(&set.id);
            running += counts.0;
            pending += counts.1;
        }
        let task_sets: Vec<Value> = service
            .task_sets
            .iter()
            .map(|set| self.show_task_set(state, service, set))
            .collect();
        let mut shown = json!({
            "serviceArn": self.service_arn(key),
            "serviceName": key.service,
            "clusterArn": self.arn(&format!("cluster/{}", key.cluster)),
            "loadBalancers": [],
            "status": match service.status {
                ServiceStatus::Active => "ACTIVE",
                ServiceStatus::Draining => "DRAINING",
                ServiceStatus::Inactive => "INACTIVE",
            },
            "desiredCount": service.desired_count,
            "runningCount": running,
            "pendingCount": pending,
            "taskSets": task_sets,
            "deployments": [],
            "roleArn": format!(
                "arn:aws:iam::{}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS",
                self.stack.account_id
            ),
            "events": service.events,
            "createdAt": time(service.created_at),
            "createdBy": service.created_by,
            "healthCheckGracePeriodSeconds": service.health_check_grace_period_seconds,
        });
        for (name, value) in &service.settings {
            shown[name] = value.clone();
        }
        if let Some(primary) = service.primary() {
            shown["taskDefinition"] = json!(primary.task_definition.arn);
            shown["loadBalancers"] = json!([primary.load_balancer]);
            shown["networkConfiguration"] = primary.network_configuration.clone();
            shown["platformVersion"] = json!(primary.platform_version);
            shown["platformFamily"] = json!("Linux");
        }
        if tags {
            shown["tags"] = json!(service.tags);
        }
        Some(shown)
    }
}

/// What of `CreateService` is echoed, with ECS's defaults.
fn settings(input: CreateService) -> BTreeMap<String, Value> {
    let list = || json!([]);
    let mut settings = BTreeMap::from([
        ("schedulingStrategy", json!("REPLICA")),
        ("deploymentController", json!({ "type": "CODE_DEPLOY" })),
        (
            "deploymentConfiguration",
            input
                .deployment_configuration
                .unwrap_or_else(|| json!({ "maximumPercent": 200, "minimumHealthyPercent": 100 })),
        ),
        (
            "placementConstraints",
            input.placement_constraints.unwrap_or_else(list),
        ),
        (
            "placementStrategy",
            input.placement_strategy.unwrap_or_else(list),
        ),
        (
            "serviceRegistries",
            input.service_registries.unwrap_or_else(list),
        ),
        (
            "enableECSManagedTags",
            json!(input.enable_ecs_managed_tags.unwrap_or(false)),
        ),
        (
            "propagateTags",
            json!(input.propagate_tags.unwrap_or_else(|| "NONE".into())),
        ),
        (
            "enableExecuteCommand",
            json!(input.enable_execute_command.unwrap_or(false)),
        ),
        (
            "availabilityZoneRebalancing",
            json!(
                input
                    .availability_zone_rebalancing
                    .unwrap_or_else(|| "DISABLED".into())
            ),
        ),
    ]);
    match input.capacity_provider_strategy {
        Some(strategy) => settings.insert("capacityProviderStrategy", strategy),
        None => settings.insert("launchType", json!("FARGATE")),
    };
    settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What kinds of services there are here.
fn check_kind(input: &CreateService) -> Result<(), ApiError> {
    if input
        .deployment_controller
        .as_ref()
        .map(|c| c.r#type.as_str())
        != Some("CODE_DEPLOY")
    {
        return Err(ApiError::client(
            "UnsupportedFeatureException",
            "This stage runs services with the deployment controller CODE_DEPLOY only.",
        ));
    }
    if input
        .scheduling_strategy
        .as_deref()
        .is_some_and(|one| one != "REPLICA")
    {
        return Err(invalid(
            "The CODE_DEPLOY deployment controller supports the REPLICA scheduling strategy only.",
        ));
    }
    check_launch_type(
        input.launch_type.as_deref(),
        input.capacity_provider_strategy.as_ref(),
    )
}

/// FARGATE, by launch type or by capacity provider, and not both.
pub(super) fn check_launch_type(
    launch_type: Option<&str>,
    strategy: Option<&Value>,
) -> Result<(), ApiError> {
    match (launch_type, strategy) {
        (Some(_), Some(_)) => Err(invalid(
            "Specifying both a launch type and capacity provider strategy is not supported. \
             Remove one and try again.",
        )),
        (Some("FARGATE"), None) => Ok(()),
        (None, Some(strategy)) => {
            let fargate = strategy.as_array().is_some_and(|list| {
                !list.is_empty()
                    && list.iter().all(|one| {
                        matches!(
                            one.get("capacityProvider").and_then(Value::as_str),
                            Some("FARGATE" | "FARGATE_SPOT")
                        )
                    })
            });
            if fargate {
                Ok(())
            } else {
                Err(invalid(
                    "The specified capacity provider was not found: use FARGATE.",
                ))
            }
        }
        _ => Err(ApiError::client(
            "UnsupportedFeatureException",
            "This stage runs the launch type FARGATE only.",
        )),
    }
}

/// `awsvpcConfiguration` with its subnets; the stage has no others to compare them with.
pub(super) fn check_network(given: Option<&Value>, what: &str) -> Result<Value, ApiError> {
    let awsvpc = given
        .and_then(|network| network.get("awsvpcConfiguration"))
        .ok_or_else(|| {
            invalid(format!(
                "{what} must be provided when networkMode 'awsvpc' is specified."
            ))
        })?;
    let list = |name: &str| {
        awsvpc
            .get(name)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    if list("subnets") == 0 {
        return Err(invalid("subnets can not be empty."));
    }
    if list("subnets") > 16 || list("securityGroups") > 5 {
        return Err(invalid(
            "at most 16 subnets and 5 security groups can be given.",
        ));
    }
    let assign = awsvpc
        .get("assignPublicIp")
        .and_then(Value::as_str)
        .unwrap_or("DISABLED");
    if !matches!(assign, "ENABLED" | "DISABLED") {
        return Err(invalid(format!(
            "Invalid value '{assign}' for assignPublicIp."
        )));
    }
    Ok(json!({ "awsvpcConfiguration": {
        "subnets": awsvpc["subnets"],
        "securityGroups": awsvpc.get("securityGroups").cloned().unwrap_or_else(|| json!([])),
        "assignPublicIp": assign,
    } }))
}

/// `LATEST` is 1.4.0 ("AWS Fargate platform versions").
pub(super) fn check_platform(given: Option<&str>) -> Result<String, ApiError> {
    match given.unwrap_or("LATEST") {
        "LATEST" | "1.4.0" => Ok("1.4.0".into()),
        "1.3.0" => Ok("1.3.0".into()),
        _ => Err(ApiError::client(
            "PlatformUnknownException",
            "The specified platform does not exist.",
        )),
    }
}

/// The revision, if it may still be started.
pub(super) fn active_task_definition(
    state: &State,
    wanted: &str,
) -> Result<std::sync::Arc<TaskDefinition>, ApiError> {
    let found = state
        .task_definition(wanted)
        .ok_or_else(|| client("TaskDefinition not found."))?;
    if found.deregistered_at.is_some() {
        return Err(client("TaskDefinition is inactive"));
    }
    Ok(found)
}
