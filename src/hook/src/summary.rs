//! The line in the log: one JSON object that says what was decided, and by what.
//!
//! It goes to standard output, which Lambda keeps in CloudWatch Logs, and it is what the function
//! returns. `message` is for people, the rest for whoever searches logs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::answer::{AnswerError, Ids};
use crate::config::Config;
use crate::trial::{Tally, Trial, Verdict};

/// Why there was no trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A setting.
    Configuration(String),
    /// The hook itself.
    Hook(String),
}

/// What one call came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    level: &'static str,
    message: String,
    deployment_id: String,
    execution_id: String,
    request_id: String,
    /// The answer: `Succeeded` or `Failed`.
    status: &'static str,
    /// What it is founded on.
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<String>,
    #[serde(flatten)]
    counts: Option<Counts>,
    duration_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Counts {
    probes: u32,
    failed: u32,
    llr: f64,
    settled_ms: u64,
    unproven: Vec<String>,
    endpoints: Vec<EndpointCounts>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct EndpointCounts {
    path: String,
    critical: bool,
    good: u32,
    failures: BTreeMap<String, u32>,
    slowest_ms: u64,
}

impl Summary {
    /// Of a trial, or of why there was none.
    pub fn of(
        ids: &Ids,
        request_id: &str,
        config: Option<&Config>,
        tried: Result<Trial, Why>,
        took: Duration,
    ) -> Summary {
        let (reason, message) = match (&tried, config) {
            (Ok(trial), Some(config)) => (reason(trial.verdict), sentence(trial, config)),
            (Err(Why::Configuration(why)), _) => (
                "configuration",
                format!("green was not tried: {why}; set the function's environment right"),
            ),
            (Err(Why::Hook(why)), _) => ("hook", format!("green was not tried: {why}")),
            // There is no trial without settings.
            (Ok(trial), None) => (reason(trial.verdict), String::new()),
        };
        let passed = matches!(&tried, Ok(trial) if trial.verdict == Verdict::Pass);
        let counts = tried
            .ok()
            .zip(config)
            .map(|(trial, config)| counts(trial, config));
        Summary {
            level: if passed { "INFO" } else { "ERROR" },
            message,
            deployment_id: ids.deployment.clone(),
            execution_id: ids.execution.clone(),
            request_id: request_id.to_owned(),
            status: if passed { "Succeeded" } else { "Failed" },
            reason,
            listener: config.map(|config| format!("{}://{}", config.listener.0, config.listener.1)),
            counts,
            duration_ms: millis(took),
        }
    }

    /// Whether green may have users.
    pub fn passed(&self) -> bool {
        self.status == "Succeeded"
    }

    /// Writes the line.
    pub fn print(&self) {
        line(self);
    }
}

/// Writes a line about an answer that did not arrive.
pub fn complain(ids: &Ids, request_id: &str, error: &AnswerError) {
    #[derive(Serialize)]
    struct Complaint<'a> {
        level: &'a str,
        message: String,
        deployment_id: &'a str,
        execution_id: &'a str,
        request_id: &'a str,
    }
    line(&Complaint {
        level: "ERROR",
        message: error.to_string(),
        deployment_id: &ids.deployment,
        execution_id: &ids.execution,
        request_id,
    });
}

/// A log that cannot be written is no reason to give no answer.
fn line(value: &impl Serialize) {
    if let Ok(mut text) = serde_json::to_string(value) {
        text.push('\n');
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass | Verdict::Abort => "sprt",
        Verdict::Inconclusive => "inconclusive",
        Verdict::OutOfTime => "time",
    }
}

/// For people: what was decided, how many probes failed, and how.
fn sentence(trial: &Trial, config: &Config) -> String {
    let mut text = match trial.verdict {
        Verdict::Pass => "green passes".to_owned(),
        Verdict::Abort => "green is refused".to_owned(),
        Verdict::Inconclusive => {
            "green is refused, because it is still not known to be good".to_owned()
        }
        Verdict::OutOfTime => "green is refused, because time ran out".to_owned(),
    };
    let _ = match (trial.probes, trial.failed) {
        (0, _) => write!(text, ": no probe came back"),
        (probes, 0) => write!(text, ": {probes} probes, none failed"),
        (probes, failed) => write!(text, ": {failed} of {probes} probes failed"),
    };
    let failing: Vec<String> = config
        .endpoints
        .iter()
        .zip(&trial.endpoints)
        .filter(|(_, tally)| !tally.failures.is_empty())
        .map(|(endpoint, tally)| format!("{} {}", endpoint.path, how(tally)))
        .collect();
    if !failing.is_empty() {
        let _ = write!(text, " ({})", failing.join("; "));
    }
    if trial.verdict != Verdict::Pass && !trial.unproven.is_empty() {
        let _ = write!(text, "; no good answer of {}", trial.unproven.join(", "));
    }
    text
}

