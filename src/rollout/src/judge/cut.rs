//! Where batches begin and end.
//!
//! Three rules (docs/judge.md, "Data"). No batch straddles a change of the weights: the
//! tests condition on each batch's totals, and a batch of two weights would be two tables
//! pooled, which is how equal versions get accused. A period that straddles one is dropped:
//! nobody can say which of its requests came before. Thin polls are merged until both sides
//! have a request or [`ENOUGH`] requests are in; the rule looks at requests, never at failures.
//! And every period counts once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::batch::{Batch, Side};
use super::counters::merge;
use crate::Timestamp;

/// How many requests make a batch, where one side has none.
pub const ENOUGH: i64 = 20;

/// A batch and its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Where the interval begins.
    pub start: Timestamp,
    /// Where it ends.
    pub end: Timestamp,
    /// What happened in it.
    pub batch: Batch,
}

/// Makes batches of periods. Serialisable, so that a release that is resumed loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batches {
    pending: Option<Cut>,
    /// When the weights changed.
    changes: Vec<Change>,
    /// The end of the last period that was taken or dropped.
    seen_until: Option<Timestamp>,
}

/// A change of the weights: at one moment, or at an unknown one between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Up to here the old weights held.
    pub after: Timestamp,
    /// From here on the new ones do.
    pub by: Timestamp,
}

impl Change {
    /// Whether all of an interval had the same weights, as far as this change goes. At the very
    /// moment of a change the new weights hold.
    fn spares(&self, start: Timestamp, end: Timestamp) -> bool {
        self.by <= start || self.after >= end
    }
}

/// Why a period does not become part of a batch. What was collected before is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DroppedPeriod {
    /// It ends where it begins, or before.
    #[error("a period from {start} to {end} has no length: it is ignored")]
    Empty {
        /// Its start.
        start: Timestamp,
        /// Its end.
        end: Timestamp,
    },
    /// It, or a part of it, was taken already.
    #[error("the period from {start} was taken already, up to {seen}: it is ignored")]
    Repeated {
        /// Its start.
        start: Timestamp,
        /// Up to where periods were taken.
        seen: Timestamp,
    },
    /// The weights changed within it.
    #[error(
        "the weights changed by {}, within a period from {start} to {end}: it is dropped", change.by
    )]
    WeightChanged {
        /// Its start.
        start: Timestamp,
        /// Its end.
        end: Timestamp,
        /// When the weights changed.
        change: Change,
    },
}

impl Batches {
    /// Nothing collected.
    pub fn new() -> Batches {
        Batches::default()
    }

    /// The weights changed at this moment. Tell it before any period that ends later; periods
    /// may arrive much later than that, and out of step with it.
    pub fn weights_changed(&mut self, at: Timestamp) {
        self.weights_changed_between(at, at);
    }

