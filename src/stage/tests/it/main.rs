//! The stage's integration tests, in one binary.
#![expect(clippy::unwrap_used, reason = "tests")]

mod elb_faults;
mod elb_health;
mod elb_metrics;
mod elb_proxy;
mod elb_support;
mod postgres;
mod runtime;
mod support;
mod traffic_counts;
