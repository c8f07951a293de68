//! Where a release goes.
//!
//! A stage and an AWS stack are the same struct. The stage differs in one field, `endpoint_url`:
//! with it the calls go to that address, signed with the stage's own credentials; without it they
//! go to AWS with the credentials of the environment. Terraform's outputs and `release stage` both
//! write this as a JSON file, and `--target FILE` reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rollout::Timestamp;
use serde::{Deserialize, Serialize};

use crate::announce::StageClock;
use crate::config::Config;
use crate::nearest::did_you_mean;

/// A cluster, a service with the CodeDeploy controller, and everything a release needs to know of
/// what surrounds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are AWS's")]
pub struct Target {
    /// What people call it: `stage`, or the stack's name.
    pub name: String,
    /// AWS Region, as `eu-west-1`.
    pub region: String,
    /// The twelve digits of the account.
    pub account_id: String,
    /// Where the APIs are, if not at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// The stage's time and place, if this is a stage of this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<StageInfo>,
    /// ECS cluster (name).
    pub cluster: String,
    /// ECS service (name).
    pub service: String,
    /// CodeDeploy application.
    pub application: String,
    /// CodeDeploy deployment group.
    pub deployment_group: String,
    /// S3 bucket for `AppSpecs`, records and manifests.
    pub bucket: String,
    /// S3 bucket for static assets, if it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_bucket: Option<String>,
    /// Where images are pushed, `registry/repository` without a tag.
    pub repository: String,
    /// What the task definition needs to know.
    pub task: Task,
    /// The database of the application.
    pub database: Database,
    /// ARNs of further secrets of the application, by names of the stack's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// The names of the two target groups.
    pub target_groups: Vec<String>,
    /// How CloudWatch calls the load balancer and its target groups, for the judge; without it
    /// nothing is judged at AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricNames>,
    /// The alarms of the deployment group.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// The functions that a strategy may hook in: name or ARN, by the name that release.toml uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<String, String>,
    /// CodeDeploy's deployment configurations by strategy, where the target has its own: they come
    /// before those of release.toml.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub strategies: BTreeMap<String, String>,
    /// Where users and testers reach the application.
    pub urls: Urls,
}

/// The stage's time and place, so that another process can show the one and find logs in the other:
/// virtual = origin + (real − origin) × speed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageInfo {
    /// Virtual seconds in one real second.
    pub speed: f64,
    /// When virtual and real time were the same: milliseconds since the Unix epoch.
    pub origin_ms: u64,
    /// The stage's directory.
    pub directory: PathBuf,
}

impl StageInfo {
    /// The stage's clock.
    pub fn clock(&self) -> StageClock {
        StageClock {
            speed: self.speed,
            origin: Timestamp::from_millis(self.origin_ms),
        }
    }
}

/// What a task definition of this target refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are AWS's")]
pub struct Task {
    /// Family of the task definitions.
    pub family: String,
    /// The role that pulls the image, writes logs and reads secrets.
    pub execution_role_arn: String,
    /// The role of the application itself.
    pub task_role_arn: String,
    /// Subnets of one-off tasks (migrations).
    pub subnets: Vec<String>,
    /// Security groups of one-off tasks.
    pub security_groups: Vec<String>,
    /// Whether one-off tasks get a public address; needed in subnets without NAT.
    #[serde(default)]
    pub assign_public_ip: bool,
    /// CloudWatch Logs group.
    pub log_group: String,
}

/// The database of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database name.
    pub name: String,
    /// Role.
    pub user: String,
    /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`.
    pub sslmode: String,
    /// The secret that holds the password, as `valueFrom` of a container definition's secret.
    pub secret_arn: String,
}

/// The dimensions of the load balancer's metrics: the ends of ARNs, Terraform's `arn_suffix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricNames {
    /// `app/NAME/ID`
    pub load_balancer: String,
    /// `targetgroup/NAME/ID`, by the target group's name.
    pub target_groups: BTreeMap<String, String>,
}

/// Where the application is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Urls {
    /// Production listener.
    pub production: String,
    /// Test listener, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Where static assets are served, if somewhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<String>,
}

