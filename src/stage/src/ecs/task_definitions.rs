//! `RegisterTaskDefinition`, `DescribeTaskDefinition`, `DeregisterTaskDefinition`,
//! `ListTaskDefinitions`, `ListTaskDefinitionFamilies`

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, Ecs, client, invalid, list_answer, page,
    task_definition::{Definition, TaskDefinition},
};
use crate::wire::json::read;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Describe {
    task_definition: String,
    #[serde(default)]
    include: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    family_prefix: Option<String>,
    status: Option<String>,
    sort: Option<String>,
    next_token: Option<String>,
    max_results: Option<usize>,
}

impl Ecs {
    /// Every call makes a new revision, also of identical content.
    pub(super) fn register_task_definition(&self, input: Value) -> Answer {
        let mut definition = Definition::read(input)?;
        let tags = std::mem::take(&mut definition.tags);
        let family = definition.family.clone();
        let mut state = self.state();
        let revisions = state.task_definitions.entry(family.clone()).or_default();
        let revision = revisions.last().map_or(1, |latest| latest.revision + 1);
        let registered = Arc::new(TaskDefinition {
            arn: self.arn(&format!("task-definition/{family}:{revision}")),
            revision,
            definition,
            registered_at: self.clock.now(),
            registered_by: format!("arn:aws:iam::{}:user/stage", self.stack.account_id),
            deregistered_at: None,
            tags: tags.clone(),
        });
        revisions.push(Arc::clone(&registered));
        Ok(json!({ "taskDefinition": registered.describe(), "tags": tags }))
    }

    pub(super) fn describe_task_definition(&self, input: Value) -> Answer {
        let input: Describe = read(input)?;
        let found = self
            .state()
            .task_definition(&input.task_definition)
            .ok_or_else(|| client("Unable to describe task definition."))?;
        let mut answer = json!({ "taskDefinition": found.describe() });
        if input.include.iter().any(|what| what == "TAGS") {
            answer["tags"] = json!(found.tags);
        }
        Ok(answer)
    }

    /// The revision becomes INACTIVE; what runs from it goes on.
    pub(super) fn deregister_task_definition(&self, input: Value) -> Answer {
        let input: Describe = read(input)?;
        let name = input.task_definition.rsplit('/').next().unwrap_or_default();
        if !name.contains(':') {
            return Err(client("Revision is missing."));
        }
        let mut state = self.state();
        let found = state
            .task_definition(&input.task_definition)
            .ok_or_else(|| client("The specified task definition does not exist."))?;
        let mut changed = (*found).clone();
        changed.deregistered_at.get_or_insert(self.clock.now());
        let changed = Arc::new(changed);
        if let Some(revisions) = state.task_definitions.get_mut(&changed.definition.family)
            && let Some(revision) = revisions
                .iter_mut()
                .find(|r| r.revision == changed.revision)
        {
            *revision = Arc::clone(&changed);
        }
        Ok(json!({ "taskDefinition": changed.describe() }))
    }

    pub(super) fn list_task_definitions(&self, input: Value) -> Answer {
        let input: List = read(input)?;
        let status = input.status.as_deref().unwrap_or("ACTIVE");
        if !matches!(status, "ACTIVE" | "INACTIVE" | "DELETE_IN_PROGRESS") {
            return Err(invalid(format!("Invalid value '{status}' for status.")));
        }
        let family = input.family_prefix.as_deref();
        let mut arns: Vec<String> = self
            .state()
            .task_definitions
            .iter()
            // The member is called a prefix and is the whole family's name ("ListTaskDefinitions").
            .filter(|(name, _)| family.is_none_or(|family| *name == family))
            .flat_map(|(_, revisions)| revisions)
            .filter(|revision| revision.status() == status)
            .map(|revision| revision.arn.clone())
            .collect();
        if input.sort.as_deref() == Some("DESC") {
            arns.reverse();
        }
        let (arns, next) = page(arns, input.next_token.as_deref(), input.max_results, 100)?;
        Ok(list_answer("taskDefinitionArns", &arns, next))
    }

    pub(super) fn list_task_definition_families(&self, input: Value) -> Answer {
        let input: List = read(input)?;
        let status = input.status.as_deref().unwrap_or("ACTIVE");
        let prefix = input.family_prefix.unwrap_or_default();
        let families = self
            .state()
            .task_definitions
            .iter()
            .filter(|(name, _)| name.starts_with(&prefix))
            .filter(|(_, revisions)| {
                let active = revisions.iter().any(|r| r.deregistered_at.is_none());
                status == "ALL" || active == (status == "ACTIVE")
            })
            .map(|(name, _)| name.clone())
            .collect();
        let (families, next) = page(
            families,
            input.next_token.as_deref(),
            input.max_results,
            100,
        )?;
        Ok(list_answer("families", &families, next))
    }
}
