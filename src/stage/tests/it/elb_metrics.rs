//! What the load balancer counts, and alarms on it, end to end.

use std::{collections::BTreeMap, time::Duration};

use http::StatusCode;
use rollout::{
    alarm::{Comparison, Definition, Metric, MissingData, State, Statistic},
    event::Event,
};
use stage::{
    cloudwatch::{AlarmError, Alarms, AlarmsOptions},
    elb::{Listener, meters},
};

use crate::elb_support::*;

const BLUE: &str = "targetgroup/blue/0000000000000000";

async fn ok_or_error() -> Backend {
    Backend::start(|ask| async move {
        match ask.uri().path() {
            "/error" => text(StatusCode::INTERNAL_SERVER_ERROR, ""),
            _ => text(StatusCode::OK, ""),
        }
    })
    .await
}

#[tokio::test]
async fn each_answer_is_counted_where_alb_counts_it() {
    let (blue, green) = (ok_or_error().await, ok_or_error().await);
    let rig = Rig::new(Config::default());
    rig.add("blue", blue.target()).await;
    rig.add("green", green.target()).await;
    for path in ["/", "/", "/error"] {
        get(rig.production(), path).await;
    }
    // The test listener counts into the load balancer's totals and into its target group's.
    rig.set(Listener::Test, &[("green", 1)]);
    for path in ["/", "/error", "/error"] {
        get(rig.test(), path).await;
    }
    // Nobody is in the spare group.
    rig.set(Listener::Test, &[("spare", 1)]);
    get(rig.test(), "/").await;

    for (name, balancer, of_blue, of_green) in [
        ("RequestCount", 6, 3, 3),
        ("HTTPCode_Target_2XX_Count", 3, 2, 1),
        ("HTTPCode_Target_5XX_Count", 3, 1, 2),
        ("HTTPCode_ELB_5XX_Count", 1, 0, 0),
        ("HTTPCode_ELB_503_Count", 1, 0, 0),
        ("HTTPCode_ELB_502_Count", 0, 0, 0),
    ] {
        let found = [None, Some("blue"), Some("green")].map(|group| rig.total(name, group));
        assert_eq!(found, [balancer, of_blue, of_green], "{name}");
    }
    let time = meters::metric("TargetResponseTime", DIMENSION, Some(BLUE));
    let set = rig
        .metrics
        .between(
            &time,
            rollout::Timestamp::from_millis(0),
            rig.clock.now() + Duration::from_mins(1),
        )
        .unwrap();
    assert_eq!(set.count, 3);
    assert!(set.min > 0.0 && set.max < 10.0, "{set:?}");
    let counts = rig.balancer.counts("blue").unwrap();
    assert_eq!(
        (counts.requests, counts.target, counts.elb_5xx),
        (3, [0, 2, 0, 0, 1], 0)
    );
    assert_eq!(rig.balancer.counts("spare").unwrap().elb_5xx, 1);
}

#[tokio::test]
async fn five_hundreds_that_did_not_happen_are_no_zeros() {
    let backend = ok_or_error().await;
    let rig = Rig::new(Config::default());
    rig.add("blue", backend.target()).await;
    get(rig.production(), "/").await;
    let end = rig.clock.now() + Duration::from_mins(1);
    for name in ["HTTPCode_Target_5XX_Count", "HTTPCode_ELB_5XX_Count"] {
        let metric = meters::metric(name, DIMENSION, None);
        let found = rig
            .metrics
            .between(&metric, rollout::Timestamp::from_millis(0), end);
        assert_eq!(found, None, "{name}");
    }
}

#[tokio::test]
async fn host_counts_are_published_each_minute_for_groups_in_use() {
    let (good, bad) = (ok_or_error().await, ok_or_error().await);
    *bad.health.lock().unwrap() = StatusCode::INTERNAL_SERVER_ERROR;
    let rig = Rig::new(Config {
        speed: 1000.0,
        ..Config::default()
    });
    rig.add("blue", good.target()).await;
    rig.register("blue", bad.target());
    rig.wait_for("blue", &bad.target().id, stage::elb::TargetState::Unhealthy)
        .await;
    let find = |name: &str, group: &str| {
        let metric = meters::metric(
            name,
            DIMENSION,
            Some(&format!("targetgroup/{group}/0000000000000000")),
        );
        let until = rig.clock.now() + Duration::from_mins(1);
        rig.metrics
            .between(&metric, rollout::Timestamp::from_millis(0), until)
            .map(|set| set.max)
    };
    until("host counts", || {
        find("UnHealthyHostCount", "blue") == Some(1.0)
    })
    .await;
    assert_eq!(find("HealthyHostCount", "blue"), Some(1.0));
    assert_eq!(find("HealthyHostCount", "spare"), None);
}