/// `500 twice`, `no answer in time 3 times`.
fn how(tally: &Tally) -> String {
    let times = |(what, count): (&String, &u32)| match count {
        1 => format!("{what} once"),
        2 => format!("{what} twice"),
        count => format!("{what} {count} times"),
    };
    tally
        .failures
        .iter()
        .map(times)
        .collect::<Vec<_>>()
        .join(", ")
}

fn counts(trial: Trial, config: &Config) -> Counts {
    let endpoints = config
        .endpoints
        .iter()
        .zip(trial.endpoints)
        .map(|(endpoint, tally)| EndpointCounts {
            path: endpoint.path.to_string(),
            critical: endpoint.critical,
            good: tally.good,
            failures: tally.failures,
            slowest_ms: millis(tally.slowest),
        })
        .collect();
    Counts {
        probes: trial.probes,
        failed: trial.failed,
        llr: trial.llr,
        settled_ms: millis(trial.settled),
        unproven: trial.unproven,
        endpoints,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn config() -> Config {
        let variables = [
            ("HOOK_TEST_URL", "https://test.example:8443"),
            ("HOOK_PATHS", "/ /admin"),
            ("HOOK_CRITICAL_PATHS", "/"),
        ];
        Config::of(variables.map(|(name, value)| (name.into(), value.into()))).unwrap()
    }

    fn ids() -> Ids {
        Ids {
            deployment: "d-1".to_owned(),
            execution: "e-1".to_owned(),
        }
    }

    fn summary(tried: Result<Trial, Why>) -> Summary {
        let config = config();
        Summary::of(
            &ids(),
            "r-1",
            Some(&config),
            tried,
            Duration::from_millis(12),
        )
    }

    fn trial(verdict: Verdict, failures: &[(&str, u32)]) -> Trial {
        let failed = failures.iter().map(|(_, count)| count).sum();
        let failures = failures
            .iter()
            .map(|(what, count)| ((*what).to_owned(), *count));
        Trial {
            verdict,
            probes: failed + 20,
            failed,
            llr: -1.5,
            settled: Duration::from_millis(3),
            endpoints: vec![
                Tally {
                    good: 10,
                    failures: failures.collect(),
                    slowest: Duration::from_millis(7),
                },
                Tally {
                    good: 10,
                    ..Tally::default()
                },
            ],
            unproven: Vec::new(),
        }
    }

    #[test]
    fn people_read_what_was_decided_and_why() {
        let pass = summary(Ok(trial(Verdict::Pass, &[])));
        assert_eq!(pass.message, "green passes: 20 probes, none failed");
        assert!(pass.passed());
        let abort = trial(Verdict::Abort, &[("500", 2), ("no answer in time", 1)]);
        let abort = summary(Ok(Trial {
            unproven: vec!["/".to_owned()],
            ..abort
        }));
        assert_eq!(
            abort.message,
            "green is refused: 3 of 23 probes failed (/ 500 twice, no answer in time once); no good answer of /"
        );
        assert!(!abort.passed());
        let late = summary(Ok(Trial {
            probes: 0,
            ..trial(Verdict::OutOfTime, &[])
        }));
        assert_eq!(
            late.message,
            "green is refused, because time ran out: no probe came back"
        );
    }

    #[test]
    fn programs_read_one_json_object() {
        let value =
            serde_json::to_value(summary(Ok(trial(Verdict::Abort, &[("500", 4)])))).unwrap();
        let expected = serde_json::json!({
            "level": "ERROR",
            "message": "green is refused: 4 of 24 probes failed (/ 500 4 times)",
            "deployment_id": "d-1",
            "execution_id": "e-1",
            "request_id": "r-1",
            "status": "Failed",
            "reason": "sprt",
            "listener": "https://test.example:8443",
            "probes": 24,
            "failed": 4,
            "llr": -1.5,
            "settled_ms": 3,
            "unproven": [],
            "endpoints": [
                {"path": "/", "critical": true, "good": 10, "failures": {"500": 4}, "slowest_ms": 7},
                {"path": "/admin", "critical": false, "good": 10, "failures": {}, "slowest_ms": 0},
            ],
            "duration_ms": 12,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn settings_that_make_no_sense_are_a_refusal() {
        let error = Why::Configuration("HOOK_RATE=\"x\": give a number".to_owned());
        let summary = Summary::of(&ids(), "r-1", None, Err(error), Duration::ZERO);
        assert!(!summary.passed());
        assert!(summary.message.contains("HOOK_RATE"), "{}", summary.message);
        let value = serde_json::to_value(summary).unwrap();
        assert_eq!(value["reason"], "configuration");
        assert!(value.get("probes").is_none());
    }
}
