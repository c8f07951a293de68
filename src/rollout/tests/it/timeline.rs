//! When everything of a release will happen.

use std::time::Duration;

use rollout::alarm::{Comparison, Definition, Metric, MissingData, Statistic};
use rollout::deployment::{Alarms, Spec};
use rollout::judge::Config;
use rollout::lifecycle::LifecycleEvent;
use rollout::simulate::{JudgeDetector, Scope, simulate};
use rollout::timeline::{Plan, PlanError, Timeline, Traffic, Watched, findings, longest};
use rollout::traffic::TrafficRouting;

use crate::rig;

/// The pair, as the dimension has it.
pub const GROUPS: [&str; 2] = ["targetgroup/shop-a/1", "targetgroup/shop-b/2"];

/// A metric of the load balancer, or of one of its groups.
pub fn metric(name: &str, group: Option<&str>) -> Metric {
    let balancer = ("LoadBalancer".to_owned(), "app/shop/0".to_owned());
    let group = group.map(|group| ("TargetGroup".to_owned(), group.to_owned()));
    Metric {
        namespace: "AWS/ApplicationELB".to_owned(),
        name: name.to_owned(),
        dimensions: std::iter::once(balancer).chain(group).collect(),
    }
}

/// More than 10 failures a minute, one minute of one.
pub fn alarm(name: &str, group: Option<&str>) -> Definition {
    Definition {
        name: match group {
            Some(group) => format!("{name} of {group}"),
            None => name.to_owned(),
        },
        metric: metric(name, group),
        statistic: Statistic::Sum,
        period: Duration::from_mins(1),
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 10.0,
        comparison: Comparison::GreaterThanThreshold,
        treat_missing_data: MissingData::NotBreaching,
    }
}

/// What targets fail.
pub const FAILURES: &str = "HTTPCode_Target_5XX_Count";
/// What the load balancer answers for a dead target.
pub const DEAD: &str = "HTTPCode_ELB_502_Count";

/// A plan without a fault: 10 % for five minutes, an alarm on each group and one on dead
/// targets, 20 requests a second, the judge every 10 seconds.
pub fn plan() -> Plan {
    let alarms = [
        alarm(FAILURES, Some(GROUPS[0])),
        alarm(FAILURES, Some(GROUPS[1])),
        alarm(DEAD, None),
    ];
    let names = alarms.iter().map(|alarm| alarm.name.clone()).collect();
    Plan {
        alarms: alarms.into_iter().map(Watched::from).collect(),
        traffic: Some(Traffic::of(20.0)),
        judge: Some(JudgeDetector {
            batch_seconds: 10.0,
            delay: 10.0,
            config: Config::default(),
        }),
        ..Plan::new(
            Spec {
                alarms: Alarms {
                    names,
                    ignore_poll_failure: false,
                },
                hooks: rig::hooks(&[LifecycleEvent::AfterAllowTestTraffic]),
                ..rig::canary()
            },
            GROUPS.map(str::to_owned),
        )
    }
}

#[test]
fn a_timeline_says_when_and_who() {
    let timeline = Timeline::of(&plan()).expect("valid");
    let weights: Vec<_> = timeline
        .weights
        .iter()
        .map(|weight| (weight.at.as_secs_f64(), weight.green))
        .collect();
    // 2 s created, 60 s install, half a second for the test listener, 10 s hook.
    assert_eq!(weights, [(0.0, 0), (72.5, 10), (372.5, 100)]);
    assert_eq!(timeline.full_at, Duration::from_millis(372_500));
    assert_eq!(timeline.done_at, Duration::from_secs(373 + 300));
    let spans: Vec<_> = timeline
        .lifecycle
        .iter()
        .map(|span| {
            (
                span.event.as_str(),
                span.end.saturating_sub(span.start).as_secs_f64(),
            )
        })
        .collect();
    assert_eq!(
        spans,
        [
            ("Install", 60.0),
            ("AllowTestTraffic", 0.5),
            ("AfterAllowTestTraffic", 10.0),
            ("AllowTraffic", 300.5)
        ]
    );
    // 5 min to begin, an hour each to install, to settle and for the hook, 5 min canary, 5 min
    // bake, two commands.
    assert_eq!(
        timeline.client_timeout,
        Duration::from_secs(3 * 3600 + 900 + 1)
    );
    assert_eq!(timeline.client_timeout, longest(&plan().spec));

    // 11 failures take 5.5 s at 2 requests a second; in whole seconds of phase, 6. With the
    // worst phase 5 s of a period are not enough, and the next one counts.
    let outlook = &timeline.alarms[0];
    let earliest = outlook.earliest.expect("it can");
    let latest = outlook.latest.expect("it does");
    assert_eq!(earliest.after, Duration::from_secs(6 + 70));
    assert_eq!(latest.after, Duration::from_secs(5 + 60 + 70));
    let met = earliest.met.expect("known traffic");
    assert!((met.requests - 152.0).abs() < 1e-9, "{met:?}");
    assert!((met.users - 152.0).abs() < 1e-9, "{met:?}");
    assert!((met.share_of_users - 0.1).abs() < 1e-9, "{met:?}");
    assert!((earliest.weight - 10.0).abs() < 1e-9);

    // Who makes five requests meets green with probability 1 - 0.9^5.
    let mut busy = plan();
    if let Some(traffic) = &mut busy.traffic {
        traffic.requests_per_user = 5.0;
    }
    let timeline = Timeline::of(&busy).expect("valid");
    let met = timeline.alarms[0].earliest.and_then(|reach| reach.met);
    let met = met.expect("known traffic");
    let share = 1.0 - 0.9_f64.powi(5);
    assert!((met.share_of_users - share).abs() < 1e-9, "{met:?}");
    assert!((met.users - 4.0 * 76.0 * share).abs() < 1e-9, "{met:?}");
    let written = serde_json::to_value(&timeline).expect("writes");
    assert_eq!(written["alarms"][0]["earliest"]["after_ms"], 76_000);
    assert_eq!(written["traffic_at_ms"], 72_500);
}

