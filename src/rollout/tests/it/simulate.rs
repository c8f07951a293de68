//! The simulator against its own formulas, against published figures (of others who measured the
//! same models), and against nonsense.

use rollout::judge::ConfigError;
use rollout::simulate::{
    Alarm, Detector, JudgeDetector, Phase, Scenario, ScenarioError, Scope, exact, simulate,
    simulate_runs,
};
use rollout::smoke;
use rollout::traffic::TrafficRouting;

/// The alarm of the published table: more than 10 failures of green in two minutes of two.
pub fn alarm() -> Alarm {
    Alarm {
        threshold: 10.0,
        period: 60.0,
        datapoints: 2,
        evaluation_periods: 2,
        scope: Scope::Green,
        metric_delay: 60.0,
        poll_delay: 10.0,
        phase: Phase::Uniform,
    }
}

/// The default judge.
pub fn judge(batch_seconds: f64, delay: f64) -> JudgeDetector {
    JudgeDetector {
        batch_seconds,
        delay,
        config: rollout::judge::Config::default(),
    }
}

/// The release of the published table, watched by that alarm.
pub fn scenario(strategy: TrafficRouting, p_green: f64) -> Scenario {
    Scenario {
        rate: 20.0,
        p_blue: 0.001,
        p_green,
        rollback_seconds: 30.0,
        bake_minutes: 15.0,
        strategy,
        alarm: Some(alarm()),
        judge: None,
        smoke: None,
    }
}

/// Chance agrees with the formula wherever there is one: scopes, phases, M of N, versions good
/// and bad. The allowance is five standard errors of the mean (failures are at most a few
/// hundred here, their spread below 150).
#[test]
fn chance_agrees_with_the_formula() {
    const RUNS: u32 = 4000;
    let variants = [
        (alarm(), TrafficRouting::canary(10, 5), 0.02),
        (alarm(), TrafficRouting::linear(10, 1), 0.02),
        (alarm(), TrafficRouting::linear(10, 3), 0.8),
        (
            Alarm {
                scope: Scope::All,
                threshold: 4.0,
                phase: Phase::At(17.5),
                datapoints: 2,
                evaluation_periods: 3,
                ..alarm()
            },
            TrafficRouting::canary(10, 5),
            0.02,
        ),
        (
            Alarm {
                scope: Scope::All,
                threshold: 3.0,
                datapoints: 1,
                evaluation_periods: 1,
                ..alarm()
            },
            TrafficRouting::AllAtOnce,
            0.001,
        ),
        (
            Alarm {
                metric_delay: 0.0,
                poll_delay: 0.0,
                phase: Phase::At(0.0),
                ..alarm()
            },
            TrafficRouting::linear(10, 1),
            0.05,
        ),
    ];
    for (index, (alarm, strategy, p_green)) in variants.into_iter().enumerate() {
        let scenario = Scenario {
            alarm: Some(alarm),
            ..scenario(strategy, p_green)
        };
        let formula = exact(&scenario).expect("valid");
        let chance = simulate(&scenario, RUNS, index as u64).expect("valid");
        let off = |got: f64, want: f64, spread: f64| {
            (got - want).abs() > 5.0 * spread / f64::from(RUNS).sqrt()
        };
        let told = format!("{scenario:?}\n{formula:?}\n{chance:?}");
        assert!(!off(chance.p_rollback, formula.p_detect, 0.5), "{told}");
        assert!(
            !off(chance.failures.mean, formula.expected_failures, 150.0),
            "{told}"
        );
        assert!(
            !off(chance.excess_mean, formula.expected_excess, 150.0),
            "{told}"
        );
        let detection = chance.detection_s.expect("some were detected").mean;
        let share = formula.p_detect.sqrt();
        let expected = formula.expected_detection_s.expect("possible");
        assert!(!off(detection, expected, 300.0 / share), "{told}");
    }
}

/// A strategy each.
type Row = [(f64, f64, f64); 5];

/// The strategies of the published table.
const STRATEGIES: [TrafficRouting; 5] = [
    TrafficRouting::AllAtOnce,
    TrafficRouting::canary(10, 5),
    TrafficRouting::canary(10, 15),
    TrafficRouting::linear(10, 1),
    TrafficRouting::linear(10, 3),
];

/// The table's columns of the alarm: mean failed requests and the mean time of detection.
#[test]
fn the_published_table_of_alarms() {
    let alarms = [
        [
            (3053.0, 160.0),
            (315.0, 167.0),
            (315.0, 167.0),
            (674.0, 167.0),
            (332.0, 167.0),
        ],
        [
            (87.0, 188.0),
            (98.0, 484.0),
            (122.0, 1084.0),
            (86.0, 445.0),
            (119.0, 907.0),
        ],
    ];
    for (row, p_green) in alarms.into_iter().zip([0.8, 0.02]) {
        for (strategy, (failures, detection)) in STRATEGIES.into_iter().zip(row) {
            let got = exact(&scenario(strategy, p_green)).expect("valid");
            let at = got.expected_detection_s.expect("detected");
            assert!(
                (got.expected_failures / failures - 1.0).abs() < 0.01,
                "{strategy}: {got:?}"
            );
            assert!((at - detection).abs() < 1.5, "{strategy}: {got:?}");
        }
    }
}

