//! Generated traffic: every request that was due has one outcome, on the right side.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::StatusCode;
use rollout::event::{Event, RequestCounts};
use stage::{
    elb::Listener,
    traffic::{Arrivals, Connections, Totals, Traffic, TrafficError, TrafficOptions},
};

use crate::elb_support::*;

fn check(totals: &Totals) {
    assert_eq!(totals.outcomes.total(), totals.sent, "{totals:?}");
    let mut sides = totals.unattributed;
    for counts in totals.groups.values() {
        sides += *counts;
    }
    assert_eq!(sides, totals.outcomes, "{totals:?}");
}

async fn run(rig: &Rig, options: TrafficOptions, enough: u64) -> Totals {
    let log = rig.balancer.access_log(100_000);
    let traffic = Traffic::start(options, rig.clock, rig.events.clone(), Some(log)).unwrap();
    until("enough requests", || traffic.snapshot().sent >= enough).await;
    let totals = soon("the last outcome", traffic.stop()).await;
    check(&totals);
    totals
}

#[tokio::test]
async fn every_request_is_counted_on_the_side_that_took_it() {
    let blue = Backend::named("blue").await;
    let failures = AtomicUsize::new(0);
    let green = Backend::start(move |_| {
        let fail = !failures.fetch_add(1, Ordering::Relaxed).is_multiple_of(5);
        async move {
            let status = if fail {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::OK
            };
            text(status, "")
        }
    })
    .await;
    let rig = Rig::new(Config::default());
    rig.add("blue", blue.target()).await;
    rig.add("green", green.target()).await;
    rig.set(Listener::Production, &[("blue", 1), ("green", 1)]);
    let mut events = rig.events.subscribe();
    let options = TrafficOptions::new(rig.production(), 1000.0);
    let totals = run(&rig, options, 500).await;
    assert!(totals.unattributed.is_empty(), "{totals:?}");
    assert_eq!(totals.groups["blue"].ok, blue.requests() as u64);
    assert_eq!(totals.groups["blue"].lost(), 0);
    let of_green = totals.groups["green"];
    assert_eq!(of_green.total(), green.requests() as u64);
    assert_eq!(of_green.ok, of_green.total().div_ceil(5));
    assert_eq!(totals.statuses[&500], of_green.server_error);
    assert!(totals.first_loss < totals.last_loss);
    assert_eq!(totals.latency.len(), totals.sent);
    // A user's connection is kept.
    assert!(
        blue.connections() < 200,
        "{} connections",
        blue.connections()
    );

    // The events tell the same.
    let mut told = RequestCounts::default();
    while let Ok(entry) = events.try_recv() {
        if let Event::Traffic {
            period_s,
            groups,
            unattributed,
        } = entry.event
        {
            assert_eq!(period_s, 60);
            told += unattributed;
            for counts in groups.into_values() {
                told += counts;
            }
        }
    }
    assert_eq!(told, totals.outcomes);
}

#[tokio::test]
async fn a_slow_server_does_not_slow_the_arrivals() {
    let backend = Backend::start(|_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        text(StatusCode::OK, "")
    })
    .await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    let options = TrafficOptions {
        arrivals: Arrivals::Fixed,
        ..TrafficOptions::new(rig.production(), 200.0)
    };
    let log = rig.balancer.access_log(10_000);
    let start = std::time::Instant::now();
    let traffic = Traffic::start(options, rig.clock, rig.events.clone(), Some(log)).unwrap();
    // One after the other would take half a minute.
    until("100 requests", || traffic.snapshot().sent >= 100).await;
    let elapsed = start.elapsed();
    let totals = traffic.stop().await;
    check(&totals);
    assert!(
        elapsed >= Duration::from_millis(490),
        "{elapsed:?} is too fast for the schedule"
    );
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    assert_eq!(totals.outcomes.ok, totals.sent);
    assert!(
        totals.latency.min() >= 299_000,
        "{} µs",
        totals.latency.min()
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_lost_and_not_hidden() {
    let backend = Backend::start(|_| std::future::pending()).await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    let options = TrafficOptions {
        max_open: 5,
        timeout: Duration::from_millis(500),
        ..TrafficOptions::new(rig.production(), 500.0)
    };
    let totals = run(&rig, options, 50).await;
    assert_eq!(totals.outcomes.timed_out, totals.sent);
    assert_eq!(totals.unattributed.timed_out, totals.not_sent);
    assert!(totals.not_sent >= 40, "{totals:?}");
    assert!(totals.groups["blue"].timed_out >= 5, "{totals:?}");
}

#[tokio::test]
async fn a_dead_port_is_a_connection_error() {
    let rig = Rig::new(Config::default());
    let options = TrafficOptions::new(closed_port().await, 500.0);
    let traffic = Traffic::start(options, rig.clock, rig.events.clone(), None).unwrap();
    until("20 requests", || traffic.snapshot().sent >= 20).await;
    let totals = traffic.stop().await;
    check(&totals);
    assert_eq!(totals.unattributed.connection_error, totals.sent);
}

#[tokio::test]
async fn new_connections_on_request() {
    let backend = Backend::named("x").await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    let options = TrafficOptions {
        connections: Connections::New,
        path: "/some?thing".into(),
        ..TrafficOptions::new(rig.production(), 500.0)
    };
    let totals = run(&rig, options, 50).await;
    assert_eq!(totals.outcomes.ok, totals.sent);
    assert_eq!(backend.seen.requests.lock().unwrap()[0].1, "/some?thing");
}

#[tokio::test]
async fn answers_of_the_load_balancer_belong_to_the_group_it_chose() {
    let rig = Rig::new(Config::default());
    let totals = run(&rig, TrafficOptions::new(rig.production(), 500.0), 20).await;
    assert_eq!(totals.groups["blue"].server_error, totals.sent);
    assert_eq!(totals.statuses[&503], totals.sent);
}

#[tokio::test]
async fn senseless_options_are_refused() {
    let rig = Rig::new(Config::default());
    let start = |options| Traffic::start(options, rig.clock, rig.events.clone(), None);
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = TrafficOptions::new(rig.production(), rate);
        assert!(
            matches!(start(options), Err(TrafficError::Rate(_))),
            "{rate}"
        );
    }
    let options = TrafficOptions {
        path: "no path".into(),
        ..TrafficOptions::new(rig.production(), 1.0)
    };
    let error = start(options).unwrap_err().to_string();
    assert!(error.starts_with("cannot request \"no path\""), "{error}");
}
