//! CloudWatch's API, as far as a release reads metrics by it: `GetMetricData`.
//!
//! What was published in a minute is seen when AWS would show it: after the stage's metric delay.
//! A minute without a value is missing from the answer, as in CloudWatch; it is never a zero.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;
use rollout::{
    Timestamp,
    alarm::{Metric, Statistic},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Metrics;
use crate::{
    clock::Clock,
    wire::{ApiError, JsonService},
};

/// The most queries in one request (CloudWatch API reference, `GetMetricData`).
const MAX_QUERIES: usize = 500;

/// CloudWatch on the wire.
#[derive(Clone, Debug)]
pub(crate) struct CloudWatch {
    /// The stage's clock.
    pub clock: Clock,
    /// What was published.
    pub metrics: Metrics,
    /// How late a value is seen, virtual.
    pub delay: Duration,
}

impl JsonService for CloudWatch {
    fn target_prefix(&self) -> &'static str {
        "GraniteServiceVersion20100801"
    }

    fn signing_name(&self) -> &'static str {
        "monitoring"
    }

    fn times(&self) -> &'static [&'static str] {
        &["Timestamps"]
    }

    /// Metrics are measured here; alarms are made wherever the rest is.
    fn serves(&self, operation: &str) -> bool {
        operation == "GetMetricData"
    }

    fn call<'a>(
        &'a self,
        operation: &'a str,
        input: Value,
    ) -> BoxFuture<'a, Option<Result<Value, ApiError>>> {
        Box::pin(async move {
            match operation {
                "GetMetricData" => Some(self.get_metric_data(input)),
                _ => None,
            }
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetMetricData {
    metric_data_queries: Vec<Query>,
    start_time: f64,
    end_time: f64,
    #[serde(default)]
    scan_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    id: String,
    metric_stat: Option<MetricStat>,
    #[serde(default)]
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MetricStat {
    metric: WireMetric,
    period: u64,
    stat: Stat,
}

/// What is asked of a period's values.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum Stat {
    /// `Sum` and the like.
    Plain(Statistic),
    /// `TC(low:high)`: how many values lie above the one bound and up to the other ("CloudWatch statistics
    /// definitions", trimmed count).
    TrimmedCount(f64, f64),
}

impl TryFrom<String> for Stat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let unknown = || format!("statistic {text} is not known to this stage");
        let Some(bounds) = text
            .strip_prefix("TC(")
            .and_then(|rest| rest.strip_suffix(')'))
        else {
            return serde_json::from_value(Value::String(text.clone()))
                .map(Stat::Plain)
                .map_err(|_| unknown());
        };
        let (low, high) = bounds.split_once(':').ok_or_else(unknown)?;
        let bound = |bound: &str, open: f64| match bound {
            "" => Ok(open),
            bound => bound.parse().map_err(|_| unknown()),
        };
        let (low, high) = (bound(low, 0.0)?, bound(high, f64::INFINITY)?);
        if low < high {
            Ok(Stat::TrimmedCount(low, high))
        } else {
            Err(unknown())
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireMetric {
    namespace: String,
    metric_name: String,
    #[serde(default)]
    dimensions: Vec<Dimension>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Dimension {
    name: String,
    value: String,
}

impl CloudWatch {
    fn get_metric_data(&self, input: Value) -> Result<Value, ApiError> {
        let input: GetMetricData = serde_json::from_value(input)
            .map_err(|error| invalid(format!("the request cannot be read: {error}")))?;
        if input.end_time <= input.start_time {
            return Err(invalid(
                "The parameter StartTime must be less than the parameter EndTime.",
            ));
        }
        if input.metric_data_queries.len() > MAX_QUERIES {
            return Err(invalid(format!(
                "The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}."
            )));
        }
        let newest_first = input.scan_by.as_deref() != Some("TimestampAscending");
        let range = (seconds(input.start_time), seconds(input.end_time));
        let results: Result<Vec<Value>, ApiError> = input
            .metric_data_queries
            .iter()
            .map(|query| self.query(query, range, newest_first))
            .collect();
        Ok(json!({ "MetricDataResults": results?, "Messages": [] }))
    }

    fn query(
        &self,
        query: &Query,
        (start, end): (Timestamp, Timestamp),
        newest_first: bool,
    ) -> Result<Value, ApiError> {
        let Some(wanted) = &query.metric_stat else {
            return Err(invalid(format!(
                "Query {} has no MetricStat; this stage evaluates no expressions.",
                query.id
            )));
        };
        if wanted.period == 0 || !wanted.period.is_multiple_of(60) {
            return Err(invalid(format!(
                "The parameter MetricDataQueries.{}.MetricStat.Period must be a multiple of 60 here.",
                query.id
            )));
        }
        let metric = wanted.metric();
        let period = Duration::from_secs(wanted.period);
        let visible = self.clock.now();
        let mut points = Vec::new();
        let mut at = rounded_down(start, period);
        while at < end && at + period + self.delay <= visible {
            if let Some(value) = self.value(&metric, wanted.stat, at, at + period) {
                points.push((at.as_secs_f64(), value));
            }
            at += period;
        }
        if newest_first {
            points.reverse();
        }
        let (times, values): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        Ok(json!({
            "Id": query.id,
            "Label": query.label.as_deref().unwrap_or(&wanted.metric.metric_name),
            "Timestamps": times,
            "Values": values,
            "StatusCode": "Complete",
        }))
    }
}

impl CloudWatch {
    fn value(&self, metric: &Metric, stat: Stat, from: Timestamp, until: Timestamp) -> Option<f64> {
        match stat {
            Stat::Plain(statistic) => {
                let set = self.metrics.between(metric, from, until)?;
                Some(set.get(statistic))
            }
            Stat::TrimmedCount(low, high) => {
                let count = self
                    .metrics
                    .distribution(metric)
                    .count(from, until, low, high)?;
                #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
                let count = count as f64;
                Some(count)
            }
        }
    }
}

impl MetricStat {
    fn metric(&self) -> Metric {
        let WireMetric {
            namespace,
            metric_name,
            dimensions,
        } = &self.metric;
        let pair = |dimension: &Dimension| (dimension.name.clone(), dimension.value.clone());
        Metric {
            namespace: namespace.clone(),
            name: metric_name.clone(),
            dimensions: dimensions.iter().map(pair).collect::<BTreeMap<_, _>>(),
        }
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterValue", message)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast saturates, which is right for times before 1970 and after the end"
)]
fn seconds(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0) as u64)
}

fn rounded_down(at: Timestamp, period: Duration) -> Timestamp {
    let period = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(at.as_millis() / period * period)
}
