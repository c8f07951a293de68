//! How a deployment ended, and what that means for the traffic.
//!
//! CodeDeploy's statuses do not say it: a deployment that an alarm stopped is `Stopped`, and the
//! rollback that follows is `Succeeded`. What a pipeline needs to know is whether the new version
//! serves, and if it does not, whether the old one has all traffic.

use crate::exit_codes;

/// The end of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The new version has all traffic.
    Deployed,
    /// The service already ran exactly this.
    NothingToDo,
    /// The new version failed; the old one has all traffic.
    RolledBack {
        /// Why, as a clause: "alarm x was active".
        why: String,
    },
    /// Somebody stopped the deployment; the old version has all traffic.
    Stopped {
        /// What was said about it.
        why: String,
    },
    /// The deployment failed, and the old version is not known to have all traffic.
    TrafficUnknown {
        /// Why, as a clause.
        why: String,
    },
}

impl Outcome {
    /// The exit code of [`crate::exit_codes`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Outcome::Deployed | Outcome::NothingToDo => exit_codes::SUCCESS,
            Outcome::RolledBack { .. } => exit_codes::ROLLED_BACK,
            Outcome::Stopped { .. } => exit_codes::STOPPED,
            Outcome::TrafficUnknown { .. } => exit_codes::TRAFFIC_UNKNOWN,
        }
    }

    /// One sentence for the end of the report.
    pub fn sentence(&self, version: &str) -> String {
        match self {
            Outcome::Deployed => format!("{version} is deployed"),
            Outcome::NothingToDo => {
                format!("nothing to do: {version} is deployed already")
            }
            Outcome::RolledBack { why } => format!("{version} was rolled back: {why}"),
            Outcome::Stopped { why } => format!("the deployment of {version} was stopped: {why}"),
            Outcome::TrafficUnknown { why } => {
                format!("{version} failed and traffic is not known to be back: {why}")
            }
        }
    }
}

/// The alarms that CodeDeploy's message names after "Activated alarms:"; none for other messages.
pub fn activated_alarms(message: &str) -> Vec<&str> {
    let Some((_, names)) = message.rsplit_once("Activated alarms:") else {
        return Vec::new();
    };
    names
        .split([' ', ',', '<', '>'])
        .map(|name| name.trim_end_matches('.'))
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_in_codedeploys_words() {
        let message = "One or more alarms have been activated. Activated alarms: <a-5xx> <b-5xx>";
        assert_eq!(activated_alarms(message), ["a-5xx", "b-5xx"]);
        assert_eq!(activated_alarms("Activated alarms: one."), ["one"]);
        assert!(activated_alarms("The deployment was stopped").is_empty());
    }

    #[test]
    fn every_outcome_has_its_code() {
        let why = || "because".to_owned();
        let codes = [
            Outcome::Deployed,
            Outcome::NothingToDo,
            Outcome::RolledBack { why: why() },
            Outcome::TrafficUnknown { why: why() },
            Outcome::Stopped { why: why() },
        ]
        .map(|outcome| outcome.exit_code());
        assert_eq!(codes, [0, 0, 3, 4, 7]);
    }
}
