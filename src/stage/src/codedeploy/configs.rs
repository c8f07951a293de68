//! `CreateDeploymentConfig`, `GetDeploymentConfig`, `ListDeploymentConfigs`,
//! `DeleteDeploymentConfig`

use std::time::Duration;

use rollout::{Timestamp, traffic::TrafficRouting};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, CodeDeploy, list_answer, names, page, refuse,
    state::{Config, Tag},
};
use crate::wire::{
    ApiError,
    json::{read, time},
};

/// How many custom configurations an account may have ("Quotas").
const LIMIT: usize = 50;
/// The prefix of CodeDeploy's own names.
const RESERVED: &str = "CodeDeployDefault.";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    deployment_config_name: Option<String>,
    compute_platform: Option<String>,
    minimum_healthy_hosts: Option<Value>,
    traffic_routing_config: Option<Routing>,
    #[serde(default)]
    tags: Vec<Tag>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Routing {
    r#type: Option<String>,
    time_based_canary: Option<Canary>,
    time_based_linear: Option<Linear>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Canary {
    canary_percentage: i64,
    canary_interval: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linear {
    linear_percentage: i64,
    linear_interval: i64,
}

impl CodeDeploy {
    pub(super) fn create_deployment_config(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::config(input.deployment_config_name.as_deref())?;
        if name.starts_with(RESERVED) {
            return Err(refuse(
                "InvalidDeploymentConfigNameException",
                format!("The prefix {RESERVED} is reserved for predefined configurations"),
            ));
        }
        match input.compute_platform.as_deref() {
            Some("ECS") => {}
            None | Some("Server" | "Lambda") => {
                return Err(refuse(
                    "InvalidComputePlatformException",
                    "This stage has deployment configurations for the compute platform ECS only.",
                ));
            }
            Some(_) => {
                return Err(refuse(
                    "InvalidComputePlatformException",
                    "The computePlatform is invalid. The computePlatform should be Lambda, Server, or ECS.",
                ));
            }
        }
        if input.minimum_healthy_hosts.is_some() {
            return Err(refuse(
                "InvalidMinimumHealthyHostValueException",
                "minimumHealthyHosts cannot be used with the compute platform ECS.",
            ));
        }
        let routing = routing(input.traffic_routing_config)?;
        let mut state = self.state();
        if state.configs.contains_key(name) {
            return Err(refuse(
                "DeploymentConfigAlreadyExistsException",
                format!("A deployment configuration with the name '{name}' already exists"),
            ));
        }
        if state.configs.len() >= LIMIT {
            return Err(refuse(
                "DeploymentConfigLimitExceededException",
                format!("The deployment configurations limit of {LIMIT} was exceeded"),
            ));
        }
        let id = crate::wire::uuid();
        let config = Config {
            id: id.clone(),
            routing,
            created: self.clock.now(),
            tags: input.tags,
        };
        state.configs.insert(name.to_owned(), config);
        Ok(json!({ "deploymentConfigId": id }))
    }

    pub(super) fn get_deployment_config(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::config(input.deployment_config_name.as_deref())?;
        let state = self.state();
        let shown = if let Some(config) = state.configs.get(name) {
            show(name, &config.id, config.created, config.routing)
        } else {
            let routing = TrafficRouting::predefined(name).ok_or_else(|| names::no_config(name))?;
            show(name, &predefined_id(name), predefined_since(), routing)
        };
        Ok(json!({ "deploymentConfigInfo": shown }))
    }

    pub(super) fn list_deployment_configs(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let mut names: Vec<String> = TrafficRouting::predefined_names()
            .map(str::to_owned)
            .collect();
        names.extend(self.state().configs.keys().cloned());
        let (names, next) = page(names, input.next_token.as_deref(), 100)?;
        Ok(list_answer("deploymentConfigsList", &names, next))
    }

    pub(super) fn delete_deployment_config(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::config(input.deployment_config_name.as_deref())?;
        if name.starts_with(RESERVED) {
            return Err(refuse(
                "InvalidOperationException",
                "A predefined deployment configuration cannot be deleted.",
            ));
        }
        let mut state = self.state();
        let used = state
            .applications
            .values()
            .flat_map(|app| app.groups.values())
            .any(|group| {
                group
                    .settings
                    .get("deploymentConfigName")
                    .and_then(Value::as_str)
                    == Some(name)
            });
        let running = state
            .deployments
            .values()
            .any(|one| one.config_name == name && !one.view.status.is_terminal());
        if used || running {
            return Err(refuse(
                "DeploymentConfigInUseException",
                "Deployment Configuration is in use by a deployment group or a deployment",
            ));
        }
        state.configs.remove(name);
        Ok(json!({}))
    }
}

fn routing(given: Option<Routing>) -> Result<TrafficRouting, ApiError> {
    let invalid = |message: String| refuse("InvalidTrafficRoutingConfigurationException", message);
    let given =
        given.ok_or_else(|| invalid("trafficRoutingConfig is required for ECS".to_owned()))?;
    let percentage = |value: i64| {
        u8::try_from(value).map_err(|_| invalid(format!("a step of {value} % is not possible")))
    };
    let minutes = |value: i64| {
        u64::try_from(value)
            .map(|minutes| Duration::from_secs(minutes.saturating_mul(60)))
            .map_err(|_| invalid(format!("an interval of {value} minutes is not possible")))
    };
    let routing = match (
        given.r#type.as_deref(),
        given.time_based_canary,
        given.time_based_linear,
    ) {
        (Some("AllAtOnce"), None, None) => TrafficRouting::AllAtOnce,
        (Some("TimeBasedCanary"), Some(canary), None) => TrafficRouting::TimeBasedCanary {
            percentage: percentage(canary.canary_percentage)?,
            interval: minutes(canary.canary_interval)?,
        },
        (Some("TimeBasedLinear"), None, Some(linear)) => TrafficRouting::TimeBasedLinear {
            percentage: percentage(linear.linear_percentage)?,
            interval: minutes(linear.linear_interval)?,
        },
        _ => {
            return Err(invalid(
                "type must be AllAtOnce, TimeBasedCanary with timeBasedCanary, or \
                 TimeBasedLinear with timeBasedLinear"
                    .to_owned(),
            ));
        }
    };
    routing
        .validate()
        .map_err(|error| invalid(error.to_string()))?;
    Ok(routing)
}

fn show(name: &str, id: &str, created: Timestamp, routing: TrafficRouting) -> Value {
    let shown = match routing {
        TrafficRouting::AllAtOnce => json!({ "type": "AllAtOnce" }),
        TrafficRouting::TimeBasedCanary {
            percentage,
            interval,
        } => json!({
            "type": "TimeBasedCanary",
            "timeBasedCanary": {
                "canaryPercentage": percentage,
                "canaryInterval": interval.as_secs() / 60,
            },
        }),
        TrafficRouting::TimeBasedLinear {
            percentage,
            interval,
        } => json!({
            "type": "TimeBasedLinear",
            "timeBasedLinear": {
                "linearPercentage": percentage,
                "linearInterval": interval.as_secs() / 60,
            },
        }),
    };
    json!({
        "deploymentConfigId": id,
        "deploymentConfigName": name,
        "createTime": time(created),
        "computePlatform": "ECS",
        "trafficRoutingConfig": shown,
    })
}

/// The predefined configurations have ids that do not change.
fn predefined_id(name: &str) -> String {
    let number = TrafficRouting::predefined_names()
        .position(|one| one == name)
        .unwrap_or(0);
    format!("00000000-0000-0000-0000-{number:012}")
}

/// They exist since ECS deployments do: 27 November 2018.
fn predefined_since() -> Timestamp {
    Timestamp::from_secs(1_543_276_800)
}
