//! `release/release.toml`: what a user edits to release an application.
//!
//! The file says what the application is called, how traffic may move, and how a rehearsal is
//! set up. It holds nothing about an account: that is the target's job ([`crate::target`]).
//! Unknown keys are refused, because a key with a typing error that is silently ignored is a
//! setting that silently does not hold.

mod explain;
pub mod judge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rollout::alarm::{Comparison, MissingData, Statistic};
use rollout::lifecycle::LifecycleEvent;
use serde::Deserialize;

use crate::nearest::did_you_mean;

/// The whole of `release.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// What is released.
    pub application: Application,
    /// How traffic moves when no `--strategy` is given: a name of `strategies`.
    pub default_strategy: String,
    /// How long green may take to become healthy before the release stops the deployment and lets
    /// it be rolled back (in the target's time). CodeDeploy's own limit is an hour.
    #[serde(deserialize_with = "duration", default = "ten_minutes")]
    pub install_timeout: Duration,
    /// The named strategies.
    pub strategies: BTreeMap<String, Strategy>,
    /// Whether green is compared with blue while both serve.
    #[serde(default)]
    pub judge: judge::Judge,
    /// How a rehearsal is set up.
    #[serde(default)]
    pub stage: Stage,
}

/// What is released.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Application {
    /// The application's name: lower-case letters, digits and `-`, at most 32 characters, because
    /// load balancers, target groups and buckets are named after it.
    pub name: String,
    /// The container of the task definition that receives the traffic.
    pub container: String,
    /// The port it listens on.
    pub port: u16,
    /// What the load balancer asks to learn whether a task may have traffic.
    pub health_check: String,
}

/// One way of moving traffic.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Strategy {
    /// The CodeDeploy deployment configuration: one of the five predefined for ECS, or one of the
    /// account's own.
    pub deployment_config: String,
    /// The functions that CodeDeploy calls, by the lifecycle event they are hooked to.
    #[serde(default)]
    pub hooks: Hooks,
}

/// Functions by lifecycle event; a function's name is that of the target's `hooks`.
pub type Hooks = BTreeMap<LifecycleEvent, String>;

/// How a rehearsal is set up.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Stage {
    /// The version that serves before the release. Without it, the oldest bundle is taken.
    pub baseline: Option<String>,
    /// How many seconds pass on the stage while one passes here; 1 to 1000.
    pub speed: f64,
    /// Generated requests a second (of this world's seconds); 0 for none.
    pub traffic: f64,
    /// The path that generated traffic asks for.
    pub path: String,
    /// How long the baseline serves alone before the deployment starts (virtual).
    #[serde(deserialize_with = "duration")]
    pub before: Duration,
    /// How long traffic goes on after the deployment has ended (virtual).
    #[serde(deserialize_with = "duration")]
    pub after: Duration,
    /// How long blue stays at full scale after all traffic has moved (virtual, whole minutes).
    #[serde(deserialize_with = "duration")]
    pub termination_wait: Duration,
    /// Tasks of the service.
    pub desired_count: u32,
    /// How long a task that is taken out of the load balancer may finish its requests (virtual, at
    /// most an hour). At a high speed this is short for requests, which take real time.
    #[serde(deserialize_with = "duration")]
    pub deregistration_delay: Duration,
    /// How late metrics reach the alarms (virtual). The load balancer publishes a minute's counts
    /// some time after the minute.
    #[serde(deserialize_with = "duration")]
    pub metric_delay: Duration,
    /// Names of secrets with random values, as Terraform's variable `secrets` has them; templates find
    /// their ARNs in `target.secrets`, with `_` for `-`.
    pub secrets: Vec<String>,
    /// The alarms of the deployment group.
    pub alarms: Vec<Alarm>,
    /// The functions that strategies may hook in, by name.
    pub functions: BTreeMap<String, Function>,
}

impl Default for Stage {
    fn default() -> Self {
        Stage {
            baseline: None,
            speed: 10.0,
            traffic: 200.0,
            path: "/".to_owned(),
            before: Duration::from_secs(30),
            after: Duration::from_secs(20),
            termination_wait: Duration::from_mins(5),
            desired_count: 1,
            deregistration_delay: Duration::from_secs(30),
            metric_delay: Duration::from_mins(1),
            secrets: Vec::new(),
            alarms: Vec::new(),
            functions: BTreeMap::new(),
        }
    }
}