    /// The weights changed at some moment after `after` and not after `by`: who only looks now
    /// and then knows no better. Every period that has a part in that time is dropped.
    pub fn weights_changed_between(&mut self, after: Timestamp, by: Timestamp) {
        let change = Change {
            after: after.min(by),
            by,
        };
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Whether all of an interval had the same weights.
    pub fn steady(&self, start: Timestamp, end: Timestamp) -> bool {
        self.changes.iter().all(|change| change.spares(start, end))
    }

    /// Whether the weights may have changed after `start`, up to and including `end`.
    pub(super) fn changed_by(&self, start: Timestamp, end: Timestamp) -> bool {
        !self.steady(start, end)
            || self
                .changes
                .iter()
                .any(|change| start < change.by && change.by <= end)
    }

    /// Takes a period, and hands out what is complete, oldest first: none, one or two batches.
    pub fn period(
        &mut self,
        start: Timestamp,
        end: Timestamp,
        batch: Batch,
    ) -> Result<Vec<Cut>, DroppedPeriod> {
        if end <= start {
            return Err(DroppedPeriod::Empty { start, end });
        }
        if let Some(seen) = self.seen_until
            && start < seen
        {
            return Err(DroppedPeriod::Repeated { start, seen });
        }
        self.seen_until = Some(end);
        if let Some(change) = self.change_within(start, end) {
            return Err(DroppedPeriod::WeightChanged { start, end, change });
        }
        let mut ready = Vec::new();
        let mut now = Cut { start, end, batch };
        if let Some(before) = self.pending.take() {
            let cut = self
                .changes
                .iter()
                .any(|change| before.end <= change.after && change.by <= start);
            match merged(&before, &now) {
                Some(both) if !cut => now = both,
                _ => ready.push(before),
            }
        }
        if enough(&now.batch) {
            ready.push(now);
        } else {
            self.pending = Some(now);
        }
        Ok(ready)
    }

    /// Hands out what was collected, thin as it is: at the end of the release.
    pub fn finish(&mut self) -> Option<Cut> {
        self.pending.take()
    }

    fn change_within(&self, start: Timestamp, end: Timestamp) -> Option<Change> {
        let mut changes = self.changes.iter().copied();
        changes.find(|change| !change.spares(start, end))
    }
}

/// The periods that begin at multiples of `period`, from `after` on, and are complete at `now`:
/// a metric of a period may still grow for `settle` after its end (`CloudWatch` publishes a
/// load balancer's minute within the next one). Oldest first; none for a period of zero.
pub fn complete_periods(
    after: Timestamp,
    now: Timestamp,
    period: Duration,
    settle: Duration,
) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    let length = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    let first = after.as_millis().checked_next_multiple_of(length);
    let mut start = first
        .filter(|_| length > 0)
        .map_or(Timestamp::from_millis(u64::MAX), Timestamp::from_millis);
    std::iter::from_fn(move || {
        let end = start + period;
        let complete = start < end && end + settle <= now;
        complete.then(|| (std::mem::replace(&mut start, end), end))
    })
}

/// Two batches as one; `None` where they cannot be added up, or where one holds impossible
/// counts: the judge shall refuse that one, and only that one.
fn merged(before: &Cut, now: &Cut) -> Option<Cut> {
    let sides = [
        &before.batch.baseline,
        &before.batch.candidate,
        &now.batch.baseline,
        &now.batch.candidate,
    ];
    if sides.into_iter().flatten().any(impossible) {
        return None;
    }
    Some(Cut {
        start: before.start,
        end: now.end,
        batch: Batch {
            baseline: merge(before.batch.baseline.as_ref(), now.batch.baseline.as_ref()).ok()?,
            candidate: merge(
                before.batch.candidate.as_ref(),
                now.batch.candidate.as_ref(),
            )
            .ok()?,
        },
    })
}

fn impossible(side: &Side) -> bool {
    !(0..=side.requests).contains(&side.errors)
}

