//! CloudWatch: what the load balancer counted for each target group, a minute at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types as cw;
use rollout::Timestamp;
use rollout::judge::Side;

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
    /// when it is not. Without a count of requests nothing is known of that side.
    pub async fn minutes(
        &self,
        groups: [&str; 2],
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Minutes, AwsError> {
        let queries = groups.iter().enumerate().flat_map(|(group, name)| {
            (0..METRICS.len()).map(move |metric| self.query(group, name, metric))
        });
        let mut values: BTreeMap<Timestamp, [[Option<f64>; METRICS.len()]; 2]> = BTreeMap::new();
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
                let Some((group, metric)) = result.id().and_then(place) else {
                    continue;
                };
                for (at, value) in result.timestamps().iter().zip(result.values()) {
                    let Some(at) = at.to_millis().ok().and_then(|ms| u64::try_from(ms).ok()) else {
                        continue;
                    };
                    let minute = values.entry(Timestamp::from_millis(at)).or_default();
                    minute[group][metric] = Some(*value);
                }
            }
        }
        Ok(values
            .into_iter()
            .map(|(at, sides)| (at, sides.map(side)))
            .collect())
    }

    fn query(&self, group: usize, name: &str, metric: usize) -> cw::MetricDataQuery {
        let dimension =
            |name: &str, value: &str| cw::Dimension::builder().name(name).value(value).build();
        let target_group = self
            .names
            .target_groups
            .get(name)
            .map_or("", String::as_str);
        let what = cw::Metric::builder()
            .namespace("AWS/ApplicationELB")
            .metric_name(METRICS[metric])
            .dimensions(dimension("LoadBalancer", &self.names.load_balancer))
            .dimensions(dimension("TargetGroup", target_group))
            .build();
        let seconds = i32::try_from(PERIOD.as_secs()).unwrap_or(60);
        cw::MetricDataQuery::builder()
            .id(format!("g{group}m{metric}"))
            .metric_stat(
                cw::MetricStat::builder()
                    .metric(what)
                    .period(seconds)
                    .stat("Sum")
                    .build(),
            )
            .build()
    }
}

/// `g1m2`: target group 1, metric 2.
fn place(id: &str) -> Option<(usize, usize)> {
    let (group, metric) = id.strip_prefix('g')?.split_once('m')?;
    let place = (group.parse().ok()?, metric.parse().ok()?);
    (place.0 < 2 && place.1 < METRICS.len()).then_some(place)
}

#[expect(clippy::cast_possible_truncation, reason = "counts; a cast saturates")]
fn side([requests, target_5xx, connection_errors]: [Option<f64>; METRICS.len()]) -> Option<Side> {
    let requests = requests?;
    let errors = target_5xx.unwrap_or_default() + connection_errors.unwrap_or_default();
    // A connection that failed was tried again: such a request has failed twice at most in these counts.
    Some(Side::new(requests as i64, errors.min(requests) as i64))
}

fn time(at: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_count_of_failures_is_zero_only_beside_requests() {
        assert_eq!(side([Some(100.0), None, None]), Some(Side::new(100, 0)));
        assert_eq!(
            side([Some(100.0), Some(3.0), Some(2.0)]),
            Some(Side::new(100, 5))
        );
        assert_eq!(
            side([Some(3.0), Some(2.0), Some(2.0)]),
            Some(Side::new(3, 3))
        );
        assert_eq!(side([None, Some(3.0), None]), None);
    }

    #[test]
    fn an_answers_id_names_its_place() {
        assert_eq!(place("g1m2"), Some((1, 2)));
        for id in ["g2m0", "g0m3", "x", "g1", "m1g1"] {
            assert_eq!(place(id), None, "{id}");
        }
    }
}
