//! What is kept of a trial to draw it afterwards.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Marked, Moment, evidence};
use super::rates::{Rates, Served, rates};
use crate::Timestamp;
use crate::judge::trial::Judged;
use crate::judge::{Decision, Judge, Side, Total};

/// A trial as it went: fed with what [`Trial`](crate::judge::trial::Trial) hands out.
/// Serialisable, like the trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    origin: Timestamp,
    moments: Vec<Moment>,
    served: Vec<Served>,
    weights: Vec<(f64, f64)>,
    verdict: Option<Marked>,
}

impl History {
    /// An empty one. `origin` is green's first production request: the zero of all axes.
    pub const fn new(origin: Timestamp) -> History {
        History {
            origin,
            moments: Vec::new(),
            served: Vec::new(),
            weights: Vec::new(),
            verdict: None,
        }
    }

    /// Green's share of the traffic, in percent, from this moment on.
    pub fn weight(&mut self, at: Timestamp, green: u8) {
        let at = at.since(self.origin).as_secs_f64();
        let green = f64::from(green);
        if self
            .weights
            .last()
            .is_none_or(|(_, last)| (last - green).abs() > 1e-9)
        {
            self.weights.push((at, green));
        }
    }

    /// A batch that was judged, and the judge right after it. Refused batches leave no trace.
    pub fn push(&mut self, judged: &Judged, judge: &Judge) {
        if judged.outcome.is_err() {
            return;
        }
        let at = judged.cut.end.since(self.origin).as_secs_f64();
        let total = |side: Option<&Side>| {
            let natural = |n: i64| u64::try_from(n).unwrap_or(0);
            side.map_or(Total::default(), |side| Total {
                requests: natural(side.requests),
                errors: natural(side.errors),
            })
        };
        self.served.push(Served {
            at,
            baseline: total(judged.cut.batch.baseline.as_ref()),
            candidate: total(judged.cut.batch.candidate.as_ref()),
        });
        self.moments.push(Moment {
            at,
            log_e: judge.log_e(),
        });
        let decision = judge.standing();
        if decision
            != self
                .verdict
                .map_or(Decision::Continue, |mark| mark.decision)
        {
            self.verdict = Some(Marked { at, decision });
        }
    }

    /// [`evidence`], of all batches so far.
    pub fn evidence(&self, judge: &Judge) -> String {
        evidence(&Evidence {
            moments: &self.moments,
            config: judge.config(),
            weights: &self.weights,
            verdict: self.verdict,
        })
    }

    /// [`rates`], of all batches so far.
    pub fn rates(&self, judge: &Judge) -> String {
        rates(&Rates {
            batches: &self.served,
            objective: judge.config().objective,
        })
    }
}
