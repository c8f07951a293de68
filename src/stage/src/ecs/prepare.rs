//! What a task needs before its containers can be started: images pulled, secrets read, and what
//! its definition and overrides say put into the runtime's terms.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Value;

use super::{Ecs, state::Task, task::Launch, task_definition::ContainerDefinition};
use crate::runtime::{ContainerSpec, Image};

/// Pulls the images and resolves the secrets. The error is a `stoppedReason`.
pub(super) async fn prepare(
    ecs: &Ecs,
    launch: &Launch,
) -> Result<Vec<(ContainerDefinition, ContainerSpec)>, String> {
    let change = |change: fn(&mut Task, rollout::Timestamp)| {
        let now = ecs.clock.now();
        if let Some(task) = ecs.state().tasks.get_mut(&launch.id) {
            change(task, now);
        }
    };
    change(|task, now| task.pull_started_at = Some(now));
    let mut specs = Vec::new();
    for definition in &launch.task_definition.definition.container_definitions {
        let image = pull(ecs, &definition.image)
            .await
            .map_err(|error| format!("CannotPullContainerError: {error}"))?;
        if let Some(account) = &ecs.account {
            for secret in &definition.secrets {
                account.fetch_secret(&secret.value_from).await;
            }
        }
        let spec = container_spec(ecs, launch, definition, image)?;
        specs.push((definition.clone(), spec));
    }
    change(|task, now| task.pull_stopped_at = Some(now));
    Ok(specs)
}

/// The image that `127.0.0.1:PORT/repository@sha256:…` or `…:tag` names.
async fn pull(ecs: &Ecs, name: &str) -> Result<Image, String> {
    let here = format!("{}/", ecs.registry_host);
    let rest = name.strip_prefix(&here).ok_or_else(|| {
        format!(
            "pull image manifest has been retried 1 time(s): failed to resolve ref {name}: this \
             stage pulls from its own registry {} only",
            ecs.registry_host
        )
    })?;
    let (repository, reference) = match rest.split_once('@') {
        Some((repository, digest)) => (repository.split(':').next().unwrap_or(repository), digest),
        None => rest.rsplit_once(':').unwrap_or((rest, "latest")),
    };
    let digest = ecs
        .registry
        .resolve(repository, reference)
        .map_err(|error| error.to_string())?;
    if let Some(image) = ecs.images.get(&digest.to_string()) {
        return Ok(image);
    }
    let _one_at_a_time = ecs.0.importing.lock().await;
    if let Some(image) = ecs.images.get(&digest.to_string()) {
        return Ok(image);
    }
    let archive = ecs.dir.join(format!("pull-{}.tar", digest.hex()));
    let (registry, wanted, to) = (ecs.registry.clone(), digest.clone(), archive.clone());
    tokio::task::spawn_blocking(move || registry.export(&wanted, &to))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    let image = ecs
        .images
        .import(&archive)
        .await
        .map_err(|error| error.to_string());
    let _ = tokio::fs::remove_file(&archive).await;
    image
}

/// What of a container definition the runtime needs, secrets resolved.
fn container_spec(
    ecs: &Ecs,
    launch: &Launch,
    definition: &ContainerDefinition,
    image: Image,
) -> Result<ContainerSpec, String> {
    // A later source wins: what Fargate sets, the definition, its secrets, the overrides.
    let mut env = BTreeMap::from([
        ("AWS_EXECUTION_ENV".to_owned(), "AWS_ECS_FARGATE".to_owned()),
        ("AWS_REGION".to_owned(), ecs.stack.region.clone()),
        ("AWS_DEFAULT_REGION".to_owned(), ecs.stack.region.clone()),
    ]);
    env.extend(
        definition
            .environment
            .iter()
            .map(|pair| (pair.name.clone(), pair.value.clone())),
    );
    for secret in &definition.secrets {
        let value = ecs
            .secrets
            .resolve(&secret.value_from)
            .map_err(|error| error.to_string())?;
        env.insert(secret.name.clone(), value);
    }
    let overrides = launch
        .overrides
        .get("containerOverrides")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|one| one.get("name").and_then(Value::as_str) == Some(&definition.name));
    let mut command = definition.command.clone();
    for one in overrides {
        if let Some(list) = one.get("command").and_then(Value::as_array) {
            command = Some(
                list.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            );
        }
        for pair in one
            .get("environment")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |name| pair.get(name).and_then(Value::as_str).unwrap_or_default();
            env.insert(text("name").to_owned(), text("value").to_owned());
        }
    }
    let task_memory = launch.task_definition.definition.memory.as_deref();
    let mebibytes = definition
        .memory
        .or_else(|| task_memory.and_then(|text| text.parse().ok()));
    let mut spec = ContainerSpec::new(
        &definition.name,
        image,
        ecs.log_path(launch, &definition.name),
    );
    spec.entrypoint = definition
        .entry_point
        .clone()
        .filter(|list| !list.is_empty());
    spec.command = command.filter(|list| !list.is_empty());
    spec.env = env.into_iter().collect();
    spec.user.clone_from(&definition.user);
    spec.working_directory
        .clone_from(&definition.working_directory);
    spec.readonly_root = definition.readonly_root_filesystem.unwrap_or(false);
    spec.memory = mebibytes.map(|mebibytes| u64::from(mebibytes) * 1024 * 1024);
    spec.reach.clone_from(&ecs.reach);
    Ok(spec)
}

impl Ecs {
    /// `logs/<family>-<revision>-<first of the task's id>-<container>.log`
    pub(super) fn log_path(&self, launch: &Launch, container: &str) -> PathBuf {
        let definition = &launch.task_definition;
        self.dir.join("logs").join(format!(
            "{}-{}-{}-{container}.log",
            definition.definition.family,
            definition.revision,
            launch.id.get(..8).unwrap_or_default()
        ))
    }
}
