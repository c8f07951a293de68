//! While green is being installed: who it is, and why it does not become healthy.
//!
//! CodeDeploy waits an hour for a replacement that never becomes healthy and then says that it
//! waited. What helps is known after minutes: the reasons of the tasks that stopped. They are
//! announced as they happen, and after `install-timeout` of release.toml the deployment is stopped
//! and rolled back, instead of an hour of waiting for what will not come.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_codedeploy::types as cd;
use aws_sdk_ecs::types as ecs;
use rollout::deployment::Roles;
use rollout::event::{Event, TaskSetDescription};

use super::super::{Release, short};
use super::Running;
use crate::aws::ecs::stopped_because;
use crate::error::Error;

/// The image's version as a label, which the task definition's template sets.
pub const VERSION_LABEL: &str = "org.opencontainers.image.version";
/// How long, in the target's time, an installation may take before anybody looks for reasons.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks for stopped tasks, in the target's time.
const LOOK: Duration = Duration::from_secs(15);

/// What is known of the installation.
#[derive(Debug, Default)]
pub struct Install {
    looked: Duration,
    stopped: HashSet<String>,
    last_reason: Option<String>,
    gave_up: Option<Duration>,
}

impl Install {
    /// Looks for stopped tasks now and then; gives up after the configured time.
    pub async fn look(
        &mut self,
        release: &Release<'_>,
        running: &Running,
        since: Duration,
    ) -> Result<(), Error> {
        if since < PATIENCE || self.gave_up.is_some() {
            return Ok(());
        }
        if since.saturating_sub(self.looked) >= LOOK {
            self.looked = since;
            // Only a help: a failure to look is no failure of the release.
            let tasks = release.clients.ecs.stopped_tasks(&running.definition).await;
            for task in tasks.unwrap_or_default() {
                self.announce(release, &task);
            }
        }
        let limit = release.package.config.install_timeout;
        if since >= limit {
            self.gave_up = Some(limit);
            release
                .clients
                .codedeploy
                .stop(&running.deployment_id)
                .await?;
        }
        Ok(())
    }

    fn announce(&mut self, release: &Release<'_>, task: &ecs::Task) {
        let arn = task.task_arn().unwrap_or_default();
        if !self.stopped.insert(short(arn).to_owned()) {
            return;
        }
        self.last_reason = Some(stopped_because(task));
        release.announcer.event(Event::TaskStopped {
            task: arn.to_owned(),
            stop_code: task.stop_code().map_or("", |code| code.as_str()).to_owned(),
            reason: stopped_because(task),
            exit_code: task
                .containers()
                .iter()
                .find_map(aws_sdk_ecs::types::Container::exit_code),
        });
    }

    /// Why it was stopped by us, as a clause.
    pub fn why(&self) -> Option<String> {
        let limit = self.gave_up?;
        let reason = match &self.last_reason {
            Some(reason) => format!("its last task: {reason}"),
            None => "no task of it stopped; see the health of its target".to_owned(),
        };
        Some(format!(
            "green did not become healthy within {} min ({reason})",
            limit.as_secs().div_ceil(60)
        ))
    }
}

/// Who is blue and who is green, once both task sets are there.
pub async fn roles(
    release: &Release<'_>,
    running: &Running,
    target: &cd::EcsTarget,
) -> Option<Roles<TaskSetDescription>> {
    let group = |label: &cd::TargetLabel| {
        target
            .task_sets_info()
            .iter()
            .find(|set| set.task_set_label() == Some(label))
            .and_then(|set| set.target_group()?.name().map(str::to_owned))
    };
    let blue_group = group(&cd::TargetLabel::Blue)?;
    let green_group = group(&cd::TargetLabel::Green)?;
    let service = release.clients.ecs.service().await.ok()??;
    let blue = service
        .task_sets()
        .iter()
        .filter_map(|set| set.task_definition())
        .find(|definition| *definition != running.definition)
        .unwrap_or(&running.definition)
        .to_owned();
    Some(Roles {
        blue: TaskSetDescription {
            version: version(release, &blue).await,
            task_definition: blue,
            target_group: blue_group,
        },
        green: TaskSetDescription {
            version: Some(release.version().to_owned()),
            task_definition: running.definition.clone(),
            target_group: green_group,
        },
    })
}

/// The version that a task definition says it runs.
async fn version(release: &Release<'_>, definition: &str) -> Option<String> {
    let definition = release.clients.ecs.definition(definition).await.ok()?;
    definition
        .container_definitions()
        .iter()
        .find_map(|container| container.docker_labels()?.get(VERSION_LABEL).cloned())
}
