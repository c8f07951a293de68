//! `GetDeployment`, `BatchGetDeployments`, `ListDeployments`

use rollout::lifecycle::TargetStatus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, CodeDeploy, list_answer, names, page, refuse, state::DeploymentRecord};
use crate::wire::json::{read, time};

/// How many deployments one request may ask for ("`BatchGetDeployments`").
const BATCH: usize = 25;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    deployment_id: Option<String>,
    #[serde(default)]
    deployment_ids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    application_name: Option<String>,
    deployment_group_name: Option<String>,
    external_id: Option<String>,
    #[serde(default)]
    include_only_statuses: Vec<String>,
    create_time_range: Option<TimeRange>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
struct TimeRange {
    start: Option<f64>,
    end: Option<f64>,
}

const STATUSES: [&str; 8] = [
    "Created",
    "Queued",
    "InProgress",
    "Baking",
    "Succeeded",
    "Failed",
    "Stopped",
    "Ready",
];

impl CodeDeploy {
    pub(super) fn get_deployment(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let id = names::deployment(input.deployment_id.as_deref())?;
        let state = self.state();
        Ok(json!({ "deploymentInfo": show(state.deployment(id)?) }))
    }

    /// Ids that are not known are left out, as the model has no exception for them.
    pub(super) fn batch_get_deployments(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        if input.deployment_ids.is_empty() {
            names::deployment(None)?;
        }
        if input.deployment_ids.len() > BATCH {
            return Err(refuse(
                "BatchLimitExceededException",
                format!(
                    "The maximum number of names or IDs allowed for this request ({BATCH}) was exceeded."
                ),
            ));
        }
        let state = self.state();
        let mut found = Vec::new();
        for id in &input.deployment_ids {
            if let Some(deployment) = state.deployments.get(names::deployment(Some(id))?) {
                found.push(show(deployment));
            }
        }
        Ok(json!({ "deploymentsInfo": found }))
    }

    /// Newest first.
    pub(super) fn list_deployments(&self, input: Value) -> Answer {
        let input: List = read(input)?;
        let state = self.state();
        let wanted = match (&input.application_name, &input.deployment_group_name) {
            (None, None) => None,
            (application, group) => {
                let application = names::application(application.as_deref())?;
                let group = names::group(group.as_deref())?;
                state
                    .application(application, &self.stack.account_id)?
                    .group(group)?;
                Some((application, group))
            }
        };
        for status in &input.include_only_statuses {
            if !STATUSES.contains(&status.as_str()) {
                return Err(refuse(
                    "InvalidDeploymentStatusException",
                    format!("The specified deployment status '{status}' does not exist."),
                ));
            }
        }
        if let Some(TimeRange {
            start: Some(start),
            end: Some(end),
        }) = input.create_time_range
            && start > end
        {
            return Err(refuse(
                "InvalidTimeRangeException",
                "The specified time range was specified in an invalid format.",
            ));
        }
        let ids = state
            .order
            .iter()
            .rev()
            .filter_map(|id| state.deployments.get(id))
            .filter(|one| {
                wanted.is_none_or(|(app, group)| one.application == app && one.group == group)
            })
            .filter(|one| {
                input.include_only_statuses.is_empty()
                    || input
                        .include_only_statuses
                        .iter()
                        .any(|s| s == one.view.status.as_str())
            })
            .filter(|one| {
                let created = one.view.created.as_secs_f64();
                input.create_time_range.as_ref().is_none_or(|range| {
                    range.start.is_none_or(|start| created >= start)
                        && range.end.is_none_or(|end| created <= end)
                })
            })
            .filter(|_| input.external_id.is_none())
            .map(|one| one.id.clone())
            .collect();
        let (ids, next) = page(ids, input.next_token.as_deref(), 100)?;
        Ok(list_answer("deployments", &ids, next))
    }
}

/// `deploymentInfo`
fn show(deployment: &DeploymentRecord) -> Value {
    let view = &deployment.view;
    let mut shown = json!({
        "applicationName": deployment.application,
        "deploymentGroupName": deployment.group,
        "deploymentConfigName": deployment.config_name,
        "deploymentId": deployment.id,
        "status": view.status.as_str(),
        "createTime": time(view.created),
        "creator": deployment.creator,
        "instanceTerminationWaitTimeStarted": view.termination_wait_started(),
        "computePlatform": "ECS",
        "deploymentStatusMessages": [],
        // Counted at the end, and of targets: an ECS deployment has one.
        "deploymentOverview": null,
    });
    for (name, value) in &deployment.shown {
        shown[name] = value.clone();
    }
    if let Some(revision) = &deployment.revision {
        shown["revision"] = revision.show();
    }
    if let Some(revision) = &deployment.previous_revision {
        shown["previousRevision"] = revision.show();
    }
    if let Some(description) = &deployment.description {
        shown["description"] = json!(description);
    }
    if let Some(started) = view.started {
        shown["startTime"] = time(started);
    }
    if let Some(completed) = view.completed {
        shown["completeTime"] = time(completed);
    }
    if view.status.is_terminal() {
        let target = view.target_status();
        let count = |status: TargetStatus| u8::from(target == status);
        shown["deploymentOverview"] = json!({
            "Pending": 0,
            "InProgress": 0,
            "Succeeded": count(TargetStatus::Succeeded),
            "Failed": count(TargetStatus::Failed),
            "Skipped": count(TargetStatus::Skipped),
            "Ready": 0,
        });
    }
    if let Some(error) = &view.error {
        shown["errorInformation"] =
            json!({ "code": error.code.as_str(), "message": error.message });
    }
    if let Some(rollback) = &view.rollback {
        let mut info = json!({ "rollbackMessage": rollback.rollback_message });
        if let Some(id) = &rollback.rollback_deployment_id {
            info["rollbackDeploymentId"] = json!(id);
        }
        if let Some(id) = &rollback.rollback_triggering_deployment_id {
            info["rollbackTriggeringDeploymentId"] = json!(id);
        }
        shown["rollbackInfo"] = info;
    }
    shown
}
