//! What the judge and the simulator cost: `cargo bench -p rollout --bench judge`.
//!
//! Each figure is the best of several rounds on one core: the machine's other work only ever
//! adds.

use std::hint::black_box;
use std::time::{Duration, Instant};

use rollout::judge::{Batch, Config, Histogram, Judge, Latency, Side};
use rollout::simulate::{Alarm, JudgeDetector, Phase, Scenario, Scope, exact, simulate_runs};
use rollout::traffic::TrafficRouting;

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
    judge_updates();
    simulator();
}

fn judge_updates() {
    let side = |requests, errors, latency: Option<[i64; 4]>| Side {
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
    let cases = [
        (
            "10/90, 0.1 % and 2 % failing",
            Config::default(),
            Batch::new(side(90_000, 90, None), side(10_000, 200, None)),
        ),
        (
            "50/50, half of all failing",
            Config::default(),
            Batch::new(side(50_000, 25_000, None), side(50_000, 25_000, None)),
        ),
        (
            "50/50, half failing, latency at three quantiles",
            slow,
            Batch::new(
                side(50_000, 25_000, Some([12_500, 10_500, 1_800, 200])),
                side(50_000, 25_000, Some([12_500, 10_500, 1_800, 200])),
            ),
        ),
    ];
    for (name, config, batch) in cases {
        let Ok(fresh) = Judge::new(config) else {
            continue;
        };
        let updates = 50;
        let seconds = best(|| {
            let mut judge = fresh.clone();
            for _ in 0..updates {
                let _ = black_box(judge.observe(black_box(&batch)));
            }
        });
        println!(
            "judge, a batch of 100,000 requests, {name}: {:.1} us",
            seconds / f64::from(updates) * 1e6
        );
    }
}

fn simulator() {
    let alarm = Alarm {
        threshold: 10.0,
        period: 60.0,
        datapoints: 2,
        evaluation_periods: 2,
        scope: Scope::Green,
        metric_delay: 60.0,
        poll_delay: 10.0,
        phase: Phase::At(0.0),
    };
    let watched = Scenario {
        rate: 20.0,
        p_blue: 0.001,
        p_green: 0.02,
        rollback_seconds: 30.0,
        bake_minutes: 15.0,
        strategy: TrafficRouting::canary(10, 5),
        alarm: Some(alarm),
        judge: None,
        smoke: None,
    };
    let both = Scenario {
        judge: Some(JudgeDetector {
            batch_seconds: 60.0,
            delay: 70.0,
            config: Config::default(),
        }),
        ..watched.clone()
    };
    let good = both.of_a_good_version();
    for (name, scenario, runs) in [
        ("alarm only, 2 % failing", &watched, 100_000),
        ("alarm and judge, 2 % failing", &both, 5_000),
        ("alarm and judge, a good version", &good, 2_000),
    ] {
        let seconds = best(|| {
            let _ = black_box(simulate_runs(black_box(scenario), runs, 1));
        });
        println!(
            "simulator, {name}: {:.0} deployments a second and core",
            f64::from(runs) / seconds
        );
    }
    let uniform = Scenario {
        alarm: Some(Alarm {
            phase: Phase::Uniform,
            ..alarm
        }),
        ..watched.clone()
    };
    for (name, scenario) in [("one phase", &watched), ("mean of 60 phases", &uniform)] {
        let seconds = best(|| {
            for _ in 0..100 {
                let _ = black_box(exact(black_box(scenario)));
            }
        });
        println!("exact result, {name}: {:.1} us", seconds / 100.0 * 1e6);
    }
}