/// Why a target file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The file cannot be read.
    #[error(
        "cannot read the target {path}: {source}; `release stage` and terraform's outputs write such files"
    )]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a target.
    #[error("{path}:{line}:{column}: {message}")]
    Invalid {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// The file cannot be written.
    #[error("cannot write the target to {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Target {
    /// Reads a target file.
    pub fn load(path: &Path) -> Result<Target, TargetError> {
        let text = std::fs::read_to_string(path).map_err(|source| TargetError::Read {
            path: path.display().to_string(),
            source,
        })?;
        serde_json::from_str(&text).map_err(|error| TargetError::Invalid {
            path: path.display().to_string(),
            line: error.line(),
            column: error.column(),
            message: explain(&error),
        })
    }

    /// Writes the target to a file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), TargetError> {
        let failed = |source: std::io::Error| TargetError::Write {
            path: path.display().to_string(),
            source,
        };
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        text.push('\n');
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// A stand-in with what a configuration has on every stage.
    pub fn stand_in(config: &Config) -> Target {
        let mut target = Target::example(&config.application.name);
        let made = secrets(&config.stage.secrets, |name| {
            format!(
                "arn:aws:secretsmanager:{}:{}:secret:{name}-000000",
                target.region, target.account_id
            )
        });
        target.secrets = made;
        target.with_functions(config.stage.functions.keys())
    }

    /// The same with the functions that a configuration has for a stage.
    pub fn with_functions<'a>(mut self, names: impl IntoIterator<Item = &'a String>) -> Target {
        self.hooks = names
            .into_iter()
            .map(|name| {
                let function = function_name(&self.application, name);
                let place = format!("{}:{}", self.region, self.account_id);
                let arn = format!("arn:aws:lambda:{place}:function:{function}");
                (name.clone(), arn)
            })
            .collect();
        self
    }

    /// A stand-in for `release render` without `--target`: what the templates would be given on a
    /// stage.
    pub fn example(application: &str) -> Target {
        let region = "eu-west-1".to_owned();
        let account = "000000000000".to_owned();
        Target {
            name: "stage".to_owned(),
            cluster: application.to_owned(),
            service: application.to_owned(),
            application: application.to_owned(),
            deployment_group: application.to_owned(),
            endpoint_url: Some("http://127.0.0.1:0".to_owned()),
            stage: None,
            bucket: format!("{application}-releases"),
            static_bucket: None,
            repository: format!("127.0.0.1:0/{application}"),
            task: Task {
                family: application.to_owned(),
                execution_role_arn: format!("arn:aws:iam::{account}:role/{application}-execution"),
                task_role_arn: format!("arn:aws:iam::{account}:role/{application}-task"),
                subnets: vec!["subnet-00000000000000001".to_owned()],
                security_groups: vec!["sg-00000000000000001".to_owned()],
                assign_public_ip: false,
                log_group: format!("/ecs/{application}"),
            },
            database: Database {
                host: "127.0.0.1".to_owned(),
                port: 5432,
                name: application.replace('-', "_"),
                user: application.replace('-', "_"),
                sslmode: "disable".to_owned(),
                secret_arn: format!(
                    "arn:aws:secretsmanager:{region}:{account}:secret:{application}-database-000000"
                ),
            },
            secrets: BTreeMap::new(),
            target_groups: vec![format!("{application}-a"), format!("{application}-b")],
            metrics: None,
            alarms: Vec::new(),
            hooks: BTreeMap::new(),
            strategies: BTreeMap::new(),
            urls: Urls {
                production: "http://127.0.0.1:0".to_owned(),
                test: Some("http://127.0.0.1:0".to_owned()),
                assets: None,
            },
            region,
            account_id: account,
        }
    }
}

/// What a function is called on a stage and by our Terraform. The prefix is what CodeDeploy's limited
/// service role may call (managed policy `AWSCodeDeployRoleForECSLimited`).
pub fn function_name(application: &str, name: &str) -> String {
    format!("CodeDeployHook_{application}-{name}")
}

/// Secrets by the names that templates use: `session-key` is `session_key` there.
pub fn secrets(names: &[String], arn: impl Fn(&str) -> String) -> BTreeMap<String, String> {
    let entry = |name: &String| (name.replace('-', "_"), arn(name));
    names.iter().map(entry).collect()
}

/// The parser's message with the nearest name for an unknown field; its own " at line …" is cut,
/// because the place stands in front.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(message, _)| message);
    let Some(rest) = text.strip_prefix("unknown field `") else {
        return text.to_owned();
    };
    let name = rest.split('`').next().unwrap_or_default();
    let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
    format!("unknown key `{name}`{}", did_you_mean(name, known))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_target_survives_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/target.json");
        let target = Target::example("demo");
        target.save(&path).unwrap();
        assert_eq!(Target::load(&path).unwrap(), target);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_nearest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("target.json");
        let text = serde_json::to_string(&Target::example("demo")).unwrap();
        std::fs::write(&path, text.replace("\"bucket\"", "\"buckets\"")).unwrap();
        let error = Target::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("unknown key `buckets`; did you mean `bucket`?"),
            "{error}"
        );
    }
}
