//! `CreateDeploymentGroup`, `GetDeploymentGroup`, `BatchGetDeploymentGroups`,
//! `ListDeploymentGroups`, `UpdateDeploymentGroup`, `DeleteDeploymentGroup`
//!
//! A group is answered with exactly the members that were sent: clients compare them (Terraform
//! plans a change for every difference). Updates are partial: an absent member keeps its value.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Answer, CodeDeploy, group_checks, list_answer, names, page, refuse,
    state::{Application, Group, State, Tag},
    tags::check_tags,
};
use crate::wire::json::{read, time};

/// The members of a group's settings, in requests and answers alike.
const SETTINGS: [&str; 15] = [
    "deploymentConfigName",
    "ec2TagFilters",
    "onPremisesInstanceTagFilters",
    "autoScalingGroups",
    "serviceRoleArn",
    "triggerConfigurations",
    "alarmConfiguration",
    "autoRollbackConfiguration",
    "outdatedInstancesStrategy",
    "deploymentStyle",
    "blueGreenDeploymentConfiguration",
    "loadBalancerInfo",
    "ec2TagSet",
    "ecsServices",
    "onPremisesTagSet",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    application_name: Option<String>,
    deployment_group_name: Option<String>,
    current_deployment_group_name: Option<String>,
    new_deployment_group_name: Option<String>,
    #[serde(default)]
    deployment_group_names: Vec<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    next_token: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Input {
    fn settings(&self) -> Map<String, Value> {
        let members = self
            .others
            .iter()
            .filter(|(name, _)| SETTINGS.contains(&name.as_str()));
        members
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

impl CodeDeploy {
    pub(super) fn create_deployment_group(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let application_name = names::application(input.application_name.as_deref())?;
        let name = names::group(input.deployment_group_name.as_deref())?;
        check_tags(&input.tags)?;
        let mut settings = input.settings();
        let mut state = self.state();
        let application = state.application(application_name, &self.stack.account_id)?;
        if application.groups.contains_key(name) {
            return Err(refuse(
                "DeploymentGroupAlreadyExistsException",
                format!("Deployment Group '{name}' already exists"),
            ));
        }
        // The model's default, CodeDeployDefault.OneAtATime, is for EC2; ECS's is not documented.
        settings
            .entry("deploymentConfigName")
            .or_insert_with(|| json!("CodeDeployDefault.ECSAllAtOnce"));
        let front = self.front.get();
        group_checks::check(
            &state,
            &self.stack,
            &front,
            application_name,
            name,
            &settings,
        )?;
        let id = crate::wire::uuid();
        let group = Group {
            id: id.clone(),
            name: name.to_owned(),
            settings,
            tags: input.tags,
            target_revision: None,
            last_successful: None,
            last_attempted: None,
        };
        let application = state.application_mut(application_name, &self.stack.account_id)?;
        application.groups.insert(name.to_owned(), group);
        Ok(json!({ "deploymentGroupId": id }))
    }

    pub(super) fn get_deployment_group(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let application = names::application(input.application_name.as_deref())?;
        let name = names::group(input.deployment_group_name.as_deref())?;
        let state = self.state();
        let application = state.application(application, &self.stack.account_id)?;
        Ok(json!({ "deploymentGroupInfo": show(&state, application, application.group(name)?) }))
    }

    pub(super) fn batch_get_deployment_groups(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let application = names::application(input.application_name.as_deref())?;
        if input.deployment_group_names.is_empty() {
            names::group(None)?;
        }
        if input.deployment_group_names.len() > 100 {
            return Err(refuse(
                "BatchLimitExceededException",
                "The maximum number of names or IDs allowed for this request (100) was exceeded.",
            ));
        }
        let state = self.state();
        let application = state.application(application, &self.stack.account_id)?;
        let mut found = Vec::new();
        let mut missing = Vec::new();
        for name in &input.deployment_group_names {
            match application.group(names::group(Some(name))?) {
                Ok(group) => found.push(show(&state, application, group)),
                Err(_) => missing.push(name.as_str()),
            }
        }
        let mut answer = json!({ "deploymentGroupsInfo": found });
        if !missing.is_empty() {
            answer["errorMessage"] = json!(format!(
                "No Deployment Group found for name: {}",
                missing.join(", ")
            ));
        }
        Ok(answer)
    }

    pub(super) fn list_deployment_groups(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        let state = self.state();
        let application = state.application(name, &self.stack.account_id)?;
        let names = application.groups.keys().cloned().collect();
        let (names, next) = page(names, input.next_token.as_deref(), 100)?;
        let mut answer = list_answer("deploymentGroups", &names, next);
        answer["applicationName"] = json!(name);
        Ok(answer)
    }

    pub(super) fn update_deployment_group(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let application_name = names::application(input.application_name.as_deref())?;
        let name = names::group(input.current_deployment_group_name.as_deref())?;
        let changes = input.settings();
        let mut state = self.state();
        let application = state.application(application_name, &self.stack.account_id)?;
        let mut settings = application.group(name)?.settings.clone();
        settings.extend(changes);
        let front = self.front.get();
        group_checks::check(
            &state,
            &self.stack,
            &front,
            application_name,
            name,
            &settings,
        )?;
        let new = match input.new_deployment_group_name.as_deref() {
            Some(new) => names::group(Some(new))?,
            None => name,
        };
        let application = state.application_mut(application_name, &self.stack.account_id)?;
        if new != name && application.groups.contains_key(new) {
            return Err(refuse(
                "DeploymentGroupAlreadyExistsException",
                format!("Deployment Group '{new}' already exists"),
            ));
        }
        if let Some(mut group) = application.groups.remove(name) {
            group.settings = settings;
            new.clone_into(&mut group.name);
            application.groups.insert(new.to_owned(), group);
        }
        if new != name {
            for deployment in state.deployments.values_mut() {
                if deployment.application == application_name && deployment.group == name {
                    new.clone_into(&mut deployment.group);
                }
            }
        }
        Ok(json!({ "hooksNotCleanedUp": [] }))
    }

    /// Deleting what is not there is no error, as on AWS.
    pub(super) fn delete_deployment_group(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let application = names::application(input.application_name.as_deref())?;
        let name = names::group(input.deployment_group_name.as_deref())?;
        let mut state = self.state();
        if let Some(application) = state.applications.get_mut(application) {
            application.groups.remove(name);
        }
        Ok(json!({ "hooksNotCleanedUp": [] }))
    }
}

fn show(state: &State, application: &Application, group: &Group) -> Value {
    let mut shown = json!({
        "applicationName": application.name,
        "deploymentGroupId": group.id,
        "deploymentGroupName": group.name,
        "computePlatform": application.compute_platform,
        "ec2TagFilters": [],
        "onPremisesInstanceTagFilters": [],
        "autoScalingGroups": [],
        "triggerConfigurations": [],
        "outdatedInstancesStrategy": "UPDATE",
        "terminationHookEnabled": false,
    });
    for (name, value) in &group.settings {
        shown[name] = value.clone();
    }
    if let Some(revision) = &group.target_revision {
        shown["targetRevision"] = revision.show();
    }
    let deployments = [
        ("lastSuccessfulDeployment", &group.last_successful),
        ("lastAttemptedDeployment", &group.last_attempted),
    ];
    for (name, id) in deployments {
        let Some(deployment) = id.as_ref().and_then(|id| state.deployments.get(id)) else {
            continue;
        };
        let mut last = json!({
            "deploymentId": deployment.id,
            "status": deployment.view.status.as_str(),
            "createTime": time(deployment.view.created),
        });
        if let Some(completed) = deployment.view.completed {
            last["endTime"] = time(completed);
        }
        shown[name] = last;
    }
    shown
}
