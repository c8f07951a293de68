//! What CodeDeploy knows: plain data, and the questions that need nothing but it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use rollout::{
    Timestamp,
    appspec::AppSpec,
    deployment::{Command, Deployment, ErrorInformation, Roles, View},
    event::Entry,
    traffic::TrafficRouting,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use super::{names, revisions::Revision};
use crate::{ecs::ServiceKey, wire::ApiError};

/// Everything.
#[derive(Default)]
pub(super) struct State {
    pub applications: BTreeMap<String, Application>,
    /// The custom configurations; the predefined ones are rollout's.
    pub configs: BTreeMap<String, Config>,
    pub deployments: BTreeMap<String, DeploymentRecord>,
    /// Ids of deployments, oldest first.
    pub order: Vec<String>,
    pub shut_down: bool,
}

/// `{Key, Value}`, as CodeDeploy writes tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tag {
    #[serde(rename = "Key", default)]
    pub key: String,
    #[serde(rename = "Value", default)]
    pub value: String,
}

/// An application.
pub(super) struct Application {
    pub id: String,
    pub name: String,
    pub compute_platform: String,
    pub created: Timestamp,
    pub tags: Vec<Tag>,
    pub groups: BTreeMap<String, Group>,
    pub revisions: Vec<RegisteredRevision>,
}

/// A revision that an application knows.
pub(super) struct RegisteredRevision {
    pub revision: Revision,
    pub description: Option<String>,
    pub registered: Timestamp,
    pub first_used: Option<Timestamp>,
    pub last_used: Option<Timestamp>,
    pub groups: Vec<String>,
}

/// A deployment group.
pub(super) struct Group {
    pub id: String,
    pub name: String,
    /// The members of the request, as they were sent; checked by `group_checks`.
    pub settings: Map<String, Value>,
    pub tags: Vec<Tag>,
    pub target_revision: Option<Revision>,
    pub last_successful: Option<String>,
    pub last_attempted: Option<String>,
}

/// A custom deployment configuration.
pub(super) struct Config {
    pub id: String,
    pub routing: TrafficRouting,
    pub created: Timestamp,
    pub tags: Vec<Tag>,
}

/// A deployment: what was asked for, the state machine, and what its driver has to do.
pub(super) struct DeploymentRecord {
    pub id: String,
    pub application: String,
    pub group: String,
    pub config_name: String,
    pub revision: Option<Revision>,
    pub previous_revision: Option<Revision>,
    pub description: Option<String>,
    /// `user` or `codeDeployRollback`
    pub creator: &'static str,
    /// The other members of `deploymentInfo`, as they are shown.
    pub shown: Map<String, Value>,
    pub plan: Arc<Plan>,
    pub machine: Deployment,
    /// What clients see: the state machine's view, but an end only when it has been carried out.
    pub view: View,
    /// Commands to be carried out, each with the number of its step, in order.
    pub commands: VecDeque<(u64, Command)>,
    /// Events of an end that has not been carried out.
    pub held: Vec<Entry>,
    pub steps: u64,
    pub wake: Arc<Notify>,
    /// The task sets, once they are known.
    pub task_sets: Option<TaskSets>,
}

/// What a deployment works on.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub cluster: String,
    pub service: String,
    /// The names of the pair.
    pub target_groups: [String; 2],
    pub production_listener: String,
    /// What to deploy, or why that is not known.
    pub appspec: Result<AppSpec, ErrorInformation>,
}

/// Who is blue and who is green.
#[derive(Debug, Clone)]
pub(super) struct TaskSets {
    pub service: ServiceKey,
    pub service_arn: String,
    pub groups: Roles<String>,
    pub blue: TaskSetShown,
    /// Before `Install` has created it there is none.
    pub green: Option<TaskSetShown>,
}

/// A task set as it was last seen: it outlives the task set itself.
#[derive(Debug, Clone)]
pub(super) struct TaskSetShown {
    pub id: String,
    pub status: &'static str,
    pub desired: u32,
    pub pending: u32,
    pub running: u32,
    pub steady: bool,
}

impl State {
    pub fn application(&self, name: &str, account: &str) -> Result<&Application, ApiError> {
        self.applications
            .get(name)
            .ok_or_else(|| names::no_application(name, account))
    }

    pub fn application_mut(
        &mut self,
        name: &str,
        account: &str,
    ) -> Result<&mut Application, ApiError> {
        self.applications
            .get_mut(name)
            .ok_or_else(|| names::no_application(name, account))
    }

    pub fn deployment(&self, id: &str) -> Result<&DeploymentRecord, ApiError> {
        self.deployments
            .get(id)
            .ok_or_else(|| names::no_deployment(id))
    }

    /// The routing of a configuration, predefined or custom.
    pub fn routing(&self, config: &str) -> Option<TrafficRouting> {
        TrafficRouting::predefined(config)
            .or_else(|| self.configs.get(config).map(|config| config.routing))
    }

    /// The deployment of the group that has not ended, if there is one.
    pub fn active_deployment(&self, application: &str, group: &str) -> Option<&DeploymentRecord> {
        self.deployments.values().find(|deployment| {
            deployment.application == application
                && deployment.group == group
                && !deployment.view.status.is_terminal()
        })
    }
}

impl DeploymentRecord {
    /// A deployment by a user, of which nothing else is known yet.
    pub fn new(machine: Deployment, application: &str, group: &str, plan: Arc<Plan>) -> Self {
        let view = machine.view().clone();
        Self {
            id: view.deployment_id.clone(),
            application: application.to_owned(),
            group: group.to_owned(),
            config_name: String::new(),
            revision: None,
            previous_revision: None,
            description: None,
            creator: "user",
            shown: Map::new(),
            plan,
            machine,
            view,
            commands: VecDeque::new(),
            held: Vec::new(),
            steps: 0,
            wake: Arc::new(Notify::new()),
            task_sets: None,
        }
    }
}

impl Application {
    pub fn group(&self, name: &str) -> Result<&Group, ApiError> {
        self.groups.get(name).ok_or_else(|| names::no_group(name))
    }
}