/// What the simulator plays of a plan is the plan: the same alarm, whatever its comparison.
#[test]
fn a_plan_can_be_played() {
    let plan = plan();
    let scenario = plan.scenario(30.0).expect("known traffic");
    let alarm = scenario.alarm.expect("there");
    assert_eq!((alarm.scope, alarm.datapoints), (Scope::Green, 1));
    assert!((alarm.threshold - 10.0).abs() < 1e-9 && (alarm.metric_delay - 60.0).abs() < 1e-9);
    assert!((scenario.done_at() - 600.0).abs() < 1e-9);
    assert!(simulate(&scenario, 20, 1).is_ok());
    let mut definition = plan.alarms[0].definition.clone();
    definition.comparison = Comparison::GreaterThanOrEqualToThreshold;
    definition.threshold = 11.0;
    definition.datapoints_to_alarm = 0;
    assert_eq!(plan.detector(&definition), Some(alarm));
    definition.metric = metric(FAILURES, None);
    assert_eq!(
        plan.detector(&definition).map(|alarm| alarm.scope),
        Some(Scope::All)
    );
    assert_eq!(plan.detector(&plan.alarms[2].definition), None);
    let unknown = Plan {
        traffic: None,
        ..plan
    };
    assert_eq!(unknown.scenario(30.0), None);
}

#[test]
fn plans_without_a_meaning_are_refused() {
    type Change = fn(&mut Plan);
    fn traffic(plan: &mut Plan) -> &mut Traffic {
        plan.traffic.get_or_insert(Traffic::of(1.0))
    }
    let cases: [(Change, &str); 12] = [
        (
            |p| p.spec.termination_wait = Duration::MAX,
            "a termination wait of",
        ),
        (
            |p| p.world.install = Duration::from_hours(721),
            "an installation of",
        ),
        (|p| traffic(p).rate = 0.0, "a rate of 0 "),
        (|p| traffic(p).rate = f64::NAN, "a rate of NaN"),
        (
            |p| traffic(p).requests_per_user = 0.5,
            "0.5 requests a user",
        ),
        (|p| traffic(p).failing = -0.1, "failing = -0.1"),
        (|p| traffic(p).regression = 1.5, "regression = 1.5"),
        (|p| p.spec.routing = TrafficRouting::canary(101, 5), "101 %"),
        (
            |p| p.alarms[0].definition.evaluation_periods = 0,
            "no evaluation periods",
        ),
        (
            |p| p.alarms[0].definition.threshold = f64::NAN,
            "not a number",
        ),
        (
            |p| p.judge.as_mut().expect("there").batch_seconds = 0.0,
            "batches of 0 seconds",
        ),
        (
            |p| p.judge.as_mut().expect("there").config.objective = Some(0.0),
            "an objective of 0 ",
        ),
    ];
    for (change, words) in cases {
        let mut plan = plan();
        change(&mut plan);
        let error: PlanError = findings(&plan).expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
        let same = Timeline::of(&plan).expect_err("refused");
        assert_eq!(same.to_string(), error.to_string());
    }
}