#[tokio::test]
async fn periods_are_told_as_events() {
    let backend = ok_or_error().await;
    let rig = Rig::new(Config {
        speed: 1000.0,
        ..Config::default()
    });
    rig.add("blue", backend.target()).await;
    let mut events = rig.events.subscribe();
    for path in ["/", "/error", "/error"] {
        get(rig.production(), path).await;
    }
    let (mut all, mut bad) = (0, 0);
    soon("the periods", async {
        while all < 3 {
            if let Event::TargetGroupPeriod {
                target_group,
                period_s,
                requests,
                target_5xx,
                elb_5xx,
            } = events.recv().await.unwrap().event
            {
                assert_eq!((target_group.as_str(), period_s, elb_5xx), ("blue", 60, 0));
                all += requests;
                bad += target_5xx;
            }
        }
    })
    .await;
    assert_eq!((all, bad), (3, 2));
}

fn definition(name: &str, metric: Metric) -> Definition {
    Definition {
        name: name.into(),
        metric,
        statistic: Statistic::Sum,
        period: Duration::from_mins(1),
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 3.0,
        comparison: Comparison::GreaterThanThreshold,
        treat_missing_data: MissingData::NotBreaching,
    }
}

#[tokio::test]
async fn an_alarm_fires_and_recovers() {
    let backend = ok_or_error().await;
    // A minute is 100 ms.
    let rig = Rig::new(Config {
        speed: 600.0,
        ..Config::default()
    });
    rig.add("blue", backend.target()).await;
    let alarms = Alarms::start(
        rig.clock,
        rig.metrics.clone(),
        rig.events.clone(),
        AlarmsOptions::default(),
    );
    let mut events = rig.events.subscribe();
    let metric = meters::metric("HTTPCode_Target_5XX_Count", DIMENSION, Some(BLUE));
    alarms.put(definition("too many errors", metric)).unwrap();
    assert_eq!(
        alarms.state("too many errors"),
        Some(State::InsufficientData)
    );
    until("OK without data", || {
        alarms.state("too many errors") == Some(State::Ok)
    })
    .await;

    let began = rig.clock.now();
    let mut client = Client::connect(rig.production()).await;
    // Enough for any minute that these requests may be divided by.
    for _ in 0..20 {
        client.get("/error").await;
    }
    until("ALARM", || {
        alarms.state("too many errors") == Some(State::Alarm)
    })
    .await;
    // The minute must have ended, and its metrics have arrived a minute late.
    let fired = alarms.get("too many errors").unwrap();
    assert!(
        fired.since - began >= Duration::from_mins(1),
        "{:?}",
        fired.since - began
    );
    assert!(fired.value.unwrap() > 3.0, "{fired:?}");
    // Nobody fails any more; the bad minute leaves the evaluation range.
    until("OK again", || {
        alarms.state("too many errors") == Some(State::Ok)
    })
    .await;

    let history = alarms.get("too many errors").unwrap().history;
    let states: Vec<_> = history
        .iter()
        .map(|change| (change.from, change.to))
        .collect();
    let expected = [
        (State::InsufficientData, State::Ok),
        (State::Ok, State::Alarm),
        (State::Alarm, State::Ok),
    ];
    assert_eq!(states, expected);
    let mut told = Vec::new();
    while let Ok(entry) = events.try_recv() {
        if let Event::AlarmStateChanged {
            alarm,
            state,
            previous,
            threshold,
            ..
        } = entry.event
        {
            assert_eq!((alarm.as_str(), threshold), ("too many errors", 3.0));
            told.push((previous, state));
        }
    }
    assert_eq!(told, expected);
}

