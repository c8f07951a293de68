//! The one tool: a process that is not expected to grow while the null holds.
//!
//! By Ville's inequality such a process, started at 1, ever reaches `1/a` with probability at
//! most `a`, however often one looks. A process that speaks for ABORT also mixes over the batch
//! at which green may have turned bad (`onset`), so that a late fault is not outweighed by a
//! good past.

use serde::{Deserialize, Serialize};

use crate::judge::exact_float;
use crate::maths::{count, log_add, log_mean_exp};

/// One e-process: `ln E` and what its next value needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EProcess {
    /// How many batches it could use.
    t: u64,
    /// `A(g)` of each bet; empty before the first usable batch, where `A` is minus infinity
    /// with an onset and zero without.
    #[serde(with = "exact_float::list")]
    log_a: Vec<f64>,
    /// `ln E` now.
    #[serde(with = "exact_float")]
    log_e: f64,
    /// The largest `ln E` so far.
    #[serde(with = "exact_float")]
    best: f64,
}

/// Whether a process mixes over the batch at which the harm began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Onset {
    /// ABORT processes: bad from some batch on.
    Mixed,
    /// PASS processes: from the first.
    First,
}

impl EProcess {
    pub const fn new() -> EProcess {
        EProcess {
            t: 0,
            log_a: Vec::new(),
            log_e: 0.0,
            best: 0.0,
        }
    }

    pub fn log_e(&self) -> f64 {
        self.log_e
    }

    pub fn best(&self) -> f64 {
        self.best
    }

    /// One usable batch: an increment for each bet.
    pub fn update(&mut self, onset: Onset, temper: f64, increments: &[f64]) {
        self.t += 1;
        let t = count(self.t);
        if self.log_a.is_empty() {
            let origin = match onset {
                Onset::Mixed => f64::NEG_INFINITY,
                Onset::First => 0.0,
            };
            self.log_a.resize(increments.len(), origin);
        }
        // The mass of an onset at this very batch: 1/2, 1/4, 1/12, 1/24, ...
        let begins_now = if self.t == 1 {
            -std::f64::consts::LN_2
        } else {
            -(2.0 * t * (t - 1.0)).ln()
        };
        for (a, increment) in self.log_a.iter_mut().zip(increments) {
            if onset == Onset::Mixed {
                *a = log_add(*a, begins_now);
            }
            *a += temper * increment;
        }
        self.log_e = log_mean_exp(&self.log_a);
        if onset == Onset::Mixed {
            // What the onsets still to come are worth.
            self.log_e = log_add(self.log_e, -(2.0 * t).ln());
        }
        self.best = self.best.max(self.log_e);
    }

    /// Whether this state can have come from a process with so many bets.
    pub fn consistent(&self, bets: usize) -> bool {
        let length = if self.t == 0 { 0 } else { bets };
        self.log_a.len() == length
            && self.log_a.iter().all(|a| a.is_finite())
            && self.log_e.is_finite()
            && self.best.is_finite()
            && self.best >= self.log_e
            && self.best >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_evidence_it_stays_at_one() {
        let mut process = EProcess::new();
        assert!(process.log_e() == 0.0);
        for _ in 0..1000 {
            process.update(Onset::Mixed, 1.0, &[0.0; 8]);
            assert!(process.log_e().abs() < 1e-12, "{}", process.log_e());
        }
        assert!(process.consistent(8) && !process.consistent(7));
    }

    #[test]
    fn a_good_past_costs_at_most_twice_its_length() {
        let mut process = EProcess::new();
        for t in 1..=200 {
            process.update(Onset::Mixed, 1.0, &[-50.0; 8]);
            assert!(process.log_e() >= -f64::from(2 * t).ln() - 1e-12);
        }
        let mut plain = EProcess::new();
        plain.update(Onset::First, 0.5, &[-50.0; 8]);
        assert!((plain.log_e() + 25.0).abs() < 1e-12);
        assert!(plain.best() == 0.0);
    }
}