/// A Lambda function of the stage: what Terraform makes at AWS.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Function {
    /// Its deployment package, a zip for `provided.al2023`; a relative path begins in the directory of
    /// bundles.
    pub package: PathBuf,
    /// How long a call may take (real time): whole seconds, at most 15 minutes.
    #[serde(deserialize_with = "duration", default = "minute")]
    pub timeout: Duration,
    /// Memory in MB.
    #[serde(default = "least_memory")]
    pub memory: u32,
    /// Its environment variables. `HOOK_TEST_URL` is added, the URL of the test listener.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// A CloudWatch alarm on one of the load balancer's metrics.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names are CloudWatch's")]
pub struct Alarm {
    /// The alarm's name; with `per = "target-group"` the group's name is appended.
    pub name: String,
    /// A metric of the namespace `AWS/ApplicationELB`.
    pub metric: String,
    /// One alarm for each of the two target groups, or one for the load balancer.
    pub per: Per,
    /// How a period's data become one number.
    #[serde(default = "sum")]
    pub statistic: Statistic,
    /// One period: 10, 20, 30 or a multiple of 60 seconds.
    #[serde(deserialize_with = "duration", default = "minute")]
    pub period: Duration,
    /// How many periods are looked at.
    #[serde(default = "one")]
    pub evaluation_periods: u32,
    /// How many of them must breach; all, when it is not given.
    pub datapoints_to_alarm: Option<u32>,
    /// What a period's number is compared with.
    pub threshold: f64,
    /// How it is compared, in CloudWatch's words.
    #[serde(default = "greater")]
    pub comparison: Comparison,
    /// What a missing period counts as, in CloudWatch's words.
    #[serde(default = "not_breaching")]
    pub treat_missing_data: MissingData,
}

/// What an alarm's metric is measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each of the two target groups: their roles swap at every deployment, so both are watched.
    TargetGroup,
    /// The load balancer, the test listener's requests included.
    LoadBalancer,
}

fn sum() -> Statistic {
    Statistic::Sum
}
fn minute() -> Duration {
    Duration::from_mins(1)
}
fn ten_minutes() -> Duration {
    Duration::from_mins(10)
}
fn least_memory() -> u32 {
    128
}
fn one() -> u32 {
    1
}
fn greater() -> Comparison {
    Comparison::GreaterThanThreshold
}
fn not_breaching() -> MissingData {
    MissingData::NotBreaching
}

/// Reads `"90s"`, `"5m"` or `"2h"`.
fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is not a length of time; write seconds, minutes or hours, as in \"90s\", \"5m\" or \"2h\""
        ))
    })
}

/// A whole number and one of `s`, `m`, `h`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix(['s', 'm', 'h'])?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let unit = match text.as_bytes().last()? {
        b's' => 1,
        b'm' => 60,
        _ => 3600,
    };
    number
        .parse::<u32>()
        .ok()
        .map(|number| Duration::from_secs(u64::from(number) * unit))
}

