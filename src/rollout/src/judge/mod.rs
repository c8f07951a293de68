//! Whether the new version is worse than the old one, said as soon as it can be known.
//!
//! An alarm asks whether a number is above another for some minutes. The judge compares green
//! with blue, which serve the same users at the same time, and may look after every batch
//! without ever paying for it: each of its tests is an e-process, and the probability that one
//! of them *ever* accuses a version that is no worse stays below its `alpha`, at any traffic
//! split and under any common drift. docs/judge.md says how and why.
//!
//! - [`Config`]: how sure it must be, and of what. [`Judge::new`] checks it.
//! - [`Batch`]: what a poll brings. [`Judge::observe`] takes it, or refuses it with its state
//!   untouched.
//! - [`Judge`] is serialisable at any moment: one that is read back decides as if it had never
//!   been away.
//! - [`trial`] is all of it in one: what a release program or the stage holds.
//! - [`counters`] makes batches of counters that only grow (or reset); [`cut`] merges thin polls
//!   and cuts batches where the weight changes.
//! - [`evidence`] says it all in a sentence.
//!
//! What it needs: requests are routed independently (no sticky sessions, or `temper`), and no
//! batch straddles a change of the weights.

mod batch;
mod config;
pub mod counters;
pub mod cut;
mod eprocess;
pub mod evidence;
mod exact_float;
mod increment;
mod latency;
mod state;
pub mod trial;

use serde::{Deserialize, Serialize};

pub use batch::{Batch, BoundedHistogram, Histogram, MAX_COUNT, RefusedBatch, Side, Which};
pub use config::{Alpha, Beta, Config, ConfigError, Latency};
pub use state::ResumeError;

use crate::Timestamp;
use crate::maths::count;
use batch::{Checked, check, check_histogram};
use eprocess::Onset;
use increment::{Table, absolute, relative};
use latency::Bets;
use state::{Objective, State};

/// A judge in the middle of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "state::Saved", into = "state::Saved")]
pub struct Judge {
    config: Config,
    state: State,
    /// The inverses of the multipliers.
    inverses: Vec<f64>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// Go on: nothing is known yet. At the end of the bake time: no evidence of harm.
    #[default]
    Continue,
    /// Green is bad: roll back.
    Abort,
    /// Green is good, as far as that can be seen without waiting.
    Pass,
}

/// Which test decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Green against blue.
    Relative,
    /// Green against its objective.
    Objective,
    /// Green's response times against blue's.
    Latency,
}

/// A decision that was taken, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// ABORT or PASS.
    pub decision: Decision,
    /// All tests that held; the first is the reason.
    pub reasons: Vec<Reason>,
    /// The batch that brought it, from 1, counting those that were not refused.
    pub at_batch: u64,
}

/// Whether a batch said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Yes.
    Ok,
    /// Neither side had a request or a histogram.
    Empty,
}

/// What a batch changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// Whether the batch said anything.
    pub status: Status,
    /// The latched decision: the first ABORT or PASS of all.
    pub decision: Decision,
    /// The tests that accuse green now, after a PASS too: not empty means roll back.
    pub abort: Vec<Reason>,
}

/// `ln E` of every process; `None` for those that are switched off.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogE {
    /// Green is worse than blue.
    pub relative: f64,
    /// Green misses its objective.
    pub objective: Option<f64>,
    /// Blue misses it: only guards.
    pub objective_baseline: Option<f64>,
    /// Green is slower than blue.
    pub latency: Option<f64>,
    /// Green is at worst a bit worse than blue.
    pub pass_relative: f64,
    /// Green meets its objective.
    pub pass_objective: Option<f64>,
    /// Green is at worst a bit slower than blue.
    pub pass_latency: Option<f64>,
}

/// Requests and failures of one side since the release began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Total {
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
}

impl Judge {
    /// A judge for one release. A retry of the same release is a new judge with a new `alpha`.
    pub fn new(config: Config) -> Result<Judge, ConfigError> {
        config.validate()?;
        let state = State::new(&config);
        Ok(Judge::of(config, state))
    }

    fn of(config: Config, state: State) -> Judge {
        let inverses = config.multipliers.iter().map(|g| 1.0 / g).collect();
        Judge {
            config,
            state,
            inverses,
        }
    }

