//! `CreateDeployment`

use std::sync::Arc;

use rollout::deployment::{Deployment, Kind, Spec};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Answer, CodeDeploy, driver, group_checks, names, refuse,
    revisions::{Location, Revision},
    state::{DeploymentRecord, Plan, State},
};
use crate::wire::{ApiError, json::read};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    application_name: Option<String>,
    deployment_group_name: Option<String>,
    revision: Option<Location>,
    deployment_config_name: Option<String>,
    description: Option<String>,
    ignore_application_stop_failures: Option<bool>,
    target_instances: Option<Value>,
    auto_rollback_configuration: Option<Value>,
    update_outdated_instances_only: Option<bool>,
    file_exists_behavior: Option<String>,
    override_alarm_configuration: Option<Value>,
}

/// The members of a group that a deployment shows as they were when it began.
const SHOWN: [&str; 4] = [
    "autoRollbackConfiguration",
    "blueGreenDeploymentConfiguration",
    "loadBalancerInfo",
    "deploymentStyle",
];

impl CodeDeploy {
    /// Where alarms are made elsewhere: those that this deployment will ask for.
    async fn look_at_alarms(
        &self,
        input: &Input,
        application: &str,
        group: &str,
    ) -> Result<(), ApiError> {
        let settings = self
            .state()
            .application(application, &self.stack.account_id)?
            .group(group)?
            .settings
            .clone();
        let alarms = input
            .override_alarm_configuration
            .as_ref()
            .or_else(|| settings.get("alarmConfiguration"));
        self.take_over_alarms(alarms).await
    }

    pub(super) async fn create_deployment(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let application = names::application(input.application_name.as_deref())?;
        self.state()
            .application(application, &self.stack.account_id)?;
        let group = names::group(input.deployment_group_name.as_deref())?;
        self.state()
            .application(application, &self.stack.account_id)?
            .group(group)?;
        let revision = Revision::read(input.revision.clone())?;
        check(&input)?;
        // Read before the lock is taken; what is wrong with it fails the deployment, later.
        let appspec = self.read_appspec(&revision).await;
        self.look_at_alarms(&input, application, group).await?;

        let now = self.clock.now();
        let mut state = self.state();
        let settings = state
            .application(application, &self.stack.account_id)?
            .group(group)?
            .settings
            .clone();
        let config_name = config_name(&input, &settings)?;
        let routing = state
            .routing(&config_name)
            .ok_or_else(|| names::no_config(&config_name))?;
        let rollback = input
            .auto_rollback_configuration
            .as_ref()
            .or_else(|| settings.get("autoRollbackConfiguration"));
        let alarms = input
            .override_alarm_configuration
            .as_ref()
            .or_else(|| settings.get("alarmConfiguration"));
        let (auto_rollback, alarms) = (
            group_checks::auto_rollback(rollback)?,
            group_checks::alarms(alarms)?,
        );
        let plan = group_checks::plan(&self.stack, &self.front.get(), &settings)?;
        if let Some(active) = state.active_deployment(application, group) {
            return Err(refuse(
                "DeploymentLimitExceededException",
                format!(
                    "The Deployment Group '{group}' already has an active Deployment '{}'",
                    active.id
                ),
            ));
        }

        let id = state.new_id();
        let spec = Spec {
            kind: Kind::Forward {
                rollback_deployment_id: state.new_id(),
            },
            routing,
            test_listener: plan.test_listener,
            hooks: appspec
                .as_ref()
                .map(|appspec| appspec.hooks.iter().cloned().collect())
                .unwrap_or_default(),
            ready_wait: plan.ready_wait,
            termination_wait: plan.termination_wait,
            auto_rollback,
            alarms,
            ..Spec::new(id.clone(), String::new())
        };
        let (machine, step) = Deployment::new(spec, now);
        let plan = Arc::new(Plan {
            cluster: plan.cluster,
            service: plan.service,
            target_groups: plan.target_groups,
            production_listener: plan.production_listener,
            appspec,
        });
        let record = DeploymentRecord {
            config_name,
            previous_revision: state
                .application(application, &self.stack.account_id)?
                .group(group)?
                .target_revision
                .clone(),
            revision: Some(revision.clone()),
            description: input.description.clone(),
            shown: shown(&input, &settings),
            ..DeploymentRecord::new(machine, application, group, plan)
        };
        let known = state.application_mut(application, &self.stack.account_id)?;
        let registered = known.register(&revision, now);
        registered.first_used.get_or_insert(now);
        registered.last_used = Some(now);
        if !registered.groups.iter().any(|name| name == group) {
            registered.groups.push(group.to_owned());
        }
        if let Some(group) = known.groups.get_mut(group) {
            group.last_attempted = Some(id.clone());
        }
        self.begin(&mut state, record, step);
        drop(state);
        driver::start(self, id.clone());
        Ok(json!({ "deploymentId": id }))
    }
}

impl State {
    /// An id that no deployment has.
    fn new_id(&self) -> String {
        loop {
            let id = names::new_deployment_id();
            if !self.deployments.contains_key(&id) {
                return id;
            }
        }
    }
}

fn check(input: &Input) -> Result<(), ApiError> {
    if input
        .description
        .as_ref()
        .is_some_and(|text| text.chars().count() > 256)
    {
        return Err(refuse(
            "DescriptionTooLongException",
            "The description is too long: at most 256 characters are allowed.",
        ));
    }
    if input.target_instances.is_some() {
        return Err(refuse(
            "InvalidTargetInstancesException",
            "targetInstances cannot be used with the compute platform ECS.",
        ));
    }
    if let Some(behavior) = &input.file_exists_behavior
        && !matches!(behavior.as_str(), "DISALLOW" | "OVERWRITE" | "RETAIN")
    {
        return Err(refuse(
            "InvalidFileExistsBehaviorException",
            format!("'{behavior}' is not a valid fileExistsBehavior"),
        ));
    }
    Ok(())
}

fn config_name(input: &Input, settings: &Map<String, Value>) -> Result<String, ApiError> {
    let of_group = settings.get("deploymentConfigName").and_then(Value::as_str);
    match input.deployment_config_name.as_deref() {
        Some(name) => names::config(Some(name)).map(str::to_owned),
        None => Ok(of_group
            .unwrap_or("CodeDeployDefault.ECSAllAtOnce")
            .to_owned()),
    }
}

fn shown(input: &Input, settings: &Map<String, Value>) -> Map<String, Value> {
    let mut shown = Map::new();
    for name in SHOWN {
        if let Some(value) = settings.get(name) {
            shown.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(rollback) = &input.auto_rollback_configuration {
        shown.insert("autoRollbackConfiguration".into(), rollback.clone());
    }
    if let Some(alarms) = &input.override_alarm_configuration {
        shown.insert("overrideAlarmConfiguration".into(), alarms.clone());
    }
    let behavior = input.file_exists_behavior.as_deref().unwrap_or("DISALLOW");
    shown.insert("fileExistsBehavior".into(), json!(behavior));
    let ignore = input.ignore_application_stop_failures.unwrap_or(false);
    shown.insert("ignoreApplicationStopFailures".into(), json!(ignore));
    let outdated = input.update_outdated_instances_only.unwrap_or(false);
    shown.insert("updateOutdatedInstancesOnly".into(), json!(outdated));
    shown
}
