//! `TagResource`, `UntagResource`, `ListTagsForResource`: their members begin with capitals

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, CodeDeploy, names, refuse,
    state::{State, Tag},
};
use crate::wire::{ApiError, json::read};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    resource_arn: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl CodeDeploy {
    pub(super) fn tag_resource(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        if input.tags.is_empty() {
            return Err(refuse("TagRequiredException", "A tag was not specified."));
        }
        check_tags(&input.tags)?;
        self.change_tags(input.resource_arn.as_deref(), |tags| {
            tags.retain(|old| !input.tags.iter().any(|new| new.key == old.key));
            tags.extend(input.tags.iter().cloned());
        })?;
        Ok(json!({}))
    }

    pub(super) fn untag_resource(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        self.change_tags(input.resource_arn.as_deref(), |tags| {
            tags.retain(|tag| !input.tag_keys.contains(&tag.key));
        })?;
        Ok(json!({}))
    }

    pub(super) fn list_tags_for_resource(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let mut found = Vec::new();
        self.change_tags(input.resource_arn.as_deref(), |tags| found.clone_from(tags))?;
        Ok(json!({ "Tags": found }))
    }

    fn change_tags(
        &self,
        arn: Option<&str>,
        change: impl FnOnce(&mut Vec<Tag>),
    ) -> Result<(), ApiError> {
        let arn = arn.filter(|arn| !arn.is_empty()).ok_or_else(|| {
            refuse(
                "ResourceArnRequiredException",
                "The ARN of a resource is required, but was not found.",
            )
        })?;
        let prefix = self.stack.arn("codedeploy", "");
        let resource = arn
            .strip_prefix(&prefix)
            .ok_or_else(|| refuse("InvalidArnException", "The specified ARN is not valid"))?;
        let mut state = self.state();
        change(tags_of(&mut state, resource, &self.stack.account_id)?);
        Ok(())
    }
}

/// The tags of `application:<name>`, `deploymentgroup:<app>/<group>` or `deploymentconfig:<name>`.
fn tags_of<'a>(
    state: &'a mut State,
    resource: &str,
    account: &str,
) -> Result<&'a mut Vec<Tag>, ApiError> {
    match resource.split_once(':') {
        Some(("application", name)) => Ok(&mut state.application_mut(name, account)?.tags),
        Some(("deploymentgroup", path)) => {
            let (application, group) = path
                .split_once('/')
                .ok_or_else(|| refuse("InvalidArnException", "The specified ARN is not valid"))?;
            let groups = &mut state.application_mut(application, account)?.groups;
            Ok(&mut groups
                .get_mut(group)
                .ok_or_else(|| names::no_group(group))?
                .tags)
        }
        Some(("deploymentconfig", name)) => {
            let config = state
                .configs
                .get_mut(name)
                .ok_or_else(|| names::no_config(name))?;
            Ok(&mut config.tags)
        }
        _ => Err(refuse(
            "ArnNotSupportedException",
            "The specified ARN is not supported. For example, it might be an ARN for a resource that is not expected.",
        )),
    }
}

/// At most 50 tags, with keys of 1–128 and values of up to 256 characters.
pub(super) fn check_tags(tags: &[Tag]) -> Result<(), ApiError> {
    let valid = tags.len() <= 50
        && tags.iter().all(|tag| {
            (1..=128).contains(&tag.key.chars().count()) && tag.value.chars().count() <= 256
        });
    if valid {
        return Ok(());
    }
    Err(refuse(
        "InvalidTagsToAddException",
        "The specified tags are not valid.",
    ))
}
