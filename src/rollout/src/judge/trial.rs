//! A judge with everything that lies between it and the counters of a real load balancer.
//!
//! Who watches a release does three things at every look: tells the weights, hands over what
//! was counted (cumulative counters, or complete periods of `CloudWatch`), and asks
//! [`standing`](Judge::standing). That batches are cut where the weights change, that thin ones
//! are merged, that no interval counts twice and that a gap does not smuggle requests of
//! other weights in, is kept here. All of it is serialisable: a release program that is killed
//! and started again judges on.
//!
//! ```
//! use rollout::Timestamp;
//! use rollout::judge::counters::Sample;
//! use rollout::judge::trial::Trial;
//! use rollout::judge::{Config, Decision, Side};
//!
//! let mut trial = Trial::new(Config::default())?;
//! let at = Timestamp::from_secs;
//! let sample = |blue: (i64, i64), green: (i64, i64)| {
//!     Sample::of_sides(Some(Side::new(blue.0, blue.1)), Some(Side::new(green.0, green.1)))
//! };
//! trial.weight(at(0), 10);
//! trial.sample(at(0), &sample((5000, 3), (0, 0)))?;
//! trial.weight(at(10), 10);
//! trial.sample(at(10), &sample((5830, 3), (92, 74)))?;
//! assert_eq!(trial.judge().standing(), Decision::Abort);
//! assert_eq!(
//!     trial.judge().evidence().to_string(),
//!     "green fails 74 of 92, blue 0 of 830; chance of such evidence against an equal version \
//!      below 1 in 10^89"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use serde::{Deserialize, Serialize};

use super::batch::Batch;
use super::counters::{Counters, RefusedSample, Sample};
use super::cut::{Batches, Cut, DroppedPeriod};
use super::{Config, ConfigError, Judge, Judgement, RefusedBatch, ResumeError};
use crate::Timestamp;

/// One release's judge and what feeds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    judge: Judge,
    batches: Batches,
    counters: Counters,
    sampled: Option<Timestamp>,
    weight: Option<(Timestamp, u8)>,
    /// How many batches are still left out.
    skip: u32,
}

/// A batch that was judged, or refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its interval and its counts.
    pub cut: Cut,
    /// What it changed; refused are impossible counts.
    pub outcome: Result<Judgement, RefusedBatch>,
}

