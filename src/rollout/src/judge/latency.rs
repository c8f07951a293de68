//! Response times, turned into counts of slow requests.
//!
//! What is slow is decided by blue's past alone: the bucket bound that holds a quantile of the
//! response times of earlier batches. A threshold that saw the batch it is used on would make
//! the test invalid; one that comes from the past keeps it exact, however blue drifts.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::batch::Checked;
use super::config::{Config, Latency};
use super::eprocess::{EProcess, Onset};
use super::increment::{Table, relative};
use crate::maths::log_mean_exp;

/// The latency test's state: blue's past and a process for each quantile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    history: VecDeque<Vec<u64>>,
    abort: Vec<EProcess>,
    pass: Vec<EProcess>,
    /// The largest `ln E` so far of the mean over the quantiles.
    #[serde(with = "super::exact_float")]
    best: f64,
}

impl State {
    pub fn new(latency: &Latency) -> State {
        State {
            history: VecDeque::new(),
            abort: vec![EProcess::new(); latency.quantiles_permille.len()],
            pass: vec![EProcess::new(); latency.pass_quantiles_permille.len()],
            best: 0.0,
        }
    }

    pub fn best(&self) -> f64 {
        self.best
    }

    /// Adds one of blue's histograms to the past; an empty one is none.
    pub fn remember(&mut self, latency: &Latency, histogram: Vec<u64>) {
        if histogram.iter().all(|n| *n == 0) {
            return;
        }
        self.history.push_back(histogram);
        while self.history.len() > latency.window {
            self.history.pop_front();
        }
    }

    /// Judges a batch by the past, then makes it part of the past.
    pub fn update(
        &mut self,
        config: &Config,
        latency: &Latency,
        bets: &Bets<'_>,
        (baseline, candidate): (Checked, Checked),
        scratch: &mut Vec<f64>,
    ) {
        let (n_b, n_c) = (baseline.samples(), candidate.samples());
        if let (Some(blue), Some(green)) = (&baseline.latency, &candidate.latency)
            && n_b > 0
            && n_c > 0
        {
            let past = self.past(latency);
            let table = |permille: u64| {
                let bucket = threshold(&past, permille, latency.min_tail)?;
                let slow = |counts: &[u64]| counts.iter().skip(bucket + 1).sum();
                Some(Table {
                    x_c: slow(green),
                    n_c,
                    x_b: slow(blue),
                    n_b,
                })
            };
            for (process, permille) in self.abort.iter_mut().zip(&latency.quantiles_permille) {
                if let Some(table) = table(*permille) {
                    relative(&table, latency.margin, bets.abort, scratch);
                    process.update(Onset::Mixed, config.temper, scratch);
                }
            }
            self.best = self.best.max(self.log_e());
            for (process, permille) in self.pass.iter_mut().zip(&latency.pass_quantiles_permille) {
                if let Some(table) = table(*permille) {
                    relative(&table, latency.pass_margin, bets.pass, scratch);
                    process.update(Onset::First, config.temper, scratch);
                }
            }
        }
        if let Some(blue) = baseline.latency {
            self.remember(latency, blue);
        }
    }

    fn past(&self, latency: &Latency) -> Vec<u64> {
        let mut past = vec![0; latency.buckets()];
        for histogram in &self.history {
            for (sum, n) in past.iter_mut().zip(histogram) {
                *sum += n;
            }
        }
        past
    }

    /// `ln E` of "green is slower": the mean over the quantiles.
    pub fn log_e(&self) -> f64 {
        let each: Vec<f64> = self.abort.iter().map(EProcess::log_e).collect();
        log_mean_exp(&each)
    }

    /// `ln E` of "green is not slower": the least over the quantiles.
    pub fn pass_log_e(&self) -> f64 {
        self.pass
            .iter()
            .map(EProcess::log_e)
            .fold(f64::INFINITY, f64::min)
    }

    pub fn consistent(&self, latency: &Latency, bets: usize) -> bool {
        self.best.is_finite()
            && self.best >= self.log_e()
            && self.history.len() <= latency.window
            && self.history.iter().all(|histogram| {
                let total = histogram
                    .iter()
                    .try_fold(0_u64, |sum, n| sum.checked_add(*n));
                histogram.len() == latency.buckets()
                    && total.is_some_and(|total| {
                        (1..=super::batch::MAX_COUNT.unsigned_abs()).contains(&total)
                    })
            })
            && self.abort.len() == latency.quantiles_permille.len()
            && self.pass.len() == latency.pass_quantiles_permille.len()
            && self
                .abort
                .iter()
                .chain(&self.pass)
                .all(|process| process.consistent(bets))
    }
}

/// The odds ratios bet on: above 1 for ABORT, their inverses for PASS.
pub(super) struct Bets<'a> {
    pub abort: &'a [f64],
    pub pass: &'a [f64],
}

/// The bucket up to which a request counts as fast; `None` while the past is too thin, or where
/// the quantile lies in the open bucket. Integers only: no rounding may move a threshold.
fn threshold(past: &[u64], permille: u64, min_tail: u64) -> Option<usize> {
    let total: u64 = past.iter().sum();
    if total * (1000 - permille) < 1000 * min_tail {
        return None;
    }
    let closed = past.len().checked_sub(1)?;
    let mut cumulated = 0;
    past.iter().take(closed).position(|n| {
        cumulated += n;
        1000 * cumulated >= permille * total
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_the_first_bucket_that_holds_the_quantile() {
        let past = [50, 40, 9, 1];
        assert_eq!(threshold(&past, 500, 10), Some(0));
        assert_eq!(threshold(&past, 501, 10), Some(1));
        assert_eq!(threshold(&past, 900, 10), Some(1));
        assert_eq!(threshold(&past, 901, 9), Some(2));
        // Nine of a hundred lie above: fewer than ten.
        assert_eq!(threshold(&past, 910, 10), None);
        // In the open bucket there is no bound to be slower than.
        assert_eq!(threshold(&past, 995, 0), None);
        assert_eq!(threshold(&[0, 0, 0, 0], 500, 1), None);
    }

    #[test]
    fn the_past_is_a_window_without_empty_histograms() {
        let latency = Latency {
            bounds_ms: vec![1.0],
            window: 2,
            ..Latency::default()
        };
        let mut state = State::new(&latency);
        for histogram in [[1, 0], [0, 0], [0, 2], [0, 4]] {
            state.remember(&latency, histogram.to_vec());
        }
        assert_eq!(state.past(&latency), [0, 6]);
    }
}
