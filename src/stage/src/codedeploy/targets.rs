//! `ListDeploymentTargets`, `GetDeploymentTarget`, `BatchGetDeploymentTargets`, and the refusal of
//! their EC2 counterparts
//!
//! An ECS deployment has exactly one target, `<cluster>:<service>`, and only it shows lifecycle
//! events and traffic weights.

use std::collections::BTreeMap;

use rollout::deployment::Side;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, CodeDeploy, names, refuse,
    state::{DeploymentRecord, State, TaskSetShown},
};
use crate::wire::{
    ApiError,
    json::{read, time},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    deployment_id: Option<String>,
    target_id: Option<String>,
    #[serde(default)]
    target_ids: Vec<String>,
    #[serde(default)]
    target_filters: BTreeMap<String, Vec<String>>,
}

impl CodeDeploy {
    pub(super) fn list_deployment_targets(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let id = names::deployment(input.deployment_id.as_deref())?;
        let state = self.state();
        let deployment = started(&state, id)?;
        let mut shown = true;
        for (name, values) in &input.target_filters {
            match name.as_str() {
                "TargetStatus" => {
                    let status = deployment.view.target_status().as_str();
                    shown &= values.iter().any(|value| value == status);
                }
                "ServerInstanceLabel" => {}
                _ => {
                    return Err(refuse(
                        "InvalidTargetFilterNameException",
                        format!("The target filter name '{name}' is invalid."),
                    ));
                }
            }
        }
        let ids: Vec<String> = shown.then(|| target_id(deployment)).into_iter().collect();
        Ok(json!({ "targetIds": ids }))
    }

    pub(super) fn get_deployment_target(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let id = names::deployment(input.deployment_id.as_deref())?;
        let target = input
            .target_id
            .as_deref()
            .filter(|id| !id.is_empty())
            .ok_or_else(|| {
                refuse(
                    "DeploymentTargetIdRequiredException",
                    "A deployment target ID was not provided.",
                )
            })?;
        self.target(id, target)
            .map(|target| json!({ "deploymentTarget": target }))
    }

    pub(super) fn batch_get_deployment_targets(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let id = names::deployment(input.deployment_id.as_deref())?;
        match input.target_ids.as_slice() {
            [] => Err(refuse(
                "DeploymentTargetIdRequiredException",
                "A deployment target ID was not provided.",
            )),
            [target] => self
                .target(id, target)
                .map(|one| json!({ "deploymentTargets": [one] })),
            _ => Err(refuse(
                "DeploymentTargetListSizeExceededException",
                "The maximum number of targets that can be associated with an Amazon ECS deployment (1) was exceeded.",
            )),
        }
    }

    /// The operations on instances are EC2's.
    pub(super) fn instances(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let id = names::deployment(input.deployment_id.as_deref())?;
        self.state().deployment(id)?;
        Err(refuse(
            "InvalidComputePlatformException",
            "The computePlatform is invalid. This operation is not supported for the compute platform ECS; use deployment targets.",
        ))
    }

    fn target(&self, id: &str, target: &str) -> Answer {
        started(&self.state(), id)?;
        // What ECS shows now; the driver looks only when something has changed.
        self.look_at_task_sets(id);
        let state = self.state();
        let deployment = started(&state, id)?;
        if !is_target_id(target) {
            return Err(refuse(
                "InvalidDeploymentTargetIdException",
                format!(
                    "The target ID '{target}' is not valid: an Amazon ECS target ID has the form \
                     <clustername>:<servicename>"
                ),
            ));
        }
        if target != target_id(deployment) {
            return Err(refuse(
                "DeploymentTargetDoesNotExistException",
                format!("The deployment target {target} is not one of deployment {id}."),
            ));
        }
        Ok(self.show(deployment))
    }

    fn show(&self, deployment: &DeploymentRecord) -> Value {
        let view = &deployment.view;
        let events: Vec<Value> = view
            .lifecycle_events
            .iter()
            .map(|state| {
                let mut shown = json!({
                    "lifecycleEventName": state.event.as_str(),
                    "status": state.status.as_str(),
                });
                if let Some(start) = state.start {
                    shown["startTime"] = time(start);
                }
                if let Some(end) = state.end {
                    shown["endTime"] = time(end);
                }
                if let Some(why) = &state.diagnostics {
                    shown["diagnostics"] = json!({
                        "errorCode": why.error_code.as_str(),
                        "scriptName": why.script_name,
                        "message": why.message,
                        "logTail": why.log_tail,
                    });
                }
                shown
            })
            .collect();
        let arn = if let Some(sets) = &deployment.task_sets {
            sets.service_arn.clone()
        } else {
            let plan = &deployment.plan;
            let (cluster, service) = (short(&plan.cluster), short(&plan.service));
            self.stack
                .arn("ecs", &format!("service/{cluster}/{service}"))
        };
        json!({
            "deploymentTargetType": "ECSTarget",
            "ecsTarget": {
                "deploymentId": deployment.id,
                "targetId": target_id(deployment),
                "targetArn": arn,
                "lastUpdatedAt": time(view.updated),
                "lifecycleEvents": events,
                "status": view.target_status().as_str(),
                "taskSetsInfo": task_sets(deployment),
            },
        })
    }
}

fn started<'a>(state: &'a State, id: &str) -> Result<&'a DeploymentRecord, ApiError> {
    let deployment = state.deployment(id)?;
    if deployment.view.started.is_none() && !deployment.view.status.is_terminal() {
        return Err(refuse(
            "DeploymentNotStartedException",
            "The specified deployment has not started.",
        ));
    }
    Ok(deployment)
}

fn short(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

fn target_id(deployment: &DeploymentRecord) -> String {
    format!(
        "{}:{}",
        short(&deployment.plan.cluster),
        short(&deployment.plan.service)
    )
}

fn is_target_id(target: &str) -> bool {
    target.split_once(':').is_some_and(|(cluster, service)| {
        !cluster.is_empty() && !service.is_empty() && !service.contains(':')
    })
}

/// `taskSetsInfo`; the first member of each is really spelled so.
fn task_sets(deployment: &DeploymentRecord) -> Vec<Value> {
    let Some(sets) = &deployment.task_sets else {
        return Vec::new();
    };
    let show = |side: Side, set: &TaskSetShown| {
        let (label, weight) = match side {
            Side::Blue => ("Blue", deployment.view.weights.blue()),
            Side::Green => ("Green", deployment.view.weights.green()),
        };
        json!({
            "identifer": set.id,
            "desiredCount": set.desired,
            "pendingCount": set.pending,
            "runningCount": set.running,
            "status": set.status,
            "trafficWeight": f64::from(weight),
            "targetGroup": { "name": sets.groups.get(side) },
            "taskSetLabel": label,
        })
    };
    let mut shown = vec![show(Side::Blue, &sets.blue)];
    shown.extend(sets.green.as_ref().map(|green| show(Side::Green, green)));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_ids_are_cluster_and_service() {
        assert!(is_target_id("cluster:service"));
        for bad in ["", "service", ":service", "cluster:", "a:b:c"] {
            assert!(!is_target_id(bad), "{bad}");
        }
    }
}
