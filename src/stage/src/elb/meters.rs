//! What the load balancer counts, and where ("CloudWatch metrics for your ALB").
//!
//! Each request is counted when it is over. What the load balancer itself answered is counted for
//! the load balancer alone; what a target answered, for the load balancer and for the pair of load
//! balancer and target group. Both listeners count into the same totals, as on AWS. Health checks
//! count nowhere.
//!
//! Beside CloudWatch's minutes there are plain running totals a target group ([`Counts`]), for whoever
//! wants to show what happens now.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rollout::{Timestamp, alarm::Metric, judge};

use super::GroupCounters;
use crate::cloudwatch::{Distribution, Metrics, Series};

/// The namespace of ALB's metrics.
pub const NAMESPACE: &str = "AWS/ApplicationELB";

/// The metric `name` of a load balancer, or of one of its target groups. The dimensions' values are
/// the tails of ARNs.
pub fn metric(name: &str, load_balancer: &str, target_group: Option<&str>) -> Metric {
    let mut dimensions = BTreeMap::from([("LoadBalancer".to_owned(), load_balancer.to_owned())]);
    if let Some(target_group) = target_group {
        dimensions.insert("TargetGroup".to_owned(), target_group.to_owned());
    }
    Metric {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        dimensions,
    }
}

/// Running totals of one target group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests for which this group was chosen.
    pub requests: u64,
    /// Answers of its targets by class: 1xx (upgrades) to 5xx.
    pub target: [u64; 5],
    /// Answers of the load balancer with 5xx, because the group had no target or the target failed.
    pub elb_5xx: u64,
    /// Connections to targets that could not be made.
    pub connection_errors: u64,
    /// Requests running now.
    pub in_flight: u64,
}

#[derive(Debug, Default)]
struct Live {
    requests: AtomicU64,
    target: [AtomicU64; 5],
    elb_5xx: AtomicU64,
    connection_errors: AtomicU64,
    in_flight: AtomicU64,
}

/// The metrics that exist per load balancer and per target group alike.
#[derive(Debug)]
struct TargetSeries {
    requests: Arc<Series>,
    by_class: [Arc<Series>; 4],
    connection_errors: Arc<Series>,
    response_time: Arc<Series>,
}

impl TargetSeries {
    fn new(metrics: &Metrics, load_balancer: &str, target_group: Option<&str>) -> Self {
        let series = |name| metrics.series(&metric(name, load_balancer, target_group));
        Self {
            requests: series("RequestCount"),
            by_class: [
                series("HTTPCode_Target_2XX_Count"),
                series("HTTPCode_Target_3XX_Count"),
                series("HTTPCode_Target_4XX_Count"),
                series("HTTPCode_Target_5XX_Count"),
            ],
            connection_errors: series("TargetConnectionErrorCount"),
            response_time: series("TargetResponseTime"),
        }
    }

    fn answered(&self, at: Timestamp, status: u16, time: Option<Duration>) {
        if let Some(series) = usize::from(status / 100)
            .checked_sub(2)
            .and_then(|class| self.by_class.get(class))
        {
            series.add(at, 1.0);
        }
        if let Some(time) = time {
            self.response_time.add(at, time.as_secs_f64());
        }
    }
}

/// The meters of a load balancer.
#[derive(Debug)]
pub(super) struct Meters {
    targets: TargetSeries,
    elb_4xx: Arc<Series>,
    elb_5xx: Arc<Series>,
    elb_500: Arc<Series>,
    elb_502: Arc<Series>,
    elb_503: Arc<Series>,
    elb_504: Arc<Series>,
}

impl Meters {
    pub(super) fn new(metrics: &Metrics, load_balancer: &str) -> Self {
        let series = |name| metrics.series(&metric(name, load_balancer, None));
        Self {
            targets: TargetSeries::new(metrics, load_balancer, None),
            elb_4xx: series("HTTPCode_ELB_4XX_Count"),
            elb_5xx: series("HTTPCode_ELB_5XX_Count"),
            elb_500: series("HTTPCode_ELB_500_Count"),
            elb_502: series("HTTPCode_ELB_502_Count"),
            elb_503: series("HTTPCode_ELB_503_Count"),
            elb_504: series("HTTPCode_ELB_504_Count"),
        }
    }

