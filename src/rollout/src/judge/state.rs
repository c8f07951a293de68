//! What a judge must not forget when the release program is killed.

use serde::{Deserialize, Serialize};

use super::eprocess::EProcess;
use super::{Config, ConfigError, Judge, Total, Verdict, latency};
use crate::Timestamp;

/// Everything that changes from batch to batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub batches: u64,
    pub judged_until: Option<Timestamp>,
    pub baseline: Total,
    pub candidate: Total,
    pub relative: EProcess,
    pub pass_relative: EProcess,
    pub objective: Option<Objective>,
    pub latency: Option<latency::State>,
    pub verdict: Option<Verdict>,
    pub abort: Option<Verdict>,
}

/// The three processes that know the objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Objective {
    pub candidate: EProcess,
    pub baseline: EProcess,
    pub pass: EProcess,
}

impl State {
    pub fn new(config: &Config) -> State {
        State {
            batches: 0,
            judged_until: None,
            baseline: Total::default(),
            candidate: Total::default(),
            relative: EProcess::new(),
            pass_relative: EProcess::new(),
            objective: config.objective.map(|_| Objective {
                candidate: EProcess::new(),
                baseline: EProcess::new(),
                pass: EProcess::new(),
            }),
            latency: config.latency.as_ref().map(latency::State::new),
            verdict: None,
            abort: None,
        }
    }

    fn consistent(&self, config: &Config) -> bool {
        let bets = config.multipliers.len();
        let objective = self.objective.as_ref();
        let latency = match (&self.latency, &config.latency) {
            (Some(state), Some(config)) => state.consistent(config, bets),
            (state, config) => state.is_none() && config.is_none(),
        };
        let verdicts = self.verdict.iter().chain(&self.abort);
        latency
            && objective.is_some() == config.objective.is_some()
            && objective
                .into_iter()
                .flat_map(|o| [&o.candidate, &o.baseline, &o.pass])
                .chain([&self.relative, &self.pass_relative])
                .all(|process| process.consistent(bets))
            && self.baseline.errors <= self.baseline.requests
            && self.candidate.errors <= self.candidate.requests
            && verdicts
                .into_iter()
                .all(|v| !v.reasons.is_empty() && (1..=self.batches).contains(&v.at_batch))
    }
}

/// A judge as it is written down.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    config: Config,
    state: State,
}

/// Why a saved judge cannot go on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ResumeError {
    /// Its configuration is not valid.
    #[error("the saved judge's configuration is refused: {0}")]
    Config(#[from] ConfigError),
    /// Its state does not belong to its configuration.
    #[error("the saved judge's state does not fit its own configuration: it was changed")]
    Inconsistent,
    /// It was made of another configuration than the present one.
    #[error(
        "the saved judge was told otherwise (other bounds, bets or objective): start a new one, or give it the configuration it began with"
    )]
    OtherConfig,
}

impl TryFrom<Saved> for Judge {
    type Error = ResumeError;

    fn try_from(saved: Saved) -> Result<Judge, ResumeError> {
        saved.config.validate()?;
        if !saved.state.consistent(&saved.config) {
            return Err(ResumeError::Inconsistent);
        }
        Ok(Judge::of(saved.config, saved.state))
    }
}

impl From<Judge> for Saved {
    fn from(judge: Judge) -> Saved {
        Saved {
            config: judge.config,
            state: judge.state,
        }
    }
}
