//! The evidence in plain words.
//!
//! "green fails 74 of 92, blue 0 of 830; chance of such evidence against an equal version below
//! 1 in 10^40": first what was counted, then how likely a version that is not to blame would
//! ever have looked so bad. The chance is the anytime p-value `exp(-max ln E)`, rounded to the
//! safe side; that somebody looked after every batch is paid for already.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::state::Objective;
use super::{Decision, Judge, Reason, Total, latency};

/// What a judge can say for its decision. [`Display`](fmt::Display) makes a sentence of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// ABORT also where it came after a PASS.
    pub decision: Decision,
    /// The tests that hold, the deciding one first.
    pub reasons: Vec<Reason>,
    /// Green's requests so far.
    pub candidate: Total,
    /// Blue's requests so far.
    pub baseline: Total,
    /// The objective, if there is one.
    pub objective: Option<f64>,
    /// How much worse than blue, as an odds ratio, was tolerated (ABORT) or excluded (PASS).
    pub margin: f64,
    /// `ln E` of the deciding test at its best; the anytime p-value is `exp(-log_e)`. Zero
    /// without a decision.
    pub log_e: f64,
}

impl Judge {
    /// The evidence up to now. An ABORT is evidence even after a PASS.
    pub fn evidence(&self) -> Evidence {
        let verdict = self.abort().or(self.verdict());
        let decision = verdict.map_or(Decision::Continue, |v| v.decision);
        let reasons = verdict.map(|v| v.reasons.clone()).unwrap_or_default();
        let objective = self.state.objective.as_ref();
        let best = |of: fn(&Objective) -> f64| objective.map_or(0.0, of);
        let (log_e, margin) = match (decision, reasons.first()) {
            (Decision::Abort, Some(Reason::Relative)) => {
                (self.state.relative.best(), self.config.relative_margin)
            }
            (Decision::Abort, Some(Reason::Objective)) => (best(|o| o.candidate.best()), 1.0),
            (Decision::Abort, Some(Reason::Latency)) => (
                self.state
                    .latency
                    .as_ref()
                    .map_or(0.0, latency::State::best),
                self.config.latency.as_ref().map_or(1.0, |l| l.margin),
            ),
            (Decision::Pass, Some(Reason::Relative)) => {
                (self.state.pass_relative.best(), self.config.pass_margin)
            }
            (Decision::Pass, Some(Reason::Objective)) => (best(|o| o.pass.best()), 1.0),
            _ => (0.0, 1.0),
        };
        Evidence {
            decision,
            reasons,
            candidate: self.candidate(),
            baseline: self.baseline(),
            objective: self.config.objective,
            margin,
            log_e,
        }
    }
}

impl Evidence {
    /// The anytime p-value: at most how likely a version that is not to blame would ever look so
    /// bad. 1 without a decision; 0 where no float is as small.
    pub fn p_value(&self) -> f64 {
        (-self.log_e).exp().min(1.0)
    }

    /// The anytime p-value as people read it: "1 in 400", "1 in 10^40"; rounded down to what is
    /// surely true.
    pub fn chance(&self) -> String {
        /// From where on powers of ten are read more easily than numbers.
        const POWERS_FROM: f64 = 4.0;
        let digits = self.log_e.max(0.0) / std::f64::consts::LN_10;
        if digits < POWERS_FROM {
            format!("1 in {:.0}", self.log_e.max(0.0).exp().floor())
        } else {
            format!("1 in 10^{:.0}", digits.floor())
        }
    }

    fn against(&self) -> String {
        match (self.decision, self.reasons.first()) {
            (Decision::Abort, Some(Reason::Relative)) if self.margin > 1.0 => format!(
                "against a version of at most {} times blue's odds of failing",
                self.margin
            ),
            (Decision::Abort, Some(Reason::Relative)) => "against an equal version".to_owned(),
            (Decision::Abort, Some(Reason::Objective)) => format!(
                "against a version that fails at most {} of requests",
                percent(self.objective)
            ),
            (Decision::Abort, Some(Reason::Latency)) => {
                "against a version no slower than is tolerated".to_owned()
            }
            (_, Some(Reason::Objective)) => format!(
                "for a version that fails {} of requests or more",
                percent(self.objective)
            ),
            _ => format!(
                "for a version of {} times blue's odds of failing or more",
                self.margin
            ),
        }
    }
}

fn percent(share: Option<f64>) -> String {
    // Through a rounding: 0.07 * 100 is not 7 in binary.
    let percent = (share.unwrap_or(0.0) * 1e10).round() / 1e8;
    format!("{percent} %")
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.decision {
            Decision::Continue => f.write_str("no evidence of harm: ")?,
            Decision::Abort | Decision::Pass => {}
        }
        let Evidence {
            candidate,
            baseline,
            ..
        } = self;
        if candidate.requests == 0 {
            f.write_str("green had no requests")?;
        } else {
            write!(
                f,
                "green fails {} of {}",
                candidate.errors, candidate.requests
            )?;
        }
        if baseline.requests == 0 {
            f.write_str(", blue had no requests")?;
        } else {
            write!(f, ", blue {} of {}", baseline.errors, baseline.requests)?;
        }
        if self.reasons.first() == Some(&Reason::Latency) {
            f.write_str("; green is slower than blue")?;
        }
        if self.decision != Decision::Continue {
            write!(
                f,
                "; chance of such evidence {} below {}",
                self.against(),
                self.chance()
            )?;
        }
        Ok(())
    }
}
