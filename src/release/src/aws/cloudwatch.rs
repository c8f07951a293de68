//! CloudWatch: what the load balancer counted for each target group, a minute at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types as cw;
use rollout::Timestamp;
use rollout::judge::{Histogram, Side};

use super::{AwsError, failed};
use crate::target::MetricNames;

const SERVICE: &str = "CloudWatch";

/// A load balancer's metrics are of minutes ("CloudWatch metrics for your Application Load Balancer").
pub const PERIOD: Duration = Duration::from_mins(1);

/// The metrics that a request or a failure shows in, per target group. 5xx that the load balancer itself
/// answers have no target group: a green that refuses connections shows as connection errors.
const METRICS: [&str; 3] = [
    "RequestCount",
    "HTTPCode_Target_5XX_Count",
    "TargetConnectionErrorCount",
];

/// The load balancer's metrics.
#[derive(Debug, Clone)]
pub struct CloudWatch {
    client: aws_sdk_cloudwatch::Client,
    names: MetricNames,
}

/// What two target groups did in the minutes of an answer, by the minute's start.
pub type Minutes = BTreeMap<Timestamp, [Option<Side>; 2]>;

impl CloudWatch {
    /// The metrics of a target.
    pub fn new(config: &SdkConfig, names: &MetricNames) -> CloudWatch {
        CloudWatch {
            client: aws_sdk_cloudwatch::Client::new(config),
            names: names.clone(),
        }
    }

    /// The counts of two target groups in the minutes from `start` up to, but not including, `end`.
    ///
    /// A count of failures that is missing beside a count of requests is zero: it is published only
    /// when it is not. Without a count of requests nothing is known of that side. With `bounds` (upper
    /// ones, in milliseconds, rising) response times are counted between them; CloudWatch counts
    /// those of failed requests, too.
    pub async fn minutes(
        &self,
        groups: [&str; 2],
        (start, end): (Timestamp, Timestamp),
        bounds: Option<&[f64]>,
    ) -> Result<Minutes, AwsError> {
        let asked = asked(bounds);
        let queries = groups.iter().enumerate().flat_map(|(group, name)| {
            let asked = asked.iter().enumerate();
            asked.map(move |(place, (metric, stat))| {
                self.query(format!("g{group}m{place}"), name, metric, stat)
            })
        });
        let mut values: BTreeMap<Timestamp, [Vec<Option<f64>>; 2]> = BTreeMap::new();
        let mut pages = self
            .client
            .get_metric_data()
            .set_metric_data_queries(Some(queries.collect()))
            .start_time(time(start))
            .end_time(time(end))
            .scan_by(cw::ScanBy::TimestampAscending)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed(SERVICE, "GetMetricData"))?;
            for result in page.metric_data_results() {
                let Some((group, metric)) = result.id().and_then(|id| place(id, asked.len()))
                else {
                    continue;
                };
                for (at, value) in result.timestamps().iter().zip(result.values()) {
                    let Some(at) = at.to_millis().ok().and_then(|ms| u64::try_from(ms).ok()) else {
                        continue;
                    };
                    let minute = values
                        .entry(Timestamp::from_millis(at))
                        .or_insert_with(|| [vec![None; asked.len()], vec![None; asked.len()]]);
                    minute[group][metric] = Some(*value);
                }
            }
        }
        Ok(values
            .into_iter()
            .map(|(at, sides)| (at, sides.map(|values| side(&values))))
            .collect())
    }

    fn query(&self, id: String, name: &str, metric: &str, stat: &str) -> cw::MetricDataQuery {
        let dimension =
            |name: &str, value: &str| cw::Dimension::builder().name(name).value(value).build();
        let target_group = self
            .names
            .target_groups
            .get(name)
            .map_or("", String::as_str);
        let what = cw::Metric::builder()
            .namespace("AWS/ApplicationELB")
            .metric_name(metric)
            .dimensions(dimension("LoadBalancer", &self.names.load_balancer))
            .dimensions(dimension("TargetGroup", target_group))
            .build();
        let seconds = i32::try_from(PERIOD.as_secs()).unwrap_or(60);
        cw::MetricDataQuery::builder()
            .id(id)
            .metric_stat(
                cw::MetricStat::builder()
                    .metric(what)
                    .period(seconds)
                    .stat(stat)
                    .build(),
            )
            .build()
    }
}

/// What is asked of one target group: metrics and their statistics.
fn asked(bounds: Option<&[f64]>) -> Vec<(&'static str, String)> {
    let mut asked: Vec<_> = METRICS.map(|metric| (metric, "Sum".to_owned())).into();
    if let Some(bounds) = bounds {
        let seconds: Vec<String> = bounds.iter().map(|ms| (ms / 1000.0).to_string()).collect();
        let lows = std::iter::once("").chain(seconds.iter().map(String::as_str));
        let highs = seconds.iter().map(String::as_str).chain([""]);
        let ranges = lows.zip(highs);
        asked.extend(ranges.map(|(low, high)| ("TargetResponseTime", format!("TC({low}:{high})"))));
    }
    asked
}

/// `g1m2`: target group 1, the third thing that is asked.
fn place(id: &str, asked: usize) -> Option<(usize, usize)> {
    let (group, metric) = id.strip_prefix('g')?.split_once('m')?;
    let place = (group.parse().ok()?, metric.parse().ok()?);
    (place.0 < 2 && place.1 < asked).then_some(place)
}

#[expect(clippy::cast_possible_truncation, reason = "counts; a cast saturates")]
fn side(values: &[Option<f64>]) -> Option<Side> {
    let [Some(requests), target_5xx, connection_errors, times @ ..] = values else {
        return None;
    };
    let errors = target_5xx.unwrap_or_default() + connection_errors.unwrap_or_default();
    let count = |count: &Option<f64>| count.unwrap_or_default() as i64;
    let latency = (!times.is_empty()).then(|| Histogram::Counts(times.iter().map(count).collect()));
    Some(Side {
        // A connection that failed was tried again: such a request has failed twice at most in these
        // counts.
        errors: errors.min(*requests) as i64,
        requests: *requests as i64,
        latency,
    })
}

fn time(at: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_count_of_failures_is_zero_only_beside_requests() {
        assert_eq!(side(&[Some(100.0), None, None]), Some(Side::new(100, 0)));
        let both = [Some(100.0), Some(3.0), Some(2.0)];
        assert_eq!(side(&both), Some(Side::new(100, 5)));
        let twice = [Some(3.0), Some(2.0), Some(2.0)];
        assert_eq!(side(&twice), Some(Side::new(3, 3)));
        assert_eq!(side(&[None, Some(3.0), None]), None);
    }

    #[test]
    fn response_times_are_asked_for_in_ranges_that_leave_no_gap() {
        assert_eq!(asked(None).len(), METRICS.len());
        let asked = asked(Some(&[5.0, 10.0]));
        let ranges: Vec<&str> = asked
            .iter()
            .skip(METRICS.len())
            .map(|(_, stat)| stat.as_str())
            .collect();
        assert_eq!(ranges, ["TC(:0.005)", "TC(0.005:0.01)", "TC(0.01:)"]);
        let values = [Some(9.0), None, None, Some(8.0), None, Some(1.0)];
        let latency = side(&values).and_then(|side| side.latency);
        assert_eq!(latency, Some(Histogram::Counts(vec![8, 0, 1])));
    }

    #[test]
    fn an_answers_id_names_its_place() {
        assert_eq!(place("g1m2", 3), Some((1, 2)));
        for id in ["g2m0", "g0m3", "x", "g1", "m1g1"] {
            assert_eq!(place(id, 3), None, "{id}");
        }
    }
}
