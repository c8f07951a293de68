//! What one poll brings: requests and failures of both sides over the same interval.
//!
//! Counts are signed, because what comes from outside can be impossible, and the judge must be
//! able to say so instead of being unable to hold it.

use serde::{Deserialize, Serialize};

use super::config::{Config, Latency};
use crate::Timestamp;

/// One interval's counts. A side without data is `None`, which is not the same as zero requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Blue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Side>,
    /// Green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Side>,
}

/// One side's counts over an interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// How many requests were answered or failed.
    pub requests: i64,
    /// How many of them failed. A missing count of failures beside a count of requests is zero:
    /// load balancers publish it only when it is not.
    #[serde(default)]
    pub errors: i64,
    /// Response times of the requests that did not fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Histogram>,
}

/// Response times in buckets; bucket `i` holds those above bound `i - 1` and up to bound `i`,
/// the last one everything above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Histogram {
    /// Over the bounds of the judge's configuration.
    Counts(Vec<i64>),
    /// Over bounds that it names, which must be those of the configuration.
    Bounded(BoundedHistogram),
}

/// A histogram that knows its bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundedHistogram {
    /// Upper bounds in milliseconds.
    pub bounds_ms: Vec<f64>,
    /// One count more than bounds.
    pub counts: Vec<i64>,
}

impl Histogram {
    /// The buckets' counts.
    pub fn counts(&self) -> &[i64] {
        match self {
            Histogram::Counts(counts) => counts,
            Histogram::Bounded(bounded) => &bounded.counts,
        }
    }
}

impl Side {
    /// So many requests, so many of them failed; no response times.
    pub const fn new(requests: i64, errors: i64) -> Side {
        Side {
            requests,
            errors,
            latency: None,
        }
    }
}

impl Batch {
    /// Both sides' counts.
    pub const fn new(baseline: Side, candidate: Side) -> Batch {
        Batch {
            baseline: Some(baseline),
            candidate: Some(candidate),
        }
    }
}

/// Which side of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Blue, the running version.
    Baseline,
    /// Green, the new one.
    Candidate,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Which::Baseline => "blue",
            Which::Candidate => "green",
        })
    }
}

/// Why a batch, both sides of it, was refused. The judge is as it was before.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RefusedBatch {
    /// A negative count.
    #[error("{side} counts {count}: a count cannot be negative; the batch is ignored")]
    Negative {
        /// Whose.
        side: Which,
        /// What was counted.
        count: i64,
    },
    /// More failures than requests.
    #[error("{side} fails {errors} of {requests} requests, which cannot be; the batch is ignored")]
    MoreErrorsThanRequests {
        /// Whose.
        side: Which,
        /// How many failed.
        errors: i64,
        /// Of how many.
        requests: i64,
    },
    /// More than anybody serves in a batch.
    #[error("{side} counts {count}: more than {MAX_COUNT} in one batch is taken for a mistake")]
    TooMany {
        /// Whose.
        side: Which,
        /// What was counted.
        count: i64,
    },
    /// A histogram over other bounds than the configuration's.
    #[error(
        "{side}'s response times come in {buckets} buckets over other bounds than the {expected} of the configuration; the batch is ignored"
    )]
    OtherBounds {
        /// Whose.
        side: Which,
        /// How many there are.
        buckets: usize,
        /// How many there should be.
        expected: usize,
    },
    /// The interval does not end after the last one that was judged: each is judged once.
    #[error("the interval that ends at {end} was judged already (up to {judged})")]
    Repeated {
        /// The end of the interval.
        end: Timestamp,
        /// The end of the last one judged.
        judged: Timestamp,
    },
}

/// The most of anything in one batch.
pub const MAX_COUNT: i64 = 1_000_000_000;

/// A side whose counts are possible. A side without data has none of anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Checked {
    pub n: u64,
    pub x: u64,
    /// The histogram; `None` where there is none or latency is off.
    pub latency: Option<Vec<u64>>,
}

impl Checked {
    /// How many response times.
    pub fn samples(&self) -> u64 {
        self.latency.iter().flatten().sum()
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.n == 0 && self.latency.is_none()
    }
}

fn natural(side: Which, count: i64) -> Result<u64, RefusedBatch> {
    if count > MAX_COUNT {
        return Err(RefusedBatch::TooMany { side, count });
    }
    u64::try_from(count).map_err(|_| RefusedBatch::Negative { side, count })
}

/// Both sides of a batch, blue first.
pub(super) fn check(config: &Config, batch: &Batch) -> Result<(Checked, Checked), RefusedBatch> {
    let latency = config.latency.as_ref();
    Ok((
        check_side(latency, Which::Baseline, batch.baseline.as_ref())?,
        check_side(latency, Which::Candidate, batch.candidate.as_ref())?,
    ))
}

fn check_side(
    latency: Option<&Latency>,
    which: Which,
    side: Option<&Side>,
) -> Result<Checked, RefusedBatch> {
    let Some(side) = side else {
        return Ok(Checked::default());
    };
    let n = natural(which, side.requests)?;
    let x = natural(which, side.errors)?;
    if x > n {
        return Err(RefusedBatch::MoreErrorsThanRequests {
            side: which,
            errors: side.errors,
            requests: side.requests,
        });
    }
    let latency = side
        .latency
        .as_ref()
        .map(|histogram| check_histogram(latency, which, histogram))
        .transpose()?
        .filter(|_| latency.is_some());
    Ok(Checked { n, x, latency })
}

/// A histogram's counts, where it has the bounds of the configuration (if that has any).
pub(super) fn check_histogram(
    latency: Option<&Latency>,
    side: Which,
    histogram: &Histogram,
) -> Result<Vec<u64>, RefusedBatch> {
    if let Some(latency) = latency {
        let other = match histogram {
            Histogram::Counts(_) => false,
            Histogram::Bounded(bounded) => bounded.bounds_ms != latency.bounds_ms,
        };
        if other || histogram.counts().len() != latency.buckets() {
            return Err(RefusedBatch::OtherBounds {
                side,
                buckets: histogram.counts().len(),
                expected: latency.buckets(),
            });
        }
    }
    let counts = histogram
        .counts()
        .iter()
        .map(|count| natural(side, *count))
        .collect::<Result<Vec<u64>, _>>()?;
    let total = counts.iter().fold(0_u64, |sum, n| sum.saturating_add(*n));
    natural(side, i64::try_from(total).unwrap_or(i64::MAX))?;
    Ok(counts)
}
