//! Health checks and draining, on a fast clock.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::StatusCode;
use stage::elb::{HealthCheck, Listener, Target, TargetState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::elb_support::*;

#[tokio::test]
async fn one_passed_check_makes_a_new_target_healthy() {
    let backend = Backend::named("x").await;
    let mut rig = Rig::new(Config::default());
    let id = backend.target().id;
    assert_eq!(rig.state("blue", &id), None);
    rig.add("blue", backend.target()).await;
    let states = rig.health_events(&id);
    let pairs: Vec<_> = states
        .iter()
        .map(|(s, r)| (s.as_str(), r.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            ("initial", "Elb.RegistrationInProgress"),
            ("initial", "Elb.InitialHealthChecking"),
            ("healthy", ""),
        ]
    );
    assert_eq!(rig.state("blue", &id), Some((TargetState::Healthy, None)));
}

#[tokio::test]
async fn checks_are_elbs_and_have_connections_of_their_own() {
    let backend = Backend::named("x").await;
    let rig = Rig::new(Config {
        health_check: HealthCheck {
            path: "/healthz".into(),
            interval: Duration::from_secs(1),
            ..HealthCheck::default()
        },
        ..Config::default()
    });
    rig.add("blue", backend.target()).await;
    until("three checks", || {
        backend.seen.checks.lock().unwrap().len() >= 3
    })
    .await;
    let checks = backend.seen.checks.lock().unwrap().clone();
    for headers in &checks {
        assert_eq!(headers["user-agent"], "ELB-HealthChecker/2.0");
        assert_eq!(headers["connection"], "close");
        assert_eq!(headers["host"], backend.address.to_string().as_str());
    }
    assert!(backend.seen.check_connections.load(Ordering::Relaxed) >= checks.len());
    assert_eq!(backend.requests(), 0, "checks are no requests");
}

#[tokio::test]
async fn the_interval_follows_the_clock() {
    let backend = Backend::named("x").await;
    // 10 virtual seconds at speed 100 are 100 ms.
    let rig = Rig::new(Config {
        health_check: HealthCheck {
            interval: Duration::from_secs(10),
            ..HealthCheck::default()
        },
        ..Config::default()
    });
    let start = Instant::now();
    rig.add("blue", backend.target()).await;
    until("eleven checks", || {
        backend.seen.checks.lock().unwrap().len() >= 11
    })
    .await;
    assert!(
        start.elapsed() >= Duration::from_millis(990),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_group_behind_no_listener_is_not_checked() {
    let backend = Backend::named("x").await;
    let mut rig = Rig::new(Config::default());
    let id = backend.target().id;
    rig.register("spare", backend.target());
    assert_eq!(
        rig.state("spare", &id),
        Some((TargetState::Unused, Some("Target.NotInUse")))
    );
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(backend.seen.checks.lock().unwrap().len(), 0);

    // With weight 0 it is in use.
    rig.set(Listener::Test, &[("spare", 0)]);
    rig.wait_for("spare", &id, TargetState::Healthy).await;
    assert_eq!(get(rig.test(), "/").await.0, 503);

    rig.set(Listener::Test, &[]);
    assert_eq!(
        rig.state("spare", &id),
        Some((TargetState::Unused, Some("Target.NotInUse")))
    );
    let states: Vec<_> = rig
        .health_events(&id)
        .into_iter()
        .map(|(state, _)| state)
        .collect();
    assert_eq!(
        states,
        ["unused", "initial", "initial", "healthy", "unused"]
    );
}

#[tokio::test]
async fn reasons_are_named_as_elb_names_them() {
    let wrong = Backend::named("x").await;
    *wrong.health.lock().unwrap() = StatusCode::NOT_FOUND;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::new(Config {
        health_check: HealthCheck {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(50),
            ..HealthCheck::default()
        },
        ..Config::default()
    });
    let unreachable = Target {
        id: "nowhere".into(),
        dial: Arc::new(Nowhere),
    };
    for (target, reason, description) in [
        (
            wrong.target(),
            "Target.ResponseCodeMismatch",
            "Health checks failed with these codes: [404]",
        ),
        (
            target(silent.local_addr().unwrap()),
            "Target.Timeout",
            "Request timed out",
        ),
        (unreachable, "Target.Timeout", "Request timed out"),
        (
            target(closed_port().await),
            "Target.FailedHealthChecks",
            "Health checks failed",
        ),
    ] {
        let id = target.id.clone();
        rig.register("blue", target);
        rig.wait_for("blue", &id, TargetState::Unhealthy).await;
        assert_eq!(
            rig.state("blue", &id),
            Some((TargetState::Unhealthy, Some(reason)))
        );
        let health = rig.balancer.target_health("blue").unwrap();
        let health = health.iter().find(|health| health.id == id).unwrap();
        assert_eq!(health.description().as_deref(), Some(description));
    }
}

#[tokio::test]
async fn thresholds_count_in_a_row() {
    let backend = Backend::named("x").await;
    let rig = Rig::new(Config {
        health_check: HealthCheck {
            interval: Duration::from_secs(1),
            healthy_threshold: 5,
            unhealthy_threshold: 3,
            ..HealthCheck::default()
        },
        ..Config::default()
    });
    let id = backend.target().id;
    rig.add("blue", backend.target()).await;
    let checks = || backend.seen.checks.lock().unwrap().len();
    *backend.health.lock().unwrap() = StatusCode::SERVICE_UNAVAILABLE;
    let before = checks();
    rig.wait_for("blue", &id, TargetState::Unhealthy).await;
    assert!(checks() - before >= 3, "{} checks", checks() - before);
    *backend.health.lock().unwrap() = StatusCode::OK;
    let before = checks();
    rig.wait_for("blue", &id, TargetState::Healthy).await;
    assert!(checks() - before >= 5, "{} checks", checks() - before);
}

#[tokio::test]
async fn a_draining_target_finishes_what_runs_and_gets_nothing_new() {
    let (old, new) = (
        Backend::start(|ask| async move {
            if ask.uri().path() == "/slow" {
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            text(StatusCode::OK, "old")
        })
        .await,
        Backend::named("new").await,
    );
    // 60 virtual seconds at speed 100: 600 ms.
    let mut rig = Rig::new(Config {
        deregistration_delay: Duration::from_mins(1),
        ..Config::default()
    });
    let id = old.target().id;
    rig.add("blue", old.target()).await;
    let address = rig.production();
    let slow = tokio::spawn(async move { get(address, "/slow").await });
    until("the slow request runs", || old.requests() == 1).await;
    rig.register("blue", new.target());
    let start = Instant::now();
    let drained = rig.balancer.deregister("blue", &id).unwrap();
    for _ in 0..10 {
        assert_eq!(get(address, "/").await.1, "new");
    }
    assert_eq!(
        rig.state("blue", &id),
        Some((
            TargetState::Draining,
            Some("Target.DeregistrationInProgress")
        ))
    );
    assert_eq!(
        soon("the slow answer", slow).await.unwrap(),
        (200, "old".into())
    );
    // Shown as draining for the whole delay, also when idle.
    assert_eq!(rig.state("blue", &id).unwrap().0, TargetState::Draining);
    soon("the end of draining", drained).await;
    assert!(
        start.elapsed() >= Duration::from_millis(600),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(rig.state("blue", &id), None);
    assert_eq!(old.requests(), 1);
    let last = rig.health_events(&id).pop().unwrap();
    assert_eq!(last, ("unused".into(), "Target.NotRegistered".into()));
}

#[tokio::test]
async fn requests_open_at_the_end_of_draining_get_502() {
    let backend = Raw::start(|mut stream, head, _| async move {
        if head.starts_with("GET /started") {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
                .await
                .unwrap();
        }
        let _ = stream.read_u8().await;
        None
    })
    .await;
    let rig = Rig::new(Config {
        deregistration_delay: Duration::from_secs(10),
        ..Config::default()
    });
    rig.add("blue", backend.target()).await;
    let id = backend.target().id;
    let address = rig.production();
    let waiting = tokio::spawn(async move { get(address, "/waiting").await });
    let started = tokio::spawn(async move { get(address, "/started").await });
    until("both run", || {
        rig.balancer.counts("blue").unwrap().in_flight == 2
    })
    .await;
    soon(
        "the end of draining",
        rig.balancer.deregister("blue", &id).unwrap(),
    )
    .await;
    assert_eq!(soon("502", waiting).await.unwrap().0, 502);
    // Too late for another status: the answer is cut.
    assert_eq!(
        soon("the cut", started).await.unwrap(),
        (200, "hello".into())
    );
    assert_eq!(rig.total("HTTPCode_ELB_502_Count", None), 1);
}

#[tokio::test]
async fn replacing_targets_under_load_loses_nothing() {
    let rig = Rig::new(Config {
        deregistration_delay: Duration::from_secs(20),
        ..Config::default()
    });
    let mut current = Backend::named("x").await;
    rig.add("blue", current.target()).await;
    let address = rig.production();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for _ in 0..300 {
                    assert_eq!(client.get("/").await.0, 200);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    while clients.iter().any(|client| !client.is_finished()) {
        let next = Backend::named("x").await;
        rig.add("blue", next.target()).await;
        let drained = rig
            .balancer
            .deregister("blue", &current.target().id)
            .unwrap();
        soon("the end of draining", drained).await;
        // The process goes away when its target has drained, as a task does.
        current = next;
    }
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_target_can_come_back_while_it_drains() {
    let backend = Backend::named("x").await;
    let rig = Rig::new(Config {
        deregistration_delay: Duration::from_secs(30),
        ..Config::default()
    });
    let id = backend.target().id;
    rig.add("blue", backend.target()).await;
    let drained = rig.balancer.deregister("blue", &id).unwrap();
    assert_eq!(get(rig.production(), "/").await.0, 503);
    rig.add("blue", backend.target()).await;
    soon("the end of draining", drained).await;
    assert_eq!(rig.state("blue", &id), Some((TargetState::Healthy, None)));
    assert_eq!(get(rig.production(), "/").await.0, 200);
    let again = rig.balancer.deregister("blue", "nobody").err().unwrap();
    assert_eq!(
        again.to_string(),
        "cannot deregister target \"nobody\": it is not registered in target group \"blue\""
    );
}