/// Why nothing of what was handed over was judged. The trial goes on.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unheard {
    /// The sample was refused; the next one bridges the gap.
    #[error(transparent)]
    Sample(#[from] RefusedSample),
    /// The interval cannot be judged.
    #[error(transparent)]
    Period(#[from] DroppedPeriod),
}

impl Trial {
    /// A trial of one release. A retry of the same release is a new trial.
    pub fn new(config: Config) -> Result<Trial, ConfigError> {
        Ok(Trial {
            judge: Judge::new(config)?,
            batches: Batches::new(),
            counters: Counters::new(),
            sampled: None,
            weight: None,
            skip: 0,
        })
    }

    /// The same trial, which leaves the first `batches` out: start-up noise, for versions that
    /// are known to have some. The number must be chosen before the release; leaving batches
    /// out because of what they say voids every promise.
    #[must_use]
    pub fn skipping(mut self, batches: u32) -> Trial {
        self.skip = batches;
        self
    }

    /// The trial that was saved, if it was made of this very configuration.
    pub fn resumed_under(self, config: &Config) -> Result<Trial, ResumeError> {
        Ok(Trial {
            judge: self.judge.resumed_under(config)?,
            ..self
        })
    }

    /// Green's share of the traffic (in percent) as it is seen now: call it at every look,
    /// before [`sample`](Trial::sample) or [`period`](Trial::period). A share that is not the
    /// last one's has changed at some moment since then.
    pub fn weight(&mut self, now: Timestamp, green: u8) {
        if let Some((before, last)) = self.weight
            && last != green
        {
            self.batches.weights_changed_between(before, now);
        }
        self.weight = Some((now, green));
    }

    /// Green's share changed at exactly this moment, for who knows it: intervals that end or
    /// begin there are not lost. Call it before anything that was counted later is handed over.
    pub fn weight_changed(&mut self, at: Timestamp, green: u8) {
        if self.weight.is_none_or(|(_, last)| last != green) {
            self.batches.weights_changed(at);
        }
        self.weight = Some((at, green));
    }

    /// Judges what cumulative counters have grown by since the last sample. Counters that are
    /// read at the very moment of a change of weights, too, lose nothing to it.
    pub fn sample(&mut self, at: Timestamp, sample: &Sample) -> Result<Vec<Judged>, Unheard> {
        let Some(before) = self.sampled else {
            let _origin = self.counters.observe(sample)?;
            self.sampled = Some(at);
            return Ok(Vec::new());
        };
        if at <= before {
            return Err(Unheard::Period(DroppedPeriod::Repeated {
                start: at,
                seen: before,
            }));
        }
        let batch = self.counters.observe(sample)?;
        self.sampled = Some(at);
        if self.batches.changed_by(before, at) {
            // What could not be read now would bring requests of the old weights later.
            self.counters.forget_all_but(sample);
        }
        self.period(before, at, batch)
    }

    /// Judges a complete period's counts: one of `CloudWatch`'s, each once and in order
    /// ([`complete_periods`](super::cut::complete_periods)).
    pub fn period(
        &mut self,
        start: Timestamp,
        end: Timestamp,
        batch: Batch,
    ) -> Result<Vec<Judged>, Unheard> {
        let ready = self.batches.period(start, end, batch)?;
        Ok(ready.into_iter().filter_map(|cut| self.hear(cut)).collect())
    }

    /// Judges what was too thin for a batch of its own, at the end of the release.
    pub fn finish(&mut self) -> Option<Judged> {
        let cut = self.batches.finish()?;
        self.hear(cut)
    }

    fn hear(&mut self, cut: Cut) -> Option<Judged> {
        if let Some(left) = self.skip.checked_sub(1) {
            self.skip = left;
            return None;
        }
        let outcome = self.judge.observe_until(cut.end, &cut.batch);
        Some(Judged { cut, outcome })
    }

    /// The judge: its standing, its evidence, `ln E` of its processes.
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Blue's response times from before the release
    /// ([`Judge::remember_latency`]).
    pub fn remember_latency(&mut self, past: &super::Histogram) -> Result<(), RefusedBatch> {
        self.judge.remember_latency(past)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Side;
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn sides(blue: Option<i64>, green: Option<i64>) -> Sample {
        let side = |n| Side::new(n, 0);
        Sample::of_sides(blue.map(side), green.map(side))
    }

    /// Interval and requests of each batch.
    fn heard(judged: Result<Vec<Judged>, Unheard>) -> Vec<(u64, u64, i64, i64)> {
        let n = |side: &Option<Side>| side.as_ref().map_or(-1, |side| side.requests);
        judged
            .expect("heard")
            .into_iter()
            .map(|judged| {
                judged.outcome.expect("possible");
                let Cut { start, end, batch } = judged.cut;
                let (blue, green) = (n(&batch.baseline), n(&batch.candidate));
                (start.as_secs(), end.as_secs(), blue, green)
            })
            .collect()
    }

    #[test]
    fn requests_of_other_weights_are_not_smuggled_in_by_a_gap() {
        let mut trial = Trial::new(Config::default()).expect("valid");
        trial.weight(at(0), 10);
        assert_eq!(heard(trial.sample(at(0), &sides(Some(0), Some(0)))), []);
        let first = trial.sample(at(10), &sides(Some(90), Some(10)));
        assert_eq!(heard(first), [(0, 10, 90, 10)]);
        // Green cannot be read at the change; ten of its requests belong to the old weights.
        trial.weight_changed(at(20), 50);
        let second = trial.sample(at(20), &sides(Some(180), None));
        assert_eq!(heard(second), [(10, 20, 90, -1)]);
        let origin = trial.sample(at(30), &sides(Some(230), Some(70)));
        assert_eq!(heard(origin), [(20, 30, 50, -1)]);
        let third = trial.sample(at(40), &sides(Some(280), Some(120)));
        assert_eq!(heard(third), [(30, 40, 50, 50)]);
    }

    #[test]
    fn a_weight_that_is_seen_to_differ_costs_one_interval() {
        let mut trial = Trial::new(Config::default()).expect("valid");
        let mut look = |time, weight, blue, green| {
            trial.weight(at(time), weight);
            trial.sample(at(time), &sides(Some(blue), Some(green)))
        };
        assert_eq!(heard(look(0, 10, 0, 0)), []);
        assert_eq!(heard(look(10, 10, 90, 10)), [(0, 10, 90, 10)]);
        assert!(matches!(
            look(20, 20, 175, 25),
            Err(Unheard::Period(DroppedPeriod::WeightChanged { .. }))
        ));
        assert_eq!(heard(look(30, 20, 255, 45)), [(20, 30, 80, 20)]);
        assert!(matches!(
            look(30, 20, 255, 45),
            Err(Unheard::Period(DroppedPeriod::Repeated { .. }))
        ));
    }

    #[test]
    fn start_up_noise_is_left_out_by_number() {
        let mut trial = Trial::new(Config::default()).expect("valid").skipping(2);
        let bad = |end| {
            Batch::new(
                Side::new(90, 0),
                Side::new(10, if end <= 20 { 10 } else { 0 }),
            )
        };
        for end in [10, 20, 30] {
            let judged = trial.period(at(end - 10), at(end), bad(end));
            assert_eq!(judged.expect("heard").len(), usize::from(end > 20));
        }
        assert_eq!(trial.judge().batches(), 1);
        assert_eq!(trial.judge().candidate().errors, 0);
    }

    #[test]
    fn a_trial_that_was_saved_judges_on() {
        let mut trial = Trial::new(Config::default()).expect("valid");
        trial.weight(at(0), 10);
        let mut resumed = None;
        for look in 0..20_u64 {
            if look == 7 {
                let saved = serde_json::to_string(&trial).expect("writes");
                let read: Trial = serde_json::from_str(&saved).expect("reads");
                assert_eq!(read, trial);
                resumed = Some(read.resumed_under(&Config::default()).expect("same"));
            }
            let weight = if look < 10 { 10 } else { 50 };
            let n = i64::try_from(look).expect("small");
            let sample = Sample::of_sides(
                Some(Side::new(90 * n, n / 4)),
                Some(Side::new(10 * n, n / 2)),
            );
            for trial in std::iter::once(&mut trial).chain(&mut resumed) {
                trial.weight(at(10 * look), weight);
                let _ = trial.sample(at(10 * look), &sample);
            }
        }
        assert_eq!(resumed, Some(trial));
    }
}