/// The table's columns of the judge, with polls of 60 s and 70 s of delay, and of 10 s with
/// 10 s: mean failed requests, their 95 % quantile and the mean time of detection.
#[test]
fn the_published_table_of_judges() {
    let judges: [(f64, f64, f64, Row); 4] = [
        (
            0.8,
            60.0,
            70.0,
            [
                (2560.0, 2645.0, 130.0),
                (256.0, 283.0, 130.0),
                (256.0, 283.0, 130.0),
                (480.0, 516.0, 130.0),
                (256.0, 283.0, 130.0),
            ],
        ),
        (
            0.8,
            10.0,
            10.0,
            [
                (800.0, 847.0, 20.0),
                (80.0, 95.0, 20.0),
                (80.0, 95.0, 20.0),
                (80.0, 95.0, 20.0),
                (80.0, 95.0, 20.0),
            ],
        ),
        (
            0.02,
            60.0,
            70.0,
            [
                (99.0, 134.0, 217.0),
                (19.0, 56.0, 240.0),
                (11.0, 15.0, 238.0),
                (24.0, 38.0, 205.0),
                (14.0, 22.0, 232.0),
            ],
        ),
        (
            0.02,
            10.0,
            10.0,
            [
                (61.0, 90.0, 121.0),
                (9.0, 13.0, 144.0),
                (7.0, 10.0, 142.0),
                (10.0, 18.0, 112.0),
                (7.0, 12.0, 136.0),
            ],
        ),
    ];
    for (p_green, every, delay, row) in judges {
        for (strategy, (mean, q95, detection)) in STRATEGIES.into_iter().zip(row) {
            let scenario = Scenario {
                alarm: None,
                judge: Some(judge(every, delay)),
                ..scenario(strategy, p_green)
            };
            let got = simulate(&scenario, 400, 11).expect("valid");
            let at = got.detection_s.expect("detected").mean;
            let told = format!("{strategy}, {p_green}, {every} s: {got:?}");
            // 400 runs: the table rounds, and chance is left.
            assert!(
                (got.failures.mean - mean).abs() < 0.06 * mean + 1.5,
                "{told}"
            );
            assert!((got.failures.q95 - q95).abs() < 0.12 * q95 + 4.0, "{told}");
            assert!((at - detection).abs() < 0.05 * detection + 1.0, "{told}");
        }
    }
}

#[test]
fn a_good_version_is_rolled_back_as_rarely_as_published() {
    let good = scenario(TrafficRouting::canary(10, 5), 0.02).of_a_good_version();
    let with = |threshold, in_a_row| Scenario {
        alarm: Some(Alarm {
            threshold,
            scope: Scope::All,
            datapoints: in_a_row,
            evaluation_periods: in_a_row,
            ..alarm()
        }),
        ..good.clone()
    };
    for (threshold, in_a_row, p) in [(3.0, 2, 0.020), (3.0, 1, 0.48), (1.0, 1, 1.0)] {
        let got = exact(&with(threshold, in_a_row)).expect("valid").p_detect;
        assert!(
            (got - p).abs() < 0.006,
            "> {threshold}, {in_a_row} in a row: {got}"
        );
    }
    let judged = Scenario {
        alarm: None,
        judge: Some(judge(60.0, 70.0)),
        ..good
    };
    let got = simulate(&judged, 2000, 3).expect("valid").p_rollback;
    assert!(got <= 0.0075, "{got}");
}

#[test]
fn a_seed_gives_the_same_deployments() {
    let scenario = Scenario {
        judge: Some(judge(60.0, 70.0)),
        ..scenario(TrafficRouting::linear(10, 3), 0.02)
    };
    let runs = |seed| simulate_runs(&scenario, 50, seed).expect("valid");
    assert_eq!(runs(1), runs(1));
    assert_ne!(runs(1), runs(2));
    // The judge is the faster of the two here, and nobody acts after the end.
    let runs = runs(3);
    let by = |detector| {
        runs.iter()
            .filter(|run| run.stopped_by == Some(detector))
            .count()
    };
    assert!(by(Detector::Judge) > 45, "{runs:?}");
    assert!(
        runs.iter()
            .all(|run| run.detection_s.is_some_and(|at| at <= scenario.done_at()))
    );
}

