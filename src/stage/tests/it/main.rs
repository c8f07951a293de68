//! The stage's integration tests, in one binary.
#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod clients;
mod deployments;
mod elb_faults;
mod elb_health;
mod elb_metrics;
mod elb_proxy;
mod elb_routing;
mod elb_support;
mod functions;
mod hooks;
mod postgres;
mod registry;
mod runtime;
mod support;
mod traffic_counts;
mod upstream;
mod world;
