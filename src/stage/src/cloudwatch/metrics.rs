//! Metrics as CloudWatch keeps them: no single values, but a statistic set a minute.
//!
//! A metric that nobody publishes in a minute has *no* point in that minute, which is not the same
//! as a zero: it is what `TreatMissingData` of an alarm is about. So an empty bucket does not exist
//! here either.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rollout::{
    Timestamp,
    alarm::{Metric, Statistic},
};

/// The resolution of AWS's own metrics, and of the buckets here.
pub const RESOLUTION: Duration = Duration::from_mins(1);

/// Buckets kept a metric: a day.
const KEPT: usize = 24 * 60;

/// What was published of one metric in one minute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatisticSet {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl StatisticSet {
    fn of(value: f64) -> Self {
        Self {
            count: 1,
            sum: value,
            min: value,
            max: value,
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The value of one statistic.
    pub fn get(&self, statistic: Statistic) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let count = self.count as f64;
        match statistic {
            Statistic::Sum => self.sum,
            Statistic::SampleCount => count,
            Statistic::Average => self.sum / count,
            Statistic::Minimum => self.min,
            Statistic::Maximum => self.max,
        }
    }
}

/// One metric: what a publisher holds on to, so that adding a value costs no look-up.
#[derive(Debug, Default)]
pub struct Series(Mutex<VecDeque<(u64, StatisticSet)>>);

/// How the values of a metric are distributed, for statistics that a [`StatisticSet`] cannot answer.
/// Values are kept in steps of 0.1 ms, which is finer than anybody asks for.
#[derive(Debug, Default)]
pub struct Distribution(Mutex<VecDeque<(u64, BTreeMap<u64, u64>)>>);

/// Steps of a [`Distribution`] in a second.
const STEPS: f64 = 10_000.0;

impl Distribution {
    /// Adds a value in seconds at a point in virtual time.
    pub fn add(&self, at: Timestamp, seconds: f64) {
        let bucket = bucket(at);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A value that comes late belongs to the last minute that is not after it.
        let place = buckets.iter().rposition(|(start, _)| *start <= bucket);
        let place = match place {
            Some(place) if buckets[place].0 == bucket => place,
            place => {
                let place = place.map_or(0, |place| place + 1);
                buckets.insert(place, (bucket, BTreeMap::new()));
                place
            }
        };
        *buckets[place].1.entry(steps(seconds)).or_default() += 1;
        if buckets.len() > KEPT {
            buckets.pop_front();
        }
    }

    /// How many values above `low` and up to `high` (seconds) were added from `from` up to, but not
    /// including, `until`; `None` if there was no value at all.
    pub fn count(&self, from: Timestamp, until: Timestamp, low: f64, high: f64) -> Option<u64> {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, until) = (from.as_millis(), until.as_millis());
        let (low, high) = (steps(low), steps(high));
        buckets
            .iter()
            .filter(|(start, _)| (from..until).contains(start))
            .map(|(_, values)| {
                let within = values
                    .iter()
                    .filter(|(value, _)| (low + 1..=high).contains(*value));
                within.map(|(_, count)| count).sum()
            })
            .reduce(|sum: u64, count| sum + count)
    }
}

/// Rounded up, so that a value on a bound lies at or below it.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, which is right for what is below 0 and for infinity"
)]
fn steps(seconds: f64) -> u64 {
    (seconds * STEPS - 1e-6).ceil().max(0.0) as u64
}

impl Series {
    /// Adds a value at a point in virtual time.
    pub fn add(&self, at: Timestamp, value: f64) {
        let bucket = bucket(at);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Almost always the last one.
        if let Some((last, set)) = buckets.back_mut()
            && *last == bucket
        {
            set.merge(StatisticSet::of(value));
            return;
        }
        // Values that come late find theirs.
        let place = buckets.iter().rposition(|(start, _)| *start <= bucket);
        match place {
            Some(place) if buckets[place].0 == bucket => {
                buckets[place].1.merge(StatisticSet::of(value));
            }
            place => {
                let place = place.map_or(0, |place| place + 1);
                buckets.insert(place, (bucket, StatisticSet::of(value)));
                if buckets.len() > KEPT {
                    buckets.pop_front();
                }
            }
        }
    }

    /// All that was published from `from` up to, but not including, `until`, by whole minutes.
    pub fn between(&self, from: Timestamp, until: Timestamp) -> Option<StatisticSet> {
        let buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, until) = (from.as_millis(), until.as_millis());
        buckets
            .iter()
            .rev()
            .skip_while(|(start, _)| *start >= until)
            .take_while(|(start, _)| *start >= from)
            .map(|(_, set)| *set)
            .reduce(|mut sum, set| {
                sum.merge(set);
                sum
            })
    }
}