#[test]
fn a_smoke_test_keeps_a_dead_version_from_all_users() {
    let canary = scenario(TrafficRouting::canary(10, 5), 0.05);
    let smoked = Scenario {
        smoke: Some(smoke::Config::default()),
        ..canary.clone()
    };
    let passes = smoke::characteristic(&smoke::Config::default(), 0.05)
        .expect("valid")
        .pass;
    let (without, with) = (
        exact(&canary).expect("valid"),
        exact(&smoked).expect("valid"),
    );
    assert!((with.expected_failures - passes * without.expected_failures).abs() < 1e-9);
    assert_eq!(with.expected_detection_s, without.expected_detection_s);
    let runs = simulate_runs(&smoked, 2000, 5).expect("valid");
    let stopped = runs
        .iter()
        .filter(|run| run.stopped_by == Some(Detector::Smoke));
    let share = f64::from(u32::try_from(stopped.count()).expect("few")) / 2000.0;
    assert!((share - (1.0 - passes)).abs() < 0.05, "{share}");
    let dead = Scenario {
        p_green: 1.0,
        ..smoked
    };
    assert!(simulate(&dead, 200, 1).expect("valid").failures.q99 == 0.0);
}

#[test]
fn without_a_detector_everybody_meets_green() {
    let unwatched = Scenario {
        alarm: None,
        ..scenario(TrafficRouting::AllAtOnce, 0.5)
    };
    let got = exact(&unwatched).expect("valid");
    assert_eq!((got.p_detect, got.expected_detection_s), (0.0, None));
    assert!((got.expected_failures - 20.0 * 900.0 * 0.5).abs() < 1e-6);
    let got = simulate(&unwatched, 200, 1).expect("valid");
    assert_eq!((got.p_rollback, got.detection_s), (0.0, None));
    assert!((got.failures.mean - 9000.0).abs() < 100.0);
}

type Change = fn(&mut Scenario);

fn watched(scenario: &mut Scenario) -> &mut Alarm {
    scenario.alarm.get_or_insert_with(alarm)
}

fn judged(scenario: &mut Scenario) -> &mut JudgeDetector {
    scenario.judge.get_or_insert_with(|| judge(60.0, 70.0))
}

#[test]
fn scenarios_without_a_meaning_are_refused() {
    let base = Scenario {
        judge: Some(judge(60.0, 70.0)),
        ..scenario(TrafficRouting::canary(10, 5), 0.02)
    };
    let cases: [(Change, &str); 21] = [
        (|s| s.rate = 0.0, "a rate of 0 "),
        (|s| s.rate = -1.0, "a rate of -1 "),
        (|s| s.rate = f64::NAN, "a rate of NaN "),
        (|s| s.p_blue = -0.1, "p_blue = -0.1"),
        (|s| s.p_green = 1.1, "p_green = 1.1"),
        (|s| s.p_green = f64::NAN, "p_green = NaN"),
        (|s| s.rollback_seconds = -1.0, "rollback_seconds = -1"),
        (|s| s.bake_minutes = -1.0, "bake_minutes = -1"),
        (|s| s.bake_minutes = f64::INFINITY, "bake_minutes = inf"),
        (|s| s.strategy = TrafficRouting::canary(0, 5), "0 %"),
        (|s| s.strategy = TrafficRouting::linear(101, 5), "101 %"),
        (|s| watched(s).period = 0.0, "period = 0"),
        (|s| watched(s).threshold = -1.0, "threshold of -1"),
        (|s| watched(s).datapoints = 3, "3 of 2 data points"),
        (
            |s| watched(s).evaluation_periods = 65,
            "2 of 65 data points",
        ),
        (|s| watched(s).metric_delay = -1.0, "metric_delay = -1"),
        (|s| watched(s).phase = Phase::At(60.0), "a phase of 60 "),
        (|s| watched(s).phase = Phase::At(-1.0), "a phase of -1 "),
        (
            |s| judged(s).batch_seconds = f64::NAN,
            "batch_seconds = NaN",
        ),
        (|s| judged(s).delay = -0.1, "delay = -0.1"),
        (
            |s| {
                s.bake_minutes = 40_000.0;
                judged(s).batch_seconds = 1.0;
            },
            "longer ones",
        ),
    ];
    for (change, words) in cases {
        let mut scenario = base.clone();
        change(&mut scenario);
        let error = simulate(&scenario, 1, 1).expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
    let mut scenario = base.clone();
    judged(&mut scenario).config.objective = Some(1.0);
    assert_eq!(
        simulate(&scenario, 1, 1),
        Err(ScenarioError::Judge(ConfigError::Objective(1.0)))
    );
    assert_eq!(exact(&base), Err(ScenarioError::NotExact));
    assert_eq!(simulate(&base, 0, 1), Err(ScenarioError::Runs(0)));
    for strategy in [
        r#"{"type": "TimeBasedCanary", "percent": 100, "minutes": 5}"#,
        r#"{"type": "TimeBasedCanary", "percent": -1, "minutes": 5}"#,
        r#"{"type": "TimeBasedLinear", "percent": 10, "minutes": 0}"#,
        r#"{"type": "AllAtOnce", "percent": 10}"#,
        r#"{"type": "Sideways"}"#,
    ] {
        let mut written = serde_json::to_value(&base).expect("writes");
        assert_eq!(
            serde_json::from_value::<Scenario>(written.clone()).expect("reads"),
            base
        );
        written["strategy"] = serde_json::from_str(strategy).expect("JSON");
        assert!(
            serde_json::from_value::<Scenario>(written).is_err(),
            "{strategy}"
        );
    }
}
