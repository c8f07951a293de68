//! `UpdateService`, `DeleteService`

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ecs, cluster_name, cluster_not_found, invalid, short_name,
    state::{ServiceKey, ServiceStatus, State, TaskSetStatus},
};
use crate::wire::{ApiError, json::read};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    cluster: Option<String>,
    service: String,
    desired_count: Option<u32>,
    health_check_grace_period_seconds: Option<u32>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delete {
    cluster: Option<String>,
    service: String,
    #[serde(default)]
    force: bool,
}

/// What `UpdateService` takes for this controller besides the two counts ("`UpdateService`").
const ALLOWED: [&str; 5] = [
    "deploymentConfiguration",
    "placementConstraints",
    "placementStrategy",
    "enableECSManagedTags",
    "propagateTags",
];

/// What it refuses, and how the refusal begins.
const REFUSED: [(&str, &str); 11] = [
    ("taskDefinition", "Unable to update task definition"),
    ("loadBalancers", "Unable to update load balancers"),
    (
        "networkConfiguration",
        "Unable to update network parameters",
    ),
    ("platformVersion", "Unable to update platform version"),
    (
        "capacityProviderStrategy",
        "Unable to update capacity provider strategy",
    ),
    ("serviceRegistries", "Unable to update service registries"),
    (
        "serviceConnectConfiguration",
        "Unable to update service connect configuration",
    ),
    ("enableExecuteCommand", "Unable to update execute command"),
    (
        "deploymentController",
        "Unable to update deployment controller",
    ),
    (
        "availabilityZoneRebalancing",
        "Unable to update availability zone rebalancing",
    ),
    (
        "volumeConfigurations",
        "Unable to update volume configurations",
    ),
];

impl Ecs {
    /// A service of CodeDeploy's can be scaled here, and little else.
    pub(super) fn update_service(&self, input: Value) -> Answer {
        let input: Update = read(input)?;
        let mut state = self.state();
        let key = find(&state, input.cluster.as_deref(), &input.service)?;
        for (name, refusal) in REFUSED {
            if input.others.contains_key(name) {
                return Err(refused(refusal));
            }
        }
        if input
            .others
            .get("forceNewDeployment")
            .and_then(Value::as_bool)
            == Some(true)
        {
            return Err(refused("Cannot force a new deployment"));
        }
        let now = self.clock.now();
        let Some(service) = state.services.get_mut(&key) else {
            return Err(not_active());
        };
        if let Some(count) = input.desired_count
            && count != service.desired_count
        {
            service.desired_count = count;
            service.steady = false;
            for set in &mut service.task_sets {
                set.updated_at = now;
            }
        }
        if let Some(grace) = input.health_check_grace_period_seconds {
            service.health_check_grace_period_seconds = grace;
        }
        for name in ALLOWED {
            if let Some(value) = input.others.get(name) {
                service.settings.insert(name.to_owned(), value.clone());
            }
        }
        let shown = self.show_service(&state, &key, true);
        drop(state);
        self.changed();
        Ok(json!({ "service": shown }))
    }

    /// The service drains: its tasks end, then it is INACTIVE.
    pub(super) fn delete_service(&self, input: Value) -> Answer {
        let input: Delete = read(input)?;
        let mut state = self.state();
        let key = find(&state, input.cluster.as_deref(), &input.service)?;
        let now = self.clock.now();
        let Some(service) = state.services.get_mut(&key) else {
            return Err(not_active());
        };
        if service.desired_count > 0 && !input.force {
            return Err(invalid(
                "The service cannot be stopped while it is scaled above 0.",
            ));
        }
        service.status = ServiceStatus::Draining;
        service.desired_count = 0;
        for set in &mut service.task_sets {
            set.status = TaskSetStatus::Draining;
            set.scale = 0.0;
            set.updated_at = now;
        }
        let shown = self.show_service(&state, &key, true);
        drop(state);
        self.changed();
        Ok(json!({ "service": shown }))
    }
}

fn refused(beginning: &str) -> ApiError {
    invalid(format!(
        "{beginning} on services with a CODE_DEPLOY deployment controller. \
         Use AWS CodeDeploy to trigger a new deployment."
    ))
}

fn not_active() -> ApiError {
    ApiError::client("ServiceNotActiveException", "Service was not ACTIVE.")
}

/// The key of an ACTIVE service.
pub(super) fn find(
    state: &State,
    cluster: Option<&str>,
    service: &str,
) -> Result<ServiceKey, ApiError> {
    let cluster = cluster_name(cluster).to_owned();
    state.cluster(&cluster).ok_or_else(cluster_not_found)?;
    let key = ServiceKey {
        cluster,
        service: short_name(service).to_owned(),
    };
    match state.services.get(&key) {
        None => Err(ApiError::client(
            "ServiceNotFoundException",
            "Service not found.",
        )),
        Some(found) if found.status != ServiceStatus::Active => Err(not_active()),
        Some(_) => Ok(key),
    }
}