    /// A request for which a target was chosen.
    pub(super) fn request(&self, group: &GroupMeters, at: Timestamp) {
        self.targets.requests.add(at, 1.0);
        group.targets.requests.add(at, 1.0);
    }

    /// An answer of a target.
    pub(super) fn target_answered(
        &self,
        group: &GroupMeters,
        at: Timestamp,
        status: u16,
        time: Option<Duration>,
    ) {
        self.targets.answered(at, status, time);
        group.targets.answered(at, status, time);
        if let Some(count) = usize::from(status / 100)
            .checked_sub(1)
            .and_then(|class| group.live.target.get(class))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(time) = time {
            group.published_times.add(at, time.as_secs_f64());
            if status < 500 {
                group.response_times.add(time);
            }
        }
    }

    /// A target to which no connection could be made.
    pub(super) fn connection_error(&self, group: &GroupMeters, at: Timestamp) {
        self.targets.connection_errors.add(at, 1.0);
        group.targets.connection_errors.add(at, 1.0);
        group.live.connection_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// An answer of the load balancer itself.
    pub(super) fn elb_answered(&self, group: Option<&GroupMeters>, at: Timestamp, status: u16) {
        match status {
            400..=499 => self.elb_4xx.add(at, 1.0),
            500..=599 => {
                self.elb_5xx.add(at, 1.0);
                match status {
                    500 => self.elb_500.add(at, 1.0),
                    502 => self.elb_502.add(at, 1.0),
                    503 => self.elb_503.add(at, 1.0),
                    504 => self.elb_504.add(at, 1.0),
                    _ => {}
                }
                if let Some(group) = group {
                    group.live.elb_5xx.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

/// The meters of a target group.
#[derive(Debug)]
pub(super) struct GroupMeters {
    targets: TargetSeries,
    healthy_hosts: Arc<Series>,
    unhealthy_hosts: Arc<Series>,
    live: Live,
    response_times: ResponseTimes,
    published_times: Arc<Distribution>,
}

/// Response times since the start, in buckets.
#[derive(Debug)]
struct ResponseTimes {
    /// Upper bounds in milliseconds, rising.
    bounds: Vec<f64>,
    /// One more than bounds.
    counts: Vec<AtomicU64>,
}

impl ResponseTimes {
    fn new() -> Self {
        let bounds = judge::Latency::default().bounds_ms;
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts }
    }

    fn add(&self, time: Duration) {
        let ms = time.as_secs_f64() * 1000.0;
        let bucket = self.bounds.partition_point(|bound| *bound < ms);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
    }
}

impl GroupMeters {
    pub(super) fn new(metrics: &Metrics, load_balancer: &str, target_group: &str) -> Self {
        let series = |name| metrics.series(&metric(name, load_balancer, Some(target_group)));
        Self {
            targets: TargetSeries::new(metrics, load_balancer, Some(target_group)),
            healthy_hosts: series("HealthyHostCount"),
            unhealthy_hosts: series("UnHealthyHostCount"),
            live: Live::default(),
            response_times: ResponseTimes::new(),
            published_times: metrics.distribution(&metric(
                "TargetResponseTime",
                load_balancer,
                Some(target_group),
            )),
        }
    }

    pub(super) fn started(&self) {
        self.live.requests.fetch_add(1, Ordering::Relaxed);
        self.live.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self) {
        self.live.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of targets")]
    pub(super) fn hosts(&self, at: Timestamp, healthy: usize, unhealthy: usize) {
        self.healthy_hosts.add(at, healthy as f64);
        self.unhealthy_hosts.add(at, unhealthy as f64);
    }

    pub(super) fn counts(&self) -> Counts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            requests: get(&self.live.requests),
            target: self.live.target.each_ref().map(get),
            elb_5xx: get(&self.live.elb_5xx),
            connection_errors: get(&self.live.connection_errors),
            in_flight: get(&self.live.in_flight),
        }
    }

    pub(super) fn counters(&self) -> GroupCounters {
        let counts = self.counts();
        let times = &self.response_times.counts;
        GroupCounters {
            answered: counts.target.iter().sum::<u64>() + counts.elb_5xx,
            failed: counts.target[4] + counts.elb_5xx,
            response_times: times
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
        }
    }
}