    /// Adds blue's response times from before the release to its past. Refused are bounds other
    /// than the configuration's and impossible counts; without latency in the configuration
    /// nothing happens.
    pub fn remember_latency(&mut self, histogram: &Histogram) -> Result<(), RefusedBatch> {
        let latency = self.config.latency.as_ref();
        let counts = check_histogram(latency, Which::Baseline, histogram)?;
        if let (Some(latency), Some(state)) = (latency, &mut self.state.latency) {
            state.remember(latency, counts);
        }
        Ok(())
    }

    /// Judges a batch. All batches count, in the order of their time; the weights must not have
    /// changed within one.
    pub fn observe(&mut self, batch: &Batch) -> Result<Judgement, RefusedBatch> {
        let (baseline, candidate) = check(&self.config, batch)?;
        Ok(self.judge(baseline, candidate))
    }

    /// Judges the batch of an interval that ends at `end`, each interval once: one that does not
    /// end after the last one is refused. That keeps a poll that is repeated after a restart,
    /// or corrected later, from counting twice.
    pub fn observe_until(
        &mut self,
        end: Timestamp,
        batch: &Batch,
    ) -> Result<Judgement, RefusedBatch> {
        if let Some(judged) = self.state.judged_until
            && end <= judged
        {
            return Err(RefusedBatch::Repeated { end, judged });
        }
        let judgement = self.observe(batch)?;
        self.state.judged_until = Some(end);
        Ok(judgement)
    }

    fn judge(&mut self, baseline: Checked, candidate: Checked) -> Judgement {
        self.state.batches += 1;
        let status = if baseline.is_empty() && candidate.is_empty() {
            Status::Empty
        } else {
            Status::Ok
        };
        let mut abort = Vec::new();
        if status == Status::Ok {
            let blue_serves = baseline.n > 0;
            self.update(baseline, candidate);
            abort = self.abort_reasons(blue_serves);
            self.decide(&abort);
        }
        Judgement {
            status,
            decision: self.decision(),
            abort,
        }
    }

    fn update(&mut self, baseline: Checked, candidate: Checked) {
        let Judge {
            config,
            state,
            inverses,
        } = self;
        let bets = Bets {
            abort: &config.multipliers,
            pass: inverses,
        };
        let temper = config.temper;
        let scratch = &mut Vec::with_capacity(bets.abort.len());
        state.baseline.add(&baseline);
        state.candidate.add(&candidate);
        let table = Table {
            x_c: candidate.x,
            n_c: candidate.n,
            x_b: baseline.x,
            n_b: baseline.n,
        };
        if table.usable() {
            relative(&table, config.relative_margin, bets.abort, scratch);
            state.relative.update(Onset::Mixed, temper, scratch);
            relative(&table, config.pass_margin, bets.pass, scratch);
            state.pass_relative.update(Onset::First, temper, scratch);
        }
        if let (Some(limit), Some(objective)) = (config.objective, &mut state.objective) {
            if candidate.n > 0 {
                absolute(candidate.x, candidate.n, limit, bets.abort, scratch);
                objective.candidate.update(Onset::Mixed, temper, scratch);
                absolute(candidate.x, candidate.n, limit, bets.pass, scratch);
                objective.pass.update(Onset::First, temper, scratch);
            }
            if baseline.n > 0 {
                absolute(baseline.x, baseline.n, limit, bets.abort, scratch);
                objective.baseline.update(Onset::Mixed, temper, scratch);
            }
        }
        if let (Some(latency), Some(state)) = (&config.latency, &mut state.latency) {
            state.update(config, latency, &bets, (baseline, candidate), scratch);
        }
    }

    /// Step 1 of the decision.
    fn abort_reasons(&self, blue_serves: bool) -> Vec<Reason> {
        let alpha = &self.config.alpha;
        let mut reasons = Vec::new();
        if self.state.relative.log_e() >= needed(alpha.relative) {
            reasons.push(Reason::Relative);
        }
        if let Some(Objective {
            candidate,
            baseline,
            ..
        }) = &self.state.objective
        {
            let guarded = self.config.objective_requires_healthy_baseline
                && blue_serves
                && baseline.log_e() > 0.0;
            if candidate.log_e() >= needed(alpha.objective) && !guarded {
                reasons.push(Reason::Objective);
            }
        }
        if let Some(latency) = &self.state.latency
            && latency.log_e() >= needed(alpha.latency)
        {
            reasons.push(Reason::Latency);
        }
        reasons
    }