fn bucket(at: Timestamp) -> u64 {
    let resolution = 60_000;
    at.as_millis() / resolution * resolution
}

/// All metrics of the stage. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    series: Arc<Mutex<HashMap<String, Arc<Series>>>>,
    distributions: Arc<Mutex<HashMap<String, Arc<Distribution>>>>,
}

impl Metrics {
    /// No metrics yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The series of a metric. Each set of dimensions is a metric of its own, as in CloudWatch.
    pub fn series(&self, metric: &Metric) -> Arc<Series> {
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(key(metric)).or_default())
    }

    /// The distribution of a metric's values, for metrics that are published with one.
    pub fn distribution(&self, metric: &Metric) -> Arc<Distribution> {
        let mut all = self
            .distributions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(key(metric)).or_default())
    }

    /// Publishes one value. Who publishes many keeps the [`Series`].
    pub fn record(&self, metric: &Metric, at: Timestamp, value: f64) {
        self.series(metric).add(at, value);
    }

    /// What was published of a metric from `from` up to, but not including, `until`.
    pub fn between(
        &self,
        metric: &Metric,
        from: Timestamp,
        until: Timestamp,
    ) -> Option<StatisticSet> {
        let series = {
            let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.get(&key(metric))?)
        };
        series.between(from, until)
    }

    /// The sum of a metric over all time; zero when it was never published.
    pub fn total(&self, metric: &Metric) -> f64 {
        self.between(
            metric,
            Timestamp::from_millis(0),
            Timestamp::from_millis(u64::MAX),
        )
        .map_or(0.0, |set| set.sum)
    }
}

/// Namespace, name and dimensions in one; the separators cannot occur in any of them.
fn key(metric: &Metric) -> String {
    let mut key = format!("{}\u{1f}{}", metric.namespace, metric.name);
    for (name, value) in &metric.dimensions {
        key.push('\u{1f}');
        key.push_str(name);
        key.push('\u{1e}');
        key.push_str(value);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn a_minute_holds_the_statistics_of_its_values() {
        let series = Series::default();
        for (second, value) in [(60, 3.0), (61, 1.0), (119, 8.0), (120, 100.0)] {
            series.add(at(second), value);
        }
        let minute = series.between(at(60), at(120)).expect("a point");
        assert_eq!(
            minute,
            StatisticSet {
                count: 3,
                sum: 12.0,
                min: 1.0,
                max: 8.0
            }
        );
        assert!((minute.get(Statistic::Average) - 4.0).abs() < 1e-9);
        assert_eq!(
            series.between(at(0), at(60)),
            None,
            "no value is not a zero"
        );
    }

    #[test]
    fn late_values_find_their_minute() {
        let series = Series::default();
        for second in [180, 60, 120, 61] {
            series.add(at(second), 1.0);
        }
        let sum = |from, until| series.between(at(from), at(until)).map(|set| set.sum);
        assert_eq!(
            (sum(60, 120), sum(120, 180), sum(60, 240)),
            (Some(2.0), Some(1.0), Some(4.0))
        );
    }

    #[test]
    fn a_distribution_counts_between_two_bounds() {
        let times = Distribution::default();
        for (second, value) in [
            (60, 0.005),
            (61, 0.0051),
            (119, 0.01),
            (120, 0.5),
            (59, 9.0),
        ] {
            times.add(at(second), value);
        }
        let count = |low, high| times.count(at(60), at(120), low, high);
        assert_eq!(count(0.0, 0.005), Some(1));
        assert_eq!(count(0.005, 0.01), Some(2));
        assert_eq!(count(0.01, f64::INFINITY), Some(0));
        assert_eq!(times.count(at(180), at(240), 0.0, 1.0), None);
    }

    #[test]
    fn each_set_of_dimensions_is_a_metric_of_its_own() {
        let metrics = Metrics::new();
        let metric = |dimensions: &[(&str, &str)]| Metric {
            namespace: "AWS/ApplicationELB".into(),
            name: "RequestCount".into(),
            dimensions: dimensions
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
        };
        let (lb, both) = (
            metric(&[("LoadBalancer", "app/a/1")]),
            metric(&[
                ("LoadBalancer", "app/a/1"),
                ("TargetGroup", "targetgroup/b/2"),
            ]),
        );
        metrics.record(&lb, at(60), 1.0);
        assert!((metrics.total(&lb) - 1.0).abs() < 1e-9);
        assert_eq!(metrics.between(&both, at(0), at(1000)), None);
    }
}
