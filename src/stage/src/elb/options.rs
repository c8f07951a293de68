//! What a load balancer, its target groups and its health checks are told, in ELB's terms.
//!
//! Durations say whether they are virtual (scaled by the stage's clock) or real: see
//! [`crate::clock`].

use std::{ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use crate::runtime::Dial;

/// How to start a [`super::LoadBalancer`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The value of the metric dimension `LoadBalancer`: `app/<name>/<id>`.
    pub dimension: String,
    /// The loopback port of the production listener; 0 for any.
    pub production_port: u16,
    /// The loopback port of the test listener; 0 for any.
    pub test_port: u16,
    /// How long a connection may be silent, real. ELB: 1–4000 s, 60 s by default. A target that
    /// does not answer within it is a 504; a client that sends nothing is disconnected.
    pub idle_timeout: Duration,
    /// How long connecting to a target may take, real. ELB: 10 s.
    pub connect_timeout: Duration,
    /// The target groups.
    pub groups: Vec<TargetGroupOptions>,
    /// Where the production listener forwards to at the start: groups with weights 0–999.
    pub production: Vec<(String, u32)>,
    /// Where the test listener forwards to at the start.
    pub test: Vec<(String, u32)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dimension: "app/stage/0000000000000000".into(),
            production_port: 0,
            test_port: 0,
            idle_timeout: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(10),
            groups: Vec::new(),
            production: Vec::new(),
            test: Vec::new(),
        }
    }
}

/// A target group.
#[derive(Clone, Debug)]
pub struct TargetGroupOptions {
    /// Its name; unique within the load balancer.
    pub name: String,
    /// The value of the metric dimension `TargetGroup`: `targetgroup/<name>/<id>`.
    pub dimension: String,
    /// How its targets are checked.
    pub health_check: HealthCheck,
    /// How long a target drains after it was deregistered, virtual. ELB: 0–3600 s, 300 s by
    /// default.
    pub deregistration_delay: Duration,
}

impl TargetGroupOptions {
    /// A group with ELB's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            dimension: format!("targetgroup/{name}/0000000000000000"),
            name,
            health_check: HealthCheck::default(),
            deregistration_delay: Duration::from_mins(5),
        }
    }
}

/// How the targets of a group are checked. The defaults are those of an ELB target group of type
/// `ip`.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    /// Path and query of the GET request.
    pub path: String,
    /// From one check of a target to the next, virtual. ELB: 5–300 s, 30 s by default.
    pub interval: Duration,
    /// How long connecting and answering may take together, real. ELB: 2–120 s, 5 s by default.
    pub timeout: Duration,
    /// Successes in a row that make an unhealthy target healthy. ELB: 2–10, 5 by default. A newly
    /// registered target needs one only.
    pub healthy_threshold: u32,
    /// Failures in a row that make a target unhealthy. ELB: 2–10, 2 by default.
    pub unhealthy_threshold: u32,
    /// The status codes that pass.
    pub matcher: Matcher,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: "/".into(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::default(),
        }
    }
}

/// The status codes that pass a health check, as ELB's `Matcher.HttpCode` writes them: `200`,
/// `200,202` or `200-299`, within 200–499.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher(Vec<RangeInclusive<u16>>);

impl Matcher {
    /// Whether a status code passes.
    pub fn matches(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl Default for Matcher {
    fn default() -> Self {
        Self(vec![200..=200])
    }
}

/// A matcher that ELB would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read {text:?} as a health check matcher; write codes from 200 to 499 such as 200, 200,202 or 200-299"
)]
pub struct MatcherError {
    text: String,
}

impl FromStr for Matcher {
    type Err = MatcherError;

    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let code = |text: &str| -> Option<u16> {
            let code = text.trim().parse().ok()?;
            (200..=499).contains(&code).then_some(code)
        };
        text.split(',')
            .map(|part| {
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let range = code(first)?..=code(last)?;
                (!range.is_empty()).then_some(range)
            })
            .collect::<Option<Vec<_>>>()
            .map(Matcher)
            .ok_or_else(|| MatcherError { text: text.into() })
    }
}

/// A target to register: one port of one task.
#[derive(Clone)]
pub struct Target {
    /// How the target is called in health, events and logs; on ECS `<address>:<port>`.
    pub id: String,
    /// How to connect to it.
    pub dial: Arc<dyn Dial>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_written_as_elb_writes_them() {
        let matcher: Matcher = "200,202, 301-302".parse().expect("a good matcher");
        for (status, passes) in [
            (200, true),
            (201, false),
            (202, true),
            (301, true),
            (302, true),
            (303, false),
        ] {
            assert_eq!(matcher.matches(status), passes, "{status}");
        }
        for bad in ["", "abc", "199", "500", "200-", "300-200", "200,,201", "-1"] {
            assert!(bad.parse::<Matcher>().is_err(), "{bad:?}");
        }
    }
}