    /// Step 2 of the decision.
    fn pass_reasons(&self) -> Vec<Reason> {
        let beta = &self.config.beta;
        let mut reasons = Vec::new();
        if self.state.candidate.requests < self.config.min_requests {
            return reasons;
        }
        if let (Some(latency), Some(config)) = (&self.state.latency, &self.config.latency)
            && config.required_for_pass
            && latency.pass_log_e() < needed(beta.latency)
        {
            return reasons;
        }
        if let Some(objective) = &self.state.objective
            && objective.pass.log_e() >= needed(beta.objective)
        {
            reasons.push(Reason::Objective);
        }
        if self.state.pass_relative.log_e() >= needed(beta.relative) {
            reasons.push(Reason::Relative);
        }
        reasons
    }

    fn decide(&mut self, abort: &[Reason]) {
        let at_batch = self.state.batches;
        if !abort.is_empty() && self.state.abort.is_none() {
            self.state.abort = Some(Verdict {
                decision: Decision::Abort,
                reasons: abort.to_vec(),
                at_batch,
            });
        }
        if self.state.verdict.is_some() {
            return;
        }
        if self.state.abort.is_some() {
            self.state.verdict.clone_from(&self.state.abort);
            return;
        }
        let pass = self.pass_reasons();
        if !pass.is_empty() {
            self.state.verdict = Some(Verdict {
                decision: Decision::Pass,
                reasons: pass,
                at_batch,
            });
        }
    }

    /// The latched decision.
    pub fn decision(&self) -> Decision {
        self.verdict().map_or(Decision::Continue, |v| v.decision)
    }

    /// What is to be done now: ABORT from the first accusation on, one that came after a PASS
    /// included; else the latched decision.
    pub fn standing(&self) -> Decision {
        if self.state.abort.is_some() {
            Decision::Abort
        } else {
            self.decision()
        }
    }

    /// The first ABORT or PASS of all.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.state.verdict.as_ref()
    }

    /// The first ABORT, also one that came after a PASS.
    pub fn abort(&self) -> Option<&Verdict> {
        self.state.abort.as_ref()
    }

    /// How many batches were not refused.
    pub fn batches(&self) -> u64 {
        self.state.batches
    }

    /// The end of the last interval that [`observe_until`](Judge::observe_until) judged.
    pub fn judged_until(&self) -> Option<Timestamp> {
        self.state.judged_until
    }

    /// Blue's requests since the release began.
    pub fn baseline(&self) -> Total {
        self.state.baseline
    }

    /// Green's requests since the release began.
    pub fn candidate(&self) -> Total {
        self.state.candidate
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// `ln E` of every process.
    pub fn log_e(&self) -> LogE {
        let objective = self.state.objective.as_ref();
        let latency = self.state.latency.as_ref();
        LogE {
            relative: self.state.relative.log_e(),
            objective: objective.map(|o| o.candidate.log_e()),
            objective_baseline: objective.map(|o| o.baseline.log_e()),
            latency: latency.map(latency::State::log_e),
            pass_relative: self.state.pass_relative.log_e(),
            pass_objective: objective.map(|o| o.pass.log_e()),
            pass_latency: latency.map(latency::State::pass_log_e),
        }
    }

    /// The judge that was saved, if it was made of this very configuration: evidence gathered
    /// under other bounds, other bets or other latency buckets cannot be continued.
    pub fn resumed_under(self, config: &Config) -> Result<Judge, ResumeError> {
        if self.config == *config {
            Ok(self)
        } else {
            Err(ResumeError::OtherConfig)
        }
    }
}

impl Total {
    fn add(&mut self, side: &Checked) {
        self.requests = self.requests.saturating_add(side.n);
        self.errors = self.errors.saturating_add(side.x);
    }

    /// The share that failed, if there was any request.
    pub fn rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| count(self.errors) / count(self.requests))
    }
}

/// The `ln E` at which a test with this error probability holds (Ville's inequality).
pub fn needed(probability: f64) -> f64 {
    -probability.ln()
}
