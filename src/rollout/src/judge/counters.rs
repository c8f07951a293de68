//! Batches from counters that only grow.
//!
//! A program counts its requests since it started; what the judge wants is how many there were
//! since the last look. The rules are few: the first sample of a task is its origin; a counter
//! that went down was reset, and the new value is the increment, for all counters of that task
//! at once; a look that brought nothing merges into the next. All of it per task, before
//! summing: one restarted task among five must not look like a negative flood.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::batch::{Batch, BoundedHistogram, Histogram, Side, Which};

/// The last counters of every task of both sides; serialisable, so that a release that is
/// resumed goes on counting where it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    baseline: BTreeMap<String, Side>,
    candidate: BTreeMap<String, Side>,
}

/// One look at the counters. A side that could not be read is `None`, a task that could not be
/// read is missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Blue's tasks.
    #[serde(default)]
    pub baseline: Option<BTreeMap<String, Side>>,
    /// Green's tasks.
    #[serde(default)]
    pub candidate: Option<BTreeMap<String, Side>>,
}

/// Why a sample was refused. The counters are as they were; the next sample bridges the gap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedSample {
    /// A counter is negative.
    #[error(
        "{side}'s task {task:?} counts {count}: a counter cannot be negative; the sample is ignored"
    )]
    Negative {
        /// Whose.
        side: Which,
        /// Which task.
        task: String,
        /// What it says.
        count: i64,
    },
    /// A histogram has other bounds than the task's last one or the other tasks' ones.
    #[error(
        "{side}'s task {task:?} counts response times over other bounds than before or than its sisters; the sample is ignored"
    )]
    OtherBounds {
        /// Whose.
        side: Which,
        /// Which task.
        task: String,
    },
}

impl Sample {
    /// A sample of counters that are one per side.
    pub fn of_sides(baseline: Option<Side>, candidate: Option<Side>) -> Sample {
        let one = |side| BTreeMap::from([(String::new(), side)]);
        Sample {
            baseline: baseline.map(one),
            candidate: candidate.map(one),
        }
    }
}

impl Counters {
    /// No sample yet.
    pub fn new() -> Counters {
        Counters::default()
    }

    /// What happened since the last samples. A side is `None` where nothing is known: it could
    /// not be read, or all its tasks were seen for the first time.
    pub fn observe(&mut self, sample: &Sample) -> Result<Batch, RefusedSample> {
        let baseline = increments(Which::Baseline, &self.baseline, sample.baseline.as_ref())?;
        let candidate = increments(Which::Candidate, &self.candidate, sample.candidate.as_ref())?;
        remember(&mut self.baseline, sample.baseline.as_ref());
        remember(&mut self.candidate, sample.candidate.as_ref());
        Ok(Batch {
            baseline,
            candidate,
        })
    }
}

impl Counters {
    /// Forgets the tasks that this sample does not hold: their next sample is a new origin. For
    /// what they count until then nobody knows under which weights it was.
    pub(super) fn forget_all_but(&mut self, sample: &Sample) {
        for (last, read) in [
            (&mut self.baseline, &sample.baseline),
            (&mut self.candidate, &sample.candidate),
        ] {
            last.retain(|task, _| read.as_ref().is_some_and(|tasks| tasks.contains_key(task)));
        }
    }
}

fn remember(last: &mut BTreeMap<String, Side>, tasks: Option<&BTreeMap<String, Side>>) {
    for (task, counters) in tasks.into_iter().flatten() {
        last.insert(task.clone(), counters.clone());
    }
}

fn increments(
    side: Which,
    last: &BTreeMap<String, Side>,
    tasks: Option<&BTreeMap<String, Side>>,
) -> Result<Option<Side>, RefusedSample> {
    let mut sum: Option<Side> = None;
    for (task, now) in tasks.into_iter().flatten() {
        let histogram = now.latency.as_ref().map_or(&[][..], Histogram::counts);
        let counts = [now.requests, now.errors];
        if let Some(count) = counts.iter().chain(histogram).copied().find(|n| *n < 0) {
            return Err(RefusedSample::Negative {
                side,
                task: task.clone(),
                count,
            });
        }
        let Some(before) = last.get(task) else {
            continue;
        };
        let other = || RefusedSample::OtherBounds {
            side,
            task: task.clone(),
        };
        let increment = increment(before, now).ok_or_else(other)?;
        sum = Some(match sum {
            None => increment,
            Some(sum) => add(&sum, &increment).ok_or_else(other)?,
        });
    }
    Ok(sum)
}

/// What one task counted since `before`; `None` where its histograms cannot be compared.
fn increment(before: &Side, now: &Side) -> Option<Side> {
    let histograms = match (&before.latency, &now.latency) {
        (Some(before), Some(now)) => {
            comparable(before, now).then_some(())?;
            Some((before.counts(), now.counts()))
        }
        _ => None,
    };
    let reset = now.requests < before.requests
        || now.errors < before.errors
        || histograms.is_some_and(|(before, now)| before.iter().zip(now).any(|(b, n)| n < b));
    if reset {
        return Some(now.clone());
    }
    Some(Side {
        requests: now.requests.saturating_sub(before.requests),
        errors: now.errors.saturating_sub(before.errors),
        latency: histograms.and_then(|(before, counts)| {
            let counts = before.iter().zip(counts).map(|(b, n)| n.saturating_sub(*b));
            Some(like(now.latency.as_ref()?, counts.collect()))
        }),
    })
}

