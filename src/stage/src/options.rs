//! What one can say to a stage before it starts.
//!
//! Everything has a default that suits a rehearsal. The stack is that part of an AWS account which
//! exists before a release program comes: Terraform makes it there, [`crate::Stage::start`] makes
//! it here. What a release program (or Terraform) creates through the APIs of CodeDeploy and ECS
//! is *not* in it, but for the names under which the two agree to look for it.

use std::{path::PathBuf, time::Duration};

use crate::StageError;

/// How to start a stage.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is written. `None`: a new directory under the system's temporary one,
    /// removed by [`crate::Stage::stop`].
    pub dir: Option<PathBuf>,
    /// How many times faster than AWS the stage waits; at least 1. It scales every interval that
    /// AWS would wait and nothing else.
    pub speed: f64,
    /// The loopback ports.
    pub ports: Ports,
    /// How tasks are isolated.
    pub runtime: crate::runtime::Kind,
    /// The directory with PostgreSQL's programs `postgres` and `initdb`; `None` looks for them.
    pub postgres_bin: Option<PathBuf>,
    /// The access key of the stage's only user.
    pub access_key: String,
    /// The secret key of that user; every request must be signed with it.
    pub secret_key: String,
    /// An endpoint `http://HOST:PORT` that serves the rest of an AWS account, such as an emulator: all
    /// but CodeDeploy, ECS and the registry is passed on to it, and load balancer, alarms, database
    /// and secrets are those that are made there. The account is its account, the production and test
    /// ports must be those of the load balancer's listeners, and of `stack` the Region counts.
    pub upstream: Option<String>,
    /// The AWS stack that the stage stands for.
    pub stack: Stack,
}

/// Loopback ports; 0 lets the system choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ports {
    /// The AWS APIs and the image registry.
    pub api: u16,
    /// The production listener of the load balancer.
    pub production: u16,
    /// The test listener of the load balancer.
    pub test: u16,
    /// PostgreSQL.
    pub postgres: u16,
}

/// What exists in the account before a release: names, load balancer, target groups, alarms.
#[derive(Debug, Clone)]
pub struct Stack {
    /// The name that others are formed of.
    pub name: String,
    /// The region all ARNs and signatures carry.
    pub region: String,
    /// The account, 12 digits.
    pub account_id: String,
    /// The name a release program gives its ECS cluster.
    pub cluster: String,
    /// The name a release program gives its ECS service.
    pub service: String,
    /// The two target groups; the first is behind the production listener at the start.
    pub target_groups: [String; 2],
    /// Whether a deployment group may name other target groups and listeners than these: for a tool
    /// that makes groups for a load balancer elsewhere (Terraform, where ELB is another endpoint's).
    /// A deployment of such a group fails.
    pub foreign_target_groups: bool,
    /// How the load balancer checks targets, in virtual time.
    pub health_check: HealthCheck,
    /// How long a target drains after it was deregistered, in virtual time (ELB: 0–3600 s).
    pub deregistration_delay: Duration,
    /// How long the load balancer waits on an idle connection, in real time (ELB: 1–4000 s).
    pub idle_timeout: Duration,
    /// How late the load balancer's metrics arrive at CloudWatch, in virtual time.
    pub metric_delay: Duration,
    /// The alarms on the load balancer's metrics that exist. Others can be put while the stage runs.
    pub alarms: Vec<rollout::alarm::Definition>,
    /// The S3 buckets that exist.
    pub buckets: Vec<String>,
}

/// A target group's health check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path asked for.
    pub path: String,
    /// Between two checks of one target, virtual (ELB: 5–300 s).
    pub interval: Duration,
    /// How long an answer may take, real (ELB: 2–120 s).
    pub timeout: Duration,
    /// Successes in a row that make an unhealthy target healthy (ELB: 2–10).
    pub healthy: u32,
    /// Failures in a row that make a healthy target unhealthy (ELB: 2–10).
    pub unhealthy: u32,
    /// The status codes that pass, as in ELB's matcher: `200`, `200,202` or `200-299`.
    pub matcher: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: None,
            speed: 1.0,
            ports: Ports::default(),
            runtime: crate::runtime::Kind::Auto,
            postgres_bin: None,
            access_key: "stage".into(),
            secret_key: "stage".into(),
            upstream: None,
            stack: Stack::default(),
        }
    }
}

