//! What the judge and the simulator cost: `cargo bench -p rollout --bench judge`.
//!
//! Each figure is the best of several rounds on one core: the machine's other work only ever
//! adds. With `--json` they come as one JSON object, together with the inputs and the results,
//! so that `benches/judge/run` can do the same with other tools and compare both.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rollout::judge::{Batch, Config, Histogram, Judge, Latency, Side};
use rollout::simulate::simulate_runs;
use rollout::simulate::{Alarm, JudgeDetector, Phase, Scenario, Scope, exact, simulate};
use rollout::traffic::TrafficRouting;
use serde_json::{Value, json};

const ROUNDS: u32 = 7;

/// Seconds of the best round.
fn best(mut round: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed()
        })
        .min()
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}

fn main() {
    let figures =
        json!({ "judge": judge_updates(), "simulator": simulator(), "exact": formulas() });
    if std::env::args().any(|argument| argument == "--json") {
        println!("{figures}");
        return;
    }
    let figure = |part: &str, each: &dyn Fn(&Value) -> String| {
        for figure in figures[part].as_array().into_iter().flatten() {
            println!(
                "{}: {}",
                figure["name"].as_str().unwrap_or_default(),
                each(figure)
            );
        }
    };
    let seconds = |figure: &Value| figure["seconds"].as_f64().unwrap_or(f64::NAN);
    figure("judge", &|f| {
        format!("{:.1} us an update", seconds(f) * 1e6)
    });
    figure("simulator", &|f| {
        format!("{:.0} deployments a second and core", 1.0 / seconds(f))
    });
    figure("exact", &|f| format!("{:.1} us", seconds(f) * 1e6));
}

/// Seconds of an update of the default judge by a batch of 100,000 requests.
fn judge_updates() -> Vec<Value> {
    let side = |(requests, errors), latency: Option<[i64; 4]>| Side {
        requests,
        errors,
        latency: latency.map(|counts| Histogram::Counts(counts.to_vec())),
    };
    let slow = Config {
        latency: Some(Latency {
            bounds_ms: vec![50.0, 100.0, 200.0],
            ..Latency::default()
        }),
        ..Config::default()
    };
    let slow_ms = Some([12_500, 10_500, 1_800, 200]);
    let (few, many) = (
        ((90_000, 90), (10_000, 200)),
        ((50_000, 25_000), (50_000, 25_100)),
    );
    let cases = [
        (
            "judge, 10/90, 0.1 % and 2 % failing",
            Config::default(),
            few,
            None,
        ),
        (
            "judge, 50/50, half of all failing",
            Config::default(),
            many,
            None,
        ),
        (
            "judge, the same, latency at three quantiles",
            slow,
            many,
            slow_ms,
        ),
    ];
    cases
        .into_iter()
        .filter_map(|(name, config, (blue, green), latency)| {
            let fresh = Judge::new(config.clone()).ok()?;
            let batch = Batch::new(side(blue, latency), side(green, latency));
            let mut once = fresh.clone();
            once.observe(&batch).ok()?;
            let updates = 50;
            let seconds = best(|| {
                let mut judge = fresh.clone();
                for _ in 0..updates {
                    let _ = black_box(judge.observe(black_box(&batch)));
                }
            });
            Some(json!({
                "name": name,
                "seconds": seconds / f64::from(updates),
                "config": config,
                "batch": batch,
                "log_e": once.log_e(),
            }))
        })
        .collect()
}

fn alarm(phase: Phase) -> Alarm {
    Alarm {
        threshold: 10.0,
        period: 60.0,
        datapoints: 2,
        evaluation_periods: 2,
        scope: Scope::Green,
        metric_delay: 60.0,
        poll_delay: 10.0,
        phase,
    }
}

fn watched(phase: Phase) -> Scenario {
    Scenario {
        rate: 20.0,
        p_blue: 0.001,
        p_green: 0.02,
        rollback_seconds: 30.0,
        bake_minutes: 15.0,
        strategy: TrafficRouting::canary(10, 5),
        alarm: Some(alarm(phase)),
        judge: None,
        smoke: None,
    }
}

/// Seconds of one simulated deployment.
fn simulator() -> Vec<Value> {
    let alarmed = watched(Phase::At(0.0));
    let both = Scenario {
        judge: Some(JudgeDetector {
            batch_seconds: 60.0,
            delay: 70.0,
            config: Config::default(),
        }),
        ..alarmed.clone()
    };
    let good = both.of_a_good_version();
    [
        ("simulator, alarm only, 2 % failing", &alarmed, 100_000),
        ("simulator, alarm and judge, 2 % failing", &both, 5_000),
        ("simulator, alarm and judge, a good version", &good, 2_000),
    ]
    .into_iter()
    .map(|(name, scenario, runs)| {
        let seconds = best(|| {
            let _ = black_box(simulate_runs(black_box(scenario), runs, 1));
        });
        json!({
            "name": name,
            "seconds": seconds / f64::from(runs),
            "scenario": scenario,
            "result": simulate(scenario, runs, 1).ok(),
        })
    })
    .collect()
}

/// Seconds of an exact result.
fn formulas() -> Vec<Value> {
    [
        ("exact result, one phase", watched(Phase::At(0.0))),
        ("exact result, mean of 60 phases", watched(Phase::Uniform)),
    ]
    .into_iter()
    .map(|(name, scenario)| {
        let seconds = best(|| {
            for _ in 0..100 {
                let _ = black_box(exact(black_box(&scenario)));
            }
        });
        json!({
            "name": name,
            "seconds": seconds / 100.0,
            "scenario": scenario,
            "result": exact(&scenario).ok(),
        })
    })
    .collect()
}