/// Why `release.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}; give the right file with --config")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it must be.
    #[error("{path}:{line}:{column}: {message}{snippet}")]
    Invalid {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong, with the key's path.
        message: String,
        /// The line itself with a mark, or nothing.
        snippet: String,
    },
    /// A value that parses but cannot hold.
    #[error("{path}: `{key}`: {message}")]
    Value {
        /// The file.
        path: String,
        /// The key's path.
        key: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// `--strategy` names none of the strategies.
    #[error("there is no strategy `{name}`{hint} Known: {known}")]
    UnknownStrategy {
        /// What was asked for.
        name: String,
        /// The nearest name.
        hint: String,
        /// All names.
        known: String,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Config::parse(&text, path)
    }

    /// Checks a configuration's text; `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let config: Config =
            toml::from_str(text).map_err(|error| explain::explain(text, path, &error))?;
        config.check(path)?;
        Ok(config)
    }

    /// The strategy of that name, or the default one.
    pub fn strategy(&self, name: Option<&str>) -> Result<(&str, &Strategy), ConfigError> {
        let name = name.unwrap_or(&self.default_strategy);
        self.strategies
            .get_key_value(name)
            .map(|(name, strategy)| (name.as_str(), strategy))
            .ok_or_else(|| {
                let names = self.strategies.keys().map(String::as_str);
                let near = did_you_mean(name, names);
                ConfigError::UnknownStrategy {
                    name: name.to_owned(),
                    hint: if near.is_empty() {
                        ".".to_owned()
                    } else {
                        near
                    },
                    known: self
                        .strategies
                        .keys()
                        .cloned()
                        .collect::<Vec<_>>()
                        .join(", "),
                }
            })
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let wrong = |key: &str, message: String| {
            Err(ConfigError::Value {
                path: path.display().to_string(),
                key: key.to_owned(),
                message,
            })
        };
        let name = &self.application.name;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty()
            || name.len() > 24
            || !name.bytes().all(plain)
            || name.starts_with('-')
            || name.ends_with('-')
        {
            return wrong(
                "application.name",
                format!(
                    "`{name}` cannot name a target group and a bucket: use 1 to 24 lower-case letters, digits and `-`"
                ),
            );
        }
        if self.application.port == 0 {
            return wrong("application.port", "a port is 1 to 65535".to_owned());
        }
        if !self.application.health_check.starts_with('/') {
            return wrong(
                "application.health-check",
                format!(
                    "`{}` is not a path: it begins with `/`",
                    self.application.health_check
                ),
            );
        }
        if !self.strategies.contains_key(&self.default_strategy) {
            let names = self.strategies.keys().map(String::as_str);
            return wrong(
                "default-strategy",
                format!(
                    "there is no [strategies.{}]{}",
                    self.default_strategy,
                    did_you_mean(&self.default_strategy, names)
                ),
            );
        }
        if let Some((key, message)) = self.judge.mistake() {
            return wrong(key, message);
        }
        let stage = &self.stage;
        if !(1.0..=1000.0).contains(&stage.speed) {
            return wrong(
                "stage.speed",
                format!("{} is not between 1 and 1000", stage.speed),
            );
        }
        if !(0.0..=100_000.0).contains(&stage.traffic) {
            return wrong(
                "stage.traffic",
                format!(
                    "{} is not between 0 and 100000 requests a second",
                    stage.traffic
                ),
            );
        }
        if !stage.path.starts_with('/') {
            return wrong(
                "stage.path",
                format!("`{}` does not begin with `/`", stage.path),
            );
        }
        if !(1..=100).contains(&stage.desired_count) {
            return wrong(
                "stage.desired-count",
                format!("{} is not between 1 and 100 tasks", stage.desired_count),
            );
        }
        let wait = stage.termination_wait.as_secs();
        if !wait.is_multiple_of(60) || wait > 2880 * 60 {
            return wrong(
                "stage.termination-wait",
                "CodeDeploy waits whole minutes, at most 2880".to_owned(),
            );
        }
        if stage.deregistration_delay.as_secs() > 3600 {
            return wrong(
                "stage.deregistration-delay",
                "a load balancer waits at most an hour".to_owned(),
            );
        }
        for (index, alarm) in stage.alarms.iter().enumerate() {
            if let Some((key, message)) = alarm.mistake() {
                return wrong(&format!("stage.alarms[{index}].{key}"), message);
            }
        }
        for (name, strategy) in &self.strategies {
            if let Some((event, message)) = self.mistaken_hook(strategy) {
                return wrong(&format!("strategies.{name}.hooks.{event}"), message);
            }
        }
        Ok(())
    }

    /// The first hook that CodeDeploy would not have, or that cannot be rehearsed, and why.
    fn mistaken_hook(&self, strategy: &Strategy) -> Option<(LifecycleEvent, String)> {
        for (&event, function) in &strategy.hooks {
            if !event.is_hook() {
                let message =
                    "CodeDeploy runs this event itself; hook one of the others".to_owned();
                return Some((event, message));
            }
            if !self.stage.functions.contains_key(function) {
                let names = self.stage.functions.keys().map(String::as_str);
                let near = did_you_mean(function, names);
                return Some((
                    event,
                    format!("there is no [stage.functions.{function}]{near}"),
                ));
            }
        }
        None
    }
}

impl Alarm {
    /// The first key whose value cannot hold, and why (CloudWatch API reference, `PutMetricAlarm`).
    fn mistake(&self) -> Option<(&'static str, String)> {
        let period = self.period.as_secs();
        if !([10, 20, 30].contains(&period) || (period > 0 && period.is_multiple_of(60))) {
            let message = "CloudWatch knows periods of 10, 20, 30 and multiples of 60 seconds";
            return Some(("period", message.to_owned()));
        }
        if self.evaluation_periods == 0 {
            return Some(("evaluation-periods", "at least 1".to_owned()));
        }
        let datapoints = self.datapoints_to_alarm.unwrap_or(1);
        if !(1..=self.evaluation_periods).contains(&datapoints) {
            let message = format!(
                "{datapoints} is not between 1 and evaluation-periods ({})",
                self.evaluation_periods
            );
            return Some(("datapoints-to-alarm", message));
        }
        None
    }
}

/// The templates that belong to a configuration: the directory beside it.
pub fn templates_beside(config: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new(".")).join("templates")
}

#[cfg(test)]
mod tests;
