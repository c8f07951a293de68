//! `TagResource`, `UntagResource`, `ListTagsForResource`

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Ecs, client, invalid, short_name, state::State, task_definition::Tag};
use crate::wire::{ApiError, json::read};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    resource_arn: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl Ecs {
    pub(super) fn tag_resource(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        self.state().change_tags(&input.resource_arn, |tags| {
            tags.retain(|old| !input.tags.iter().any(|new| new.key == old.key));
            tags.extend(input.tags.iter().cloned());
        })?;
        Ok(json!({}))
    }

    pub(super) fn untag_resource(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        self.state().change_tags(&input.resource_arn, |tags| {
            tags.retain(|tag| !input.tag_keys.contains(&tag.key));
        })?;
        Ok(json!({}))
    }

    pub(super) fn list_tags_for_resource(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let mut found = Vec::new();
        self.state()
            .change_tags(&input.resource_arn, |tags| found.clone_from(tags))?;
        Ok(json!({ "tags": found }))
    }
}

impl State {
    fn change_tags(
        &mut self,
        arn: &str,
        change: impl FnOnce(&mut Vec<Tag>),
    ) -> Result<(), ApiError> {
        let kind = arn
            .strip_prefix("arn:aws:ecs:")
            .and_then(|rest| rest.splitn(3, ':').nth(2))
            .and_then(|resource| resource.split('/').next())
            .ok_or_else(|| invalid(format!("Invalid identifier: {arn} is not an ARN of ECS.")))?;
        let missing = || client("The specified resource does not exist.");
        let name = short_name(arn);
        match kind {
            "cluster" => change(&mut self.clusters.get_mut(name).ok_or_else(missing)?.tags),
            "service" => {
                let service = self
                    .services
                    .iter_mut()
                    .find(|(key, _)| arn.ends_with(&format!("/{}/{}", key.cluster, key.service)));
                change(&mut service.ok_or_else(missing)?.1.tags);
            }
            "task" => change(&mut self.tasks.get_mut(name).ok_or_else(missing)?.tags),
            "task-definition" => {
                let found = self.task_definition(arn).ok_or_else(missing)?;
                let revision = self
                    .task_definitions
                    .get_mut(&found.definition.family)
                    .and_then(|all| all.iter_mut().find(|one| one.revision == found.revision))
                    .ok_or_else(missing)?;
                let mut changed = (*found).clone();
                change(&mut changed.tags);
                *revision = changed.into();
            }
            _ => return Err(invalid(format!("{kind} cannot be tagged on this stage."))),
        }
        Ok(())
    }
}
