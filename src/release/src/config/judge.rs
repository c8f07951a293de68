//! `[judge]`: whether green is compared with blue while both serve, and what follows from it.

use std::time::Duration;

use rollout::judge;
use serde::Deserialize;

/// The judge of a release.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Judge {
    /// What an ABORT leads to. Without it: `enforce` on a stage, `observe` at AWS.
    pub mode: Option<Mode>,
    /// Where counts come from. Without it: a stage's own load balancer; at AWS CloudWatch, always.
    pub source: Option<Source>,
    /// How long a batch is where counters can be read at any moment (the target's time, 1 s to 5 min).
    /// CloudWatch has its own: a minute.
    #[serde(deserialize_with = "super::duration")]
    pub interval: Duration,
    /// The share of requests that may fail, more than 0 and less than 1; `"none"` for no objective.
    pub objective: Objective,
    /// Up to this odds ratio of green's failures to blue's nothing is said; from 1.
    pub relative_margin: f64,
    /// No PASS before green has had so many requests.
    pub min_requests: u64,
    /// 1 / (mean requests of a sticky session), more than 0 and at most 1.
    pub temper: f64,
    /// Whether response times are compared as well.
    pub latency: bool,
}

/// What an ABORT leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing is judged.
    Off,
    /// It is said.
    Observe,
    /// It is said, and the deployment is stopped and rolled back.
    Enforce,
}

/// Where counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The stage's load balancer, which can be asked at any moment.
    LoadBalancer,
    /// CloudWatch: minutes, each a minute later. On a stage, to rehearse what AWS will do.
    Cloudwatch,
}

/// The share of requests that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Objective {
    /// A share.
    Share(f64),
    /// None: green is compared with blue alone.
    None(NoObjective),
}

/// The word for no objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoObjective {
    /// `"none"`
    None,
}

impl Default for Judge {
    fn default() -> Judge {
        let judge = judge::Config::default();
        Judge {
            mode: None,
            source: None,
            interval: Duration::from_secs(10),
            objective: judge
                .objective
                .map_or(Objective::None(NoObjective::None), Objective::Share),
            relative_margin: judge.relative_margin,
            min_requests: judge.min_requests,
            temper: judge.temper,
            latency: judge.latency.is_some(),
        }
    }
}

impl Judge {
    /// The same for the judge itself.
    pub fn config(&self) -> judge::Config {
        judge::Config {
            objective: match self.objective {
                Objective::Share(share) => Some(share),
                Objective::None(_) => None,
            },
            relative_margin: self.relative_margin,
            min_requests: self.min_requests,
            temper: self.temper,
            latency: self.latency.then(judge::Latency::default),
            ..judge::Config::default()
        }
    }

    /// The first key whose value cannot hold, and why.
    pub fn mistake(&self) -> Option<(&'static str, String)> {
        let interval = self.interval.as_secs();
        if !(1..=300).contains(&interval) {
            let message = format!("{interval} s is not between 1 s and 5 min");
            return Some(("judge.interval", message));
        }
        let judge = judge::Judge::new(self.config());
        judge.err().map(|error| ("judge", error.to_string()))
    }
}
