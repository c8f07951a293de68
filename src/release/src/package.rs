//! What is released: a verified bundle, with the configuration and the templates it carries.
//!
//! A bundle is whole: release.toml and the templates lie in it, under its digest, so that what was
//! rehearsed is what is deployed. `--config FILE` takes both from a working tree instead, to try a
//! change without building a bundle; the run says so.

use std::path::{Path, PathBuf};

use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput;
use oci::bundle::Bundle;
use rollout::appspec::AppSpec;

use crate::bundles;
use crate::config::{self, Config, Hooks};
use crate::definition;
use crate::error::Error;
use crate::target::Target;
use crate::template::{self, BundleVariables, HookVariables, Variables};

/// A bundle, opened and verified, and what is rendered with it.
#[derive(Debug)]
pub struct Package {
    /// The bundle.
    pub bundle: Bundle,
    /// Its configuration, or that of `--config`.
    pub config: Config,
    /// Where the configuration came from.
    pub config_path: PathBuf,
    /// Where the templates are.
    pub templates: PathBuf,
}

impl Package {
    /// Opens the bundle of a version and verifies every digest in it.
    pub fn open(directory: &Path, version: &str, config: Option<&Path>) -> Result<Package, Error> {
        let path = bundles::find(directory, version)?;
        let bundle = Bundle::open(&path).map_err(|error| Error::Bundle {
            dir: path.clone(),
            message: error.to_string(),
        })?;
        if bundle.version() != version {
            return Err(Error::Bundle {
                dir: path,
                message: format!("it says it is version {}", bundle.version()),
            });
        }
        let config_path = config.map_or_else(|| bundle.release_toml(), Path::to_owned);
        Ok(Package {
            config: Config::load(&config_path)?,
            templates: config::templates_beside(&config_path),
            config_path,
            bundle,
        })
    }

    /// The image by digest, as the target pulls it.
    pub fn image(&self, target: &Target) -> String {
        format!("{}@{}", target.repository, self.bundle.image_digest())
    }

    /// The task definition for a target: rendered, and read strictly.
    pub fn definition(&self, target: &Target) -> Result<RegisterTaskDefinitionInput, Error> {
        let (path, text) = self.render(template::TASK_DEFINITION, target, None)?;
        definition::parse(&text).map_err(|source| Error::Definition {
            template: path,
            source,
        })
    }

    /// The AppSpec for a target, a strategy's hooks and a registered task definition: its text, checked
    /// against the definition whose containers it names.
    pub fn appspec(
        &self,
        target: &Target,
        hooks: &Hooks,
        definition: &RegisterTaskDefinitionInput,
        arn: &str,
    ) -> Result<String, Error> {
        let hooks = resolve(hooks, target)?;
        let (path, text) = self.render(template::APPSPEC, target, Some((arn, hooks)))?;
        let wrong = |message: String| Error::AppSpec {
            template: path.clone(),
            message,
        };
        let appspec = AppSpec::parse(&text).map_err(|error| wrong(error.to_string()))?;
        definition::check_appspec(&appspec, definition).map_err(wrong)?;
        Ok(text)
    }

    /// One template's text and path. An AppSpec is of a deployment: a task definition and hooks.
    pub fn render(
        &self,
        name: &str,
        target: &Target,
        deployment: Option<(&str, Vec<HookVariables<'_>>)>,
    ) -> Result<(PathBuf, String), Error> {
        let path = self.templates.join(name);
        let image = self.image(target);
        let digest = self.bundle.digest().to_string();
        let (task_definition_arn, hooks) = deployment.unzip();
        let text = template::render(
            &path,
            &Variables {
                version: self.bundle.version(),
                image: &image,
                application: (&self.config.application).into(),
                bundle: BundleVariables {
                    digest: &digest,
                    revision: self.bundle.revision(),
                },
                target,
                task_definition_arn,
                hooks,
            },
        )?;
        Ok((path, text))
    }
}

/// The hooks with the target's names for their functions.
fn resolve<'a>(hooks: &Hooks, target: &'a Target) -> Result<Vec<HookVariables<'a>>, Error> {
    hooks
        .iter()
        .map(|(event, name)| match target.hooks.get(name) {
            Some(function) => Ok(HookVariables {
                event: event.as_str(),
                function,
            }),
            None => Err(Error::UnknownFunction {
                name: name.clone(),
                event: event.as_str(),
                target: target.name.clone(),
                known: match target.hooks.keys().map(String::as_str).collect::<Vec<_>>() {
                    names if names.is_empty() => "none".to_owned(),
                    names => names.join(", "),
                },
            }),
        })
        .collect()
}

/// The ARN that the next revision of a family will have at the earliest; for showing and checking
/// an AppSpec before anything is registered.
pub fn foreseen_arn(target: &Target) -> String {
    format!(
        "arn:aws:ecs:{}:{}:task-definition/{}:1",
        target.region, target.account_id, target.task.family
    )
}
