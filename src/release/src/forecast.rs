//! A release in advance: what release.toml means for the mathematics of [`rollout::timeline`] and
//! [`rollout::simulate`].
//!
//! Nothing is asked of any target here. What is assumed instead stands in release.toml: the
//! alarms and the termination wait of `[stage]` are taken for those of the account, which a
//! rehearsal assumes as well.

use rollout::deployment::{Alarms, AutoRollback, Spec};
use rollout::event::{Event, Prediction};
use rollout::lifecycle::LifecycleEvent;
use rollout::simulate::{self, Comparison, JudgeDetector, Phase, Scope, Watch};
use rollout::smoke;
use rollout::timeline::{Plan, Traffic, Watched};
use rollout::traffic::TrafficRouting;
use stage::Stack;

use crate::config::{Config, Per, Strategy};
use crate::measured::Measured;
use crate::rehearsal::provision;

/// The metric that a bad version shows in.
const FAILURES: &str = "HTTPCode_Target_5XX_Count";
/// From the end of a batch until a stopped deployment sends nothing to green (measured on the
/// stage; the target's time).
const JUDGE_DELAY: f64 = 3.0;

/// Where a hook can test green before its first user.
const SMOKE_TEST: LifecycleEvent = LifecycleEvent::AfterAllowTestTraffic;
/// From there until nothing is sent to green any more (the target's time).
const ROLLBACK_SECONDS: f64 = 1.0;

/// How traffic moves under a strategy; `None` for a deployment configuration of the account's own, which
/// only the account knows.
pub fn routing(strategy: &Strategy) -> Option<TrafficRouting> {
    TrafficRouting::predefined(&strategy.deployment_config)
}

/// Everything that decides a release beforehand.
pub fn plan(config: &Config, routing: TrafficRouting, traffic: Traffic) -> Plan {
    let stack = Stack::named(&config.application.name);
    let alarms = provision::alarms(config, &stack);
    let names = alarms.iter().map(|alarm| alarm.name.clone()).collect();
    let spec = Spec {
        routing,
        test_listener: true,
        termination_wait: config.stage.termination_wait,
        auto_rollback: AutoRollback::ALL,
        alarms: Alarms {
            names,
            ignore_poll_failure: false,
        },
        ..Spec::new("d-FORESEEN", "d-ROLLBACK")
    };
    let groups = stack
        .target_groups
        .each_ref()
        .map(|group| stack.target_group_dimension(group));
    Plan {
        alarms: alarms.into_iter().map(Watched::from).collect(),
        metric_delay: config.stage.metric_delay,
        traffic: Some(traffic),
        judge: Some(judge(config)),
        ..Plan::new(spec, groups)
    }
}

/// Strategies under the detectors that release.toml knows: the alarm alone, and with the judge.
pub fn comparison(
    config: &Config,
    traffic: Traffic,
    strategies: Vec<(String, TrafficRouting)>,
) -> Comparison {
    let (alarm, judge) = (alarm(config), judge(config));
    let watch = |name: &str, alarmed: bool, judged: bool| Watch {
        name: name.to_owned(),
        alarm: alarm.filter(|_| alarmed),
        judge: judged.then(|| judge.clone()),
        smoke: None,
    };
    let mut watches = if alarm.is_some() {
        vec![
            watch("alarm", true, false),
            watch("judge", false, true),
            watch("alarm and judge", true, true),
        ]
    } else {
        vec![watch("judge", false, true)]
    };
    let guarded = |strategy: &Strategy| strategy.hooks.contains_key(&SMOKE_TEST);
    if config.strategies.values().any(guarded) {
        watches.push(Watch {
            smoke: Some(smoke::Config::default()),
            ..watch("alarm, judge and hook", true, true)
        });
    }
    Comparison {
        rate: traffic.rate,
        p_blue: traffic.failing,
        p_green: traffic.regression,
        rollback_seconds: ROLLBACK_SECONDS,
        bake_minutes: config.stage.termination_wait.as_secs_f64() / 60.0,
        strategies,
        watches,
        runs: 1000,
        good_runs: 1000,
        seed: 1,
    }
}

/// What was to be expected of a release that went as this one did.
pub fn predicted(config: &Config, strategy: &Strategy, measured: &Measured) -> Option<Event> {
    let traffic = measured.traffic();
    let mut comparison = comparison(config, traffic, vec![(String::new(), routing(strategy)?)]);
    // What the hook refuses meets no users: there is nothing to compare with.
    comparison
        .watches
        .retain(|watch| watch.alarm.is_some() && watch.smoke.is_none());
    let rows = comparison.rows().ok()?;
    Some(Event::Predicted {
        rate: traffic.rate,
        error_rate: traffic.regression,
        watches: rows
            .into_iter()
            .map(|row| Prediction {
                watch: row.watch,
                lost_mean: row.bad.failures.mean,
                lost_q95: row.bad.failures.q95,
                found_after_s: row.bad.detection_s.map(|found| found.mean),
            })
            .collect(),
    })
}

/// The judge, as the simulator knows it.
pub fn judge(config: &Config) -> JudgeDetector {
    JudgeDetector {
        batch_seconds: config.judge.interval.as_secs_f64(),
        delay: JUDGE_DELAY,
        // What is simulated are failures; times are not.
        config: rollout::judge::Config {
            latency: None,
            ..config.judge.config()
        },
    }
}

/// The alarm on failed requests, as the simulator knows it, if there is one.
pub fn alarm(config: &Config) -> Option<simulate::Alarm> {
    let alarm = config
        .stage
        .alarms
        .iter()
        .find(|alarm| alarm.metric == FAILURES)?;
    Some(simulate::Alarm {
        threshold: alarm.threshold,
        period: alarm.period.as_secs_f64(),
        datapoints: alarm
            .datapoints_to_alarm
            .unwrap_or(alarm.evaluation_periods),
        evaluation_periods: alarm.evaluation_periods,
        scope: match alarm.per {
            Per::TargetGroup => Scope::Green,
            Per::LoadBalancer => Scope::All,
        },
        metric_delay: config.stage.metric_delay.as_secs_f64(),
        poll_delay: rollout::deployment::limits::ALARM_POLL.as_secs_f64(),
        phase: Phase::Uniform,
    })
}