fn enough(batch: &Batch) -> bool {
    let side = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.requests);
    let (blue, green) = (side(&batch.baseline), side(&batch.candidate));
    let bad = [&batch.baseline, &batch.candidate];
    blue > 0 && green > 0
        || blue.saturating_add(green) >= ENOUGH
        || bad.into_iter().flatten().any(impossible)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn batch(blue: i64, green: i64) -> Batch {
        Batch::new(Side::new(blue, 0), Side::new(green, 0))
    }

    /// Start, end and requests of each batch.
    fn shape(cuts: &[Cut]) -> Vec<(u64, u64, i64, i64)> {
        let n = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.requests);
        cuts.iter()
            .map(|cut| {
                let (blue, green) = (n(&cut.batch.baseline), n(&cut.batch.candidate));
                (cut.start.as_secs(), cut.end.as_secs(), blue, green)
            })
            .collect()
    }

    #[test]
    fn thin_polls_merge_until_both_sides_have_a_request_or_twenty_are_in() {
        let mut batches = Batches::new();
        let mut period = |start, blue, green| {
            let ready = batches.period(at(start), at(start + 10), batch(blue, green));
            shape(&ready.expect("taken"))
        };
        assert_eq!(period(0, 9, 0), []);
        assert_eq!(period(10, 4, 0), []);
        assert_eq!(period(20, 3, 1), [(0, 30, 16, 1)]);
        assert_eq!(period(30, 19, 0), []);
        assert_eq!(period(40, 1, 0), [(30, 50, 20, 0)]);
        assert_eq!(period(50, 0, 0), []);
        assert_eq!(batches.finish().map(|cut| cut.end), Some(at(60)));
        assert_eq!(batches.finish(), None);
    }

    #[test]
    fn no_batch_straddles_a_change_of_weights() {
        let mut batches = Batches::new();
        batches.weights_changed(at(60));
        assert_eq!(batches.period(at(0), at(60), batch(5, 0)), Ok(vec![]));
        // The change is at the seam: what was thin stays apart.
        let ready = batches.period(at(60), at(120), batch(3, 3)).expect("taken");
        assert_eq!(shape(&ready), [(0, 60, 5, 0), (60, 120, 3, 3)]);
        batches.weights_changed(at(150));
        assert_eq!(
            batches.period(at(120), at(180), batch(3, 3)),
            Err(DroppedPeriod::WeightChanged {
                start: at(120),
                end: at(180),
                change: Change {
                    after: at(150),
                    by: at(150)
                }
            })
        );
        let ready = batches
            .period(at(180), at(240), batch(1, 1))
            .expect("taken");
        assert_eq!(shape(&ready), [(180, 240, 1, 1)]);
    }

    #[test]
    fn a_change_at_an_unknown_moment_drops_all_that_it_may_have_met() {
        let mut batches = Batches::new();
        assert_eq!(batches.period(at(0), at(60), batch(5, 0)), Ok(vec![]));
        batches.weights_changed_between(at(80), at(85));
        for (start, end) in [(60, 70), (70, 80), (85, 90)] {
            assert!(batches.steady(at(start), at(end)), "{start} {end}");
        }
        assert!(matches!(
            batches.period(at(75), at(83), batch(3, 3)),
            Err(DroppedPeriod::WeightChanged { .. })
        ));
        let ready = batches.period(at(85), at(90), batch(3, 3)).expect("taken");
        assert_eq!(shape(&ready), [(0, 60, 5, 0), (85, 90, 3, 3)]);
    }

    #[test]
    fn periods_are_taken_when_they_are_complete() {
        let periods = |after, now| {
            let minute = Duration::from_mins(1);
            complete_periods(at(after), at(now), minute, minute)
                .map(|(start, end)| (start.as_secs(), end.as_secs()))
                .collect::<Vec<_>>()
        };
        assert_eq!(periods(0, 119), []);
        assert_eq!(periods(0, 120), [(0, 60)]);
        assert_eq!(periods(1, 245), [(60, 120), (120, 180)]);
        assert_eq!(periods(180, 245), []);
        let none = complete_periods(at(0), at(9), Duration::ZERO, Duration::ZERO);
        assert_eq!(none.count(), 0);
    }

    #[test]
    fn each_period_counts_once() {
        let mut batches = Batches::new();
        batches.period(at(0), at(60), batch(9, 9)).expect("taken");
        assert_eq!(
            batches.period(at(0), at(60), batch(9, 9)),
            Err(DroppedPeriod::Repeated {
                start: at(0),
                seen: at(60)
            })
        );
        assert!(matches!(
            batches.period(at(70), at(70), batch(9, 9)),
            Err(DroppedPeriod::Empty { .. })
        ));
    }

    #[test]
    fn impossible_counts_are_not_hidden_in_a_sum() {
        let mut batches = Batches::new();
        assert_eq!(batches.period(at(0), at(60), batch(5, 0)), Ok(vec![]));
        let bad = Batch::new(Side::new(3, 4), Side::new(0, 0));
        let ready = batches.period(at(60), at(120), bad.clone()).expect("taken");
        assert_eq!(ready.len(), 2);
        assert_eq!(ready[1].batch, bad);
    }
}
