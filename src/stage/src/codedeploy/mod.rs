//! CodeDeploy for ECS: applications, deployment groups, configurations, revisions, deployments.
//!
//! This room keeps what clients configured and answers them in CodeDeploy's shapes. What a
//! deployment does is not decided here: [`rollout::deployment::Deployment`] decides it. Each
//! deployment has a [`driver`] that tells the state machine what it sees (green is stable, an
//! alarm is red, time has passed) and carries out what it answers, on ECS, the load balancer and
//! the hook functions. A request of the API is an observation like any other, and what the state
//! machine refuses is the exception the client gets.
//!
//! A deployment that ends badly is shown as ended only when traffic is really back: clients act on
//! a terminal status.

mod applications;
mod commands;
mod configs;
mod control;
mod deployments;
mod describe;
mod driver;
mod group_checks;
mod groups;
mod names;
mod revisions;
mod state;
mod tags;
mod targets;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::Value;

use self::state::State;
use crate::{
    Stack,
    account::Account,
    clock::Clock,
    cloudwatch::Alarms,
    ecs::Ecs,
    events::Events,
    front::Front,
    functions::Functions,
    s3::ObjectStore,
    wire::{ApiError, JsonService},
};

/// What CodeDeploy is made of.
pub(crate) struct Parts {
    pub clock: Clock,
    pub events: Events,
    pub stack: Stack,
    pub ecs: Ecs,
    pub front: Front,
    /// Where alarms are defined, revisions kept and weights shown, if not here.
    pub account: Option<Account>,
    pub alarms: Alarms,
    pub objects: ObjectStore,
    pub functions: Functions,
}

/// CodeDeploy. Clones share everything.
#[derive(Clone)]
pub(crate) struct CodeDeploy(Arc<Inner>);

pub(crate) struct Inner {
    parts: Parts,
    state: Mutex<State>,
}

impl std::ops::Deref for CodeDeploy {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl std::fmt::Debug for CodeDeploy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeDeploy").finish_non_exhaustive()
    }
}

/// An operation's answer.
type Answer = Result<Value, ApiError>;

impl CodeDeploy {
    /// Without applications.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where alarms are made elsewhere: those of an `alarmConfiguration`, as they are now.
    async fn take_over_alarms(&self, given: Option<&Value>) -> Result<(), ApiError> {
        let Some(account) = &self.account else {
            return Ok(());
        };
        let names = group_checks::alarms(given)?.names;
        account.take_over_alarms(&names).await
    }

    /// Ends the drivers: deployments stay as they are.
    pub fn shutdown(&self) {
        let mut state = self.state();
        state.shut_down = true;
        for deployment in state.deployments.values() {
            deployment.wake.notify_one();
        }
    }
}

impl JsonService for CodeDeploy {
    fn target_prefix(&self) -> &'static str {
        "CodeDeploy_20141006"
    }

    fn signing_name(&self) -> &'static str {
        "codedeploy"
    }

    fn call<'a>(&'a self, operation: &'a str, input: Value) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            Some(match operation {
                "CreateApplication" => self.create_application(input),
                "GetApplication" => self.get_application(input),
                "BatchGetApplications" => self.batch_get_applications(input),
                "ListApplications" => self.list_applications(input),
                "UpdateApplication" => self.update_application(input),
                "DeleteApplication" => self.delete_application(input),
                "CreateDeploymentGroup" => {
                    match self.take_over_alarms(input.get("alarmConfiguration")).await {
                        Ok(()) => self.create_deployment_group(input),
                        Err(error) => Err(error),
                    }
                }
                "GetDeploymentGroup" => self.get_deployment_group(input),
                "BatchGetDeploymentGroups" => self.batch_get_deployment_groups(input),
                "ListDeploymentGroups" => self.list_deployment_groups(input),
                "UpdateDeploymentGroup" => {
                    match self.take_over_alarms(input.get("alarmConfiguration")).await {
                        Ok(()) => self.update_deployment_group(input),
                        Err(error) => Err(error),
                    }
                }
                "DeleteDeploymentGroup" => self.delete_deployment_group(input),
                "CreateDeploymentConfig" => self.create_deployment_config(input),
                "GetDeploymentConfig" => self.get_deployment_config(input),
                "ListDeploymentConfigs" => self.list_deployment_configs(input),
                "DeleteDeploymentConfig" => self.delete_deployment_config(input),
                "RegisterApplicationRevision" => self.register_application_revision(input),
                "GetApplicationRevision" => self.get_application_revision(input),
                "BatchGetApplicationRevisions" => self.batch_get_application_revisions(input),
                "ListApplicationRevisions" => self.list_application_revisions(input),
                "CreateDeployment" => self.create_deployment(input).await,
                "GetDeployment" => self.get_deployment(input),
                "BatchGetDeployments" => self.batch_get_deployments(input),
                "ListDeployments" => self.list_deployments(input),
                "ListDeploymentTargets" => self.list_deployment_targets(input),
                "GetDeploymentTarget" => self.get_deployment_target(input),
                "BatchGetDeploymentTargets" => self.batch_get_deployment_targets(input),
                "StopDeployment" => self.stop_deployment(input),
                "ContinueDeployment" => self.continue_deployment(input),
                "SkipWaitTimeForInstanceTermination" => self.skip_wait_time(input),
                "PutLifecycleEventHookExecutionStatus" => self.put_hook_status(input),
                "TagResource" => self.tag_resource(input),
                "UntagResource" => self.untag_resource(input),
                "ListTagsForResource" => self.list_tags_for_resource(input),
                "GetDeploymentInstance"
                | "ListDeploymentInstances"
                | "BatchGetDeploymentInstances" => self.instances(input),
                _ => return None,
            })
        })
    }
}

/// An exception that the client's request causes.
fn refuse(name: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::client(name, message)
}

/// Cuts a page out of a list: `nextToken` is the index where the next page begins.
fn page<T>(
    items: Vec<T>,
    next_token: Option<&str>,
    size: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let first: usize = match next_token {
        None => 0,
        Some(token) => token.parse().map_err(|_| {
            refuse(
                "InvalidNextTokenException",
                "The next token was specified in an invalid format.",
            )
        })?,
    };
    let next = (items.len().saturating_sub(first) > size).then(|| (first + size).to_string());
    Ok((items.into_iter().skip(first).take(size).collect(), next))
}

/// `{ "<name>": items, "nextToken": … }`
fn list_answer<T: serde::Serialize>(name: &str, items: &[T], next: Option<String>) -> Value {
    let mut answer = serde_json::Map::new();
    answer.insert(name.to_owned(), serde_json::json!(items));
    if let Some(next) = next {
        answer.insert("nextToken".into(), next.into());
    }
    Value::Object(answer)
}