#[tokio::test]
async fn metrics_that_come_late_fire_late() {
    let rig = Rig::new(Config {
        speed: 600.0,
        ..Config::default()
    });
    let metric = |name: &str| Metric {
        namespace: "Test".into(),
        name: name.into(),
        dimensions: BTreeMap::new(),
    };
    let alarms = [0, 5].map(|minutes| {
        let options = AlarmsOptions {
            metric_delay: Duration::from_mins(minutes),
        };
        let alarms = Alarms::start(rig.clock, rig.metrics.clone(), rig.events.clone(), options);
        alarms.put(definition("bad", metric("Bad"))).unwrap();
        alarms
    });
    rig.metrics.record(&metric("Bad"), rig.clock.now(), 10.0);
    until("both have fired", || {
        alarms.iter().all(|alarms| {
            alarms
                .get("bad")
                .unwrap()
                .history
                .iter()
                .any(|change| change.to == State::Alarm)
        })
    })
    .await;
    let [soon, late] = alarms.map(|alarms| {
        alarms
            .get("bad")
            .unwrap()
            .history
            .into_iter()
            .find(|change| change.to == State::Alarm)
            .unwrap()
            .at
    });
    let later = late - soon;
    assert!(
        (Duration::from_mins(4)..=Duration::from_mins(6)).contains(&later),
        "{later:?}"
    );
}

#[tokio::test]
async fn missing_data_is_treated_as_asked() {
    let rig = Rig::new(Config {
        speed: 1000.0,
        ..Config::default()
    });
    let alarms = Alarms::start(
        rig.clock,
        rig.metrics.clone(),
        rig.events.clone(),
        AlarmsOptions::default(),
    );
    let metric = meters::metric("NeverPublished", DIMENSION, None);
    for (name, treatment) in [
        ("missing", MissingData::Missing),
        ("not breaching", MissingData::NotBreaching),
        ("breaching", MissingData::Breaching),
        ("ignore", MissingData::Ignore),
    ] {
        alarms
            .put(Definition {
                treat_missing_data: treatment,
                ..definition(name, metric.clone())
            })
            .unwrap();
    }
    until("an evaluation", || {
        alarms.state("breaching") == Some(State::Alarm)
    })
    .await;
    assert_eq!(alarms.state("missing"), Some(State::InsufficientData));
    assert_eq!(alarms.state("not breaching"), Some(State::Ok));
    assert_eq!(alarms.state("ignore"), Some(State::InsufficientData));
    let names: Vec<_> = alarms
        .describe()
        .into_iter()
        .map(|alarm| alarm.definition.name)
        .collect();
    assert_eq!(names, ["breaching", "ignore", "missing", "not breaching"]);
}

#[tokio::test]
async fn a_forced_state_lasts_until_the_next_evaluation() {
    let rig = Rig::new(Config {
        speed: 600.0,
        ..Config::default()
    });
    let alarms = Alarms::start(
        rig.clock,
        rig.metrics.clone(),
        rig.events.clone(),
        AlarmsOptions::default(),
    );
    alarms
        .put(definition(
            "forced",
            meters::metric("None", DIMENSION, None),
        ))
        .unwrap();
    until("OK", || alarms.state("forced") == Some(State::Ok)).await;
    alarms
        .set_state("forced", State::Alarm, "for a test")
        .unwrap();
    assert_eq!(alarms.state("forced"), Some(State::Alarm));
    assert_eq!(alarms.get("forced").unwrap().reason, "for a test");
    until("OK again", || alarms.state("forced") == Some(State::Ok)).await;
    let unknown = alarms.set_state("nobody", State::Ok, "").unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "cannot find alarm \"nobody\"; put it first"
    );
    let senseless = Definition {
        evaluation_periods: 0,
        ..alarms.get("forced").unwrap().definition
    };
    assert!(matches!(alarms.put(senseless), Err(AlarmError::Invalid(_))));
    assert!(alarms.delete("forced") && !alarms.delete("forced"));
}

#[tokio::test]
async fn short_periods_are_evaluated_every_ten_seconds() {
    // Ten seconds are 50 ms.
    let rig = Rig::new(Config {
        speed: 200.0,
        ..Config::default()
    });
    let options = AlarmsOptions {
        metric_delay: Duration::ZERO,
    };
    let alarms = Alarms::start(rig.clock, rig.metrics.clone(), rig.events.clone(), options);
    let metric = meters::metric("Short", DIMENSION, None);
    let short = Definition {
        period: Duration::from_secs(10),
        ..definition("short", metric)
    };
    alarms.put(short).unwrap();
    until("OK", || alarms.state("short") == Some(State::Ok)).await;
    alarms
        .set_state("short", State::InsufficientData, "again")
        .unwrap();
    let forced = alarms.get("short").unwrap().since;
    until("OK again", || alarms.state("short") == Some(State::Ok)).await;
    let after = alarms.get("short").unwrap().since - forced;
    assert!(
        after < Duration::from_secs(40),
        "{after:?} is not every ten seconds"
    );
}
