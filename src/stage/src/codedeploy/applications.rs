//! `CreateApplication`, `GetApplication`, `BatchGetApplications`, `ListApplications`,
//! `UpdateApplication`, `DeleteApplication`

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, CodeDeploy, list_answer, names, page, refuse,
    state::{Application, Tag},
    tags::check_tags,
};
use crate::wire::json::{read, time};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    application_name: Option<String>,
    compute_platform: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    new_application_name: Option<String>,
    #[serde(default)]
    application_names: Vec<String>,
    next_token: Option<String>,
}

impl CodeDeploy {
    pub(super) fn create_application(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        // The API's default is EC2, and a group for ECS then fails with a misleading message.
        let platform = input.compute_platform.as_deref().unwrap_or("Server");
        if !matches!(platform, "Server" | "Lambda" | "ECS") {
            return Err(refuse(
                "InvalidComputePlatformException",
                "The computePlatform is invalid. The computePlatform should be Lambda, Server, or ECS.",
            ));
        }
        check_tags(&input.tags)?;
        let mut state = self.state();
        if state.applications.contains_key(name) {
            return Err(refuse(
                "ApplicationAlreadyExistsException",
                format!("An application with the name '{name}' already exists"),
            ));
        }
        let id = crate::wire::uuid();
        state.applications.insert(
            name.to_owned(),
            Application {
                id: id.clone(),
                name: name.to_owned(),
                compute_platform: platform.to_owned(),
                created: self.clock.now(),
                tags: input.tags,
                groups: BTreeMap::new(),
                revisions: Vec::new(),
            },
        );
        Ok(json!({ "applicationId": id }))
    }

    pub(super) fn get_application(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        let state = self.state();
        let application = state.application(name, &self.stack.account_id)?;
        Ok(json!({ "application": show(application) }))
    }

    pub(super) fn batch_get_applications(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        if input.application_names.is_empty() {
            return Err(refuse(
                "ApplicationNameRequiredException",
                "The required application name is missing",
            ));
        }
        if input.application_names.len() > 100 {
            return Err(refuse(
                "BatchLimitExceededException",
                "The maximum number of names or IDs allowed for this request (100) was exceeded.",
            ));
        }
        let state = self.state();
        let mut found = Vec::new();
        for name in &input.application_names {
            let name = names::application(Some(name))?;
            found.push(show(state.application(name, &self.stack.account_id)?));
        }
        Ok(json!({ "applicationsInfo": found }))
    }

    pub(super) fn list_applications(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let names = self.state().applications.keys().cloned().collect();
        let (names, next) = page(names, input.next_token.as_deref(), 100)?;
        Ok(list_answer("applications", &names, next))
    }

    pub(super) fn update_application(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        let Some(new) = input.new_application_name.as_deref() else {
            return Ok(json!({}));
        };
        let new = names::application(Some(new))?;
        let mut state = self.state();
        state.application(name, &self.stack.account_id)?;
        if new == name {
            return Ok(json!({}));
        }
        if state.applications.contains_key(new) {
            return Err(refuse(
                "ApplicationAlreadyExistsException",
                format!("An application with the name '{new}' already exists"),
            ));
        }
        if let Some(mut application) = state.applications.remove(name) {
            new.clone_into(&mut application.name);
            state.applications.insert(new.to_owned(), application);
        }
        for deployment in state
            .deployments
            .values_mut()
            .filter(|d| d.application == name)
        {
            new.clone_into(&mut deployment.application);
        }
        Ok(json!({}))
    }

    /// Deleting what is not there is no error, as on AWS.
    pub(super) fn delete_application(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        self.state().applications.remove(name);
        Ok(json!({}))
    }
}

fn show(application: &Application) -> Value {
    json!({
        "applicationId": application.id,
        "applicationName": application.name,
        "createTime": time(application.created),
        "linkedToGitHub": false,
        "computePlatform": application.compute_platform,
    })
}