impl Default for Stack {
    fn default() -> Self {
        Self::named("serein")
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/healthz/ready".into(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            healthy: 2,
            unhealthy: 2,
            matcher: "200".into(),
        }
    }
}

impl Options {
    pub(crate) fn validate(&self) -> Result<(), StageError> {
        if !(self.speed.is_finite() && self.speed >= 1.0) {
            return Err(StageError::Option {
                what: "speed",
                problem: format!("{} is not a number of at least 1", self.speed),
            });
        }
        if self.stack.target_groups[0] == self.stack.target_groups[1] {
            return Err(StageError::Option {
                what: "target groups",
                problem: format!("both are named {}", self.stack.target_groups[0]),
            });
        }
        Ok(())
    }
}

impl Stack {
    /// A stack whose parts all have `name` in their names, and no alarms.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            region: "eu-west-1".into(),
            account_id: "000000000000".into(),
            cluster: name.into(),
            service: name.into(),
            target_groups: [format!("{name}-a"), format!("{name}-b")],
            foreign_target_groups: false,
            health_check: HealthCheck::default(),
            deregistration_delay: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(1),
            metric_delay: Duration::from_mins(1),
            alarms: Vec::new(),
            buckets: vec![format!("{name}-releases")],
        }
    }

    /// `arn:aws:<service>:<region>:<account>:<resource>`.
    pub fn arn(&self, service: &str, resource: &str) -> String {
        format!(
            "arn:aws:{service}:{}:{}:{resource}",
            self.region, self.account_id
        )
    }

    /// The value of the dimension `LoadBalancer`: `app/<name>/<id>`.
    pub fn load_balancer_dimension(&self) -> String {
        format!(
            "app/{}/{}",
            self.name,
            hex_id(&["loadbalancer", &self.name])
        )
    }

    /// The ARN of the load balancer.
    pub fn load_balancer_arn(&self) -> String {
        self.arn(
            "elasticloadbalancing",
            &format!("loadbalancer/{}", self.load_balancer_dimension()),
        )
    }

    /// The value of the dimension `TargetGroup`: `targetgroup/<name>/<id>`.
    pub fn target_group_dimension(&self, target_group: &str) -> String {
        format!(
            "targetgroup/{target_group}/{}",
            hex_id(&["targetgroup", target_group])
        )
    }

    /// The ARN of a target group.
    pub fn target_group_arn(&self, target_group: &str) -> String {
        self.arn(
            "elasticloadbalancing",
            &self.target_group_dimension(target_group),
        )
    }

    /// The ARN of the production listener.
    pub fn production_listener_arn(&self) -> String {
        self.listener_arn("production")
    }

    /// The ARN of the test listener.
    pub fn test_listener_arn(&self) -> String {
        self.listener_arn("test")
    }

    fn listener_arn(&self, which: &str) -> String {
        let id = hex_id(&["listener", &self.name, which]);
        self.arn(
            "elasticloadbalancing",
            &format!("listener/{}/{id}", self.load_balancer_dimension()),
        )
    }
}

/// Sixteen hexadecimal digits, always the same for the same parts, as ELB's ids look.
fn hex_id(parts: &[&str]) -> String {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_look_like_those_of_elb() {
        let stack = Stack::named("demo");
        let arn = stack.target_group_arn("demo-a");
        let prefix = "arn:aws:elasticloadbalancing:eu-west-1:000000000000:targetgroup/demo-a/";
        assert_eq!(arn.strip_prefix(prefix).map(str::len), Some(16), "{arn}");
        assert_ne!(stack.production_listener_arn(), stack.test_listener_arn());
    }

    #[test]
    fn a_speed_below_one_is_refused() {
        for speed in [0.0, 0.5, -1.0, f64::NAN, f64::INFINITY] {
            let options = Options {
                speed,
                ..Options::default()
            };
            assert!(options.validate().is_err(), "{speed}");
        }
    }
}