/// The sum over two tasks; `None` where their histograms cannot be added. Response times of
/// which a part is missing are no sample of all: then there are none.
fn add(a: &Side, b: &Side) -> Option<Side> {
    let latency = match (&a.latency, &b.latency) {
        (Some(a), Some(b)) => {
            comparable(a, b).then_some(())?;
            let counts = a.counts().iter().zip(b.counts());
            Some(like(a, counts.map(|(a, b)| a.saturating_add(*b)).collect()))
        }
        _ => None,
    };
    Some(Side {
        requests: a.requests.saturating_add(b.requests),
        errors: a.errors.saturating_add(b.errors),
        latency,
    })
}

/// Whether two histograms have the same bounds, as far as they say.
fn comparable(a: &Histogram, b: &Histogram) -> bool {
    let same = match (a, b) {
        (Histogram::Bounded(a), Histogram::Bounded(b)) => a.bounds_ms == b.bounds_ms,
        _ => true,
    };
    same && a.counts().len() == b.counts().len()
}

/// These counts over the same bounds.
fn like(histogram: &Histogram, counts: Vec<i64>) -> Histogram {
    match histogram {
        Histogram::Counts(_) => Histogram::Counts(counts),
        Histogram::Bounded(bounded) => Histogram::Bounded(BoundedHistogram {
            bounds_ms: bounded.bounds_ms.clone(),
            counts,
        }),
    }
}

/// Two histograms that cannot be added.
pub(super) struct OtherBounds;

/// The sum of two batches' counts of one side; nothing is no data.
pub(super) fn merge(a: Option<&Side>, b: Option<&Side>) -> Result<Option<Side>, OtherBounds> {
    match (a, b) {
        (Some(a), Some(b)) => add(a, b).map(Some).ok_or(OtherBounds),
        (side, None) | (None, side) => Ok(side.cloned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tasks: &[(&str, i64, i64)]) -> Sample {
        Sample {
            baseline: None,
            candidate: Some(
                tasks
                    .iter()
                    .map(|(task, n, x)| ((*task).to_owned(), Side::new(*n, *x)))
                    .collect(),
            ),
        }
    }

    fn green(counters: &mut Counters, tasks: &[(&str, i64, i64)]) -> Option<(i64, i64)> {
        let batch = counters.observe(&sample(tasks)).expect("possible counts");
        assert_eq!(batch.baseline, None);
        batch.candidate.map(|side| (side.requests, side.errors))
    }

    #[test]
    fn resets_are_seen_per_task_before_summing() {
        let mut counters = Counters::new();
        assert_eq!(green(&mut counters, &[("a", 1000, 5), ("b", 700, 0)]), None);
        assert_eq!(
            green(&mut counters, &[("a", 1010, 5), ("b", 720, 1)]),
            Some((30, 1))
        );
        // b restarts: 8 requests since, 2 of them failed; in the sum it would be a fall.
        assert_eq!(
            green(&mut counters, &[("a", 1020, 5), ("b", 8, 2)]),
            Some((18, 2))
        );
        // A reset of the failures alone is one of the requests too.
        assert_eq!(
            green(&mut counters, &[("a", 1030, 4), ("b", 8, 2)]),
            Some((1030, 4))
        );
        // c is new: its first sample is its origin. b could not be read, and merges.
        assert_eq!(
            green(&mut counters, &[("a", 1030, 4), ("c", 50, 50)]),
            Some((0, 0))
        );
        assert_eq!(
            green(&mut counters, &[("b", 20, 3), ("c", 60, 51)]),
            Some((22, 2))
        );
    }

    #[test]
    fn a_refused_sample_changes_nothing() {
        let mut counters = Counters::new();
        green(&mut counters, &[("a", 10, 0)]);
        let before = counters.clone();
        let refused = counters.observe(&sample(&[("a", 20, 0), ("b", 5, -1)]));
        assert!(matches!(
            refused,
            Err(RefusedSample::Negative { count: -1, .. })
        ));
        assert_eq!(counters, before);
        assert_eq!(green(&mut counters, &[("a", 30, 1)]), Some((20, 1)));
    }

    #[test]
    fn response_times_are_counted_like_requests() {
        let side = |n, counts: &[i64]| Side {
            requests: n,
            errors: 0,
            latency: Some(Histogram::Counts(counts.to_vec())),
        };
        let mut counters = Counters::new();
        let mut observe = |side: Side| counters.observe(&Sample::of_sides(Some(side), None));
        assert_eq!(observe(side(10, &[4, 6])).expect("first").baseline, None);
        assert_eq!(
            observe(side(15, &[4, 11])).expect("grown").baseline,
            Some(side(5, &[0, 5]))
        );
        assert_eq!(
            observe(side(16, &[3, 13])).expect("reset").baseline,
            Some(side(16, &[3, 13]))
        );
        assert!(matches!(
            observe(side(20, &[1, 2, 3])),
            Err(RefusedSample::OtherBounds { .. })
        ));
    }
}
