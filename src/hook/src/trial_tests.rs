#![expect(clippy::unwrap_used, reason = "tests")]
use std::cell::{Cell, RefCell};

use http::StatusCode;

use super::*;

fn config(paths: &str, more: &[(&str, &str)]) -> Config {
    let base = [
        ("HOOK_TEST_URL", "http://127.0.0.1:1"),
        ("HOOK_PATHS", paths),
        ("HOOK_RATE", "1000"),
        ("HOOK_SETTLE", "0s"),
    ];
    // The first of a name holds.
    let variables = more.iter().chain(&base);
    Config::of(variables.map(|(name, value)| (name.into(), value.into()))).unwrap()
}

fn answered(status: u16) -> Probe {
    Probe {
        outcome: Outcome::Answered(StatusCode::from_u16(status).unwrap()),
        took: Duration::from_millis(3),
    }
}

const PLENTY: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_healthy_green_passes_after_22_probes() {
    let config = config("/", &[("HOOK_CONCURRENCY", "1")]);
    let trial = run(&config, PLENTY, async |_| answered(200)).await.unwrap();
    assert_eq!(trial.verdict, Verdict::Pass);
    assert_eq!((trial.probes, trial.failed), (22, 0));
    assert_eq!(trial.endpoints[0].good, 22);
    assert_eq!(trial.endpoints[0].slowest, Duration::from_millis(3));
}

#[tokio::test]
async fn a_dead_green_is_refused_after_two() {
    let config = config("/", &[("HOOK_CONCURRENCY", "1")]);
    let trial = run(&config, PLENTY, async |_| answered(500)).await.unwrap();
    assert_eq!(trial.verdict, Verdict::Abort);
    assert_eq!((trial.probes, trial.failed), (2, 2));
    assert_eq!(trial.endpoints[0].failures["500"], 2);
    assert_eq!(trial.unproven, ["/"]);
}

/// What was under way when it was decided is not counted.
#[tokio::test]
async fn several_at_once() {
    let config = config("/", &[("HOOK_CONCURRENCY", "8")]);
    let (now, most) = (Cell::new(0), Cell::new(0));
    let trial = run(&config, PLENTY, async |_| {
        now.set(now.get() + 1);
        most.set(most.get().max(now.get()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        now.set(now.get() - 1);
        answered(503)
    });
    let trial = trial.await.unwrap();
    assert_eq!((trial.probes, trial.failed), (2, 2));
    assert_eq!(most.get(), 8);
}

#[tokio::test]
async fn every_endpoint_is_asked_equally_often_in_some_order() {
    let config = config("/a /b /c /d", &[("HOOK_CONCURRENCY", "1")]);
    let asked = RefCell::new(Vec::new());
    let trial = run(&config, PLENTY, async |path: PathAndQuery| {
        asked.borrow_mut().push(path.to_string());
        answered(204)
    });
    let trial = trial.await.unwrap();
    assert_eq!(trial.verdict, Verdict::Pass);
    let asked = asked.into_inner();
    for round in asked.chunks_exact(4) {
        let mut round = round.to_vec();
        round.sort();
        assert_eq!(round, ["/a", "/b", "/c", "/d"]);
    }
    // 5 rounds that are all in one order: once in 24^4 runs.
    assert!(asked.chunks_exact(4).any(|round| round != &asked[..4]));
}

/// Nine good endpoints of ten would pass in the end; not if the tenth is one that must work.
#[tokio::test]
async fn a_critical_endpoint_that_never_answers_well_is_never_passed() {
    let paths = "/0 /1 /2 /3 /4 /5 /6 /7 /8 /9";
    let dead = async |path: PathAndQuery| answered(if path == "/3" { 404 } else { 200 });
    for _ in 0..20 {
        let critical = config(paths, &[("HOOK_CRITICAL_PATHS", "/3 /4")]);
        let trial = run(&critical, PLENTY, dead).await.unwrap();
        assert!(matches!(
            trial.verdict,
            Verdict::Abort | Verdict::Inconclusive
        ));
        assert!(trial.unproven.contains(&"/3".to_owned()));
        assert!(trial.endpoints[3].good == 0);
    }
}

#[tokio::test]
async fn a_green_that_is_silent_is_refused_when_time_runs_out() {
    let config = config("/", &[]);
    let begun = Instant::now();
    let limit = Duration::from_millis(50);
    let trial = run(&config, limit, async |_| std::future::pending().await);
    let trial = trial.await.unwrap();
    assert_eq!(trial.verdict, Verdict::OutOfTime);
    assert_eq!(trial.probes, 0);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn too_few_probes_are_inconclusive() {
    let config = config("/", &[("HOOK_MAX_PROBES", "5")]);
    let trial = run(&config, PLENTY, async |_| answered(200)).await.unwrap();
    assert_eq!(trial.verdict, Verdict::Inconclusive);
    assert_eq!((trial.probes, trial.failed), (5, 0));
}

/// The first answers are the load balancer's own: they are waited out, and not counted.
#[tokio::test]
async fn the_load_balancer_may_take_a_moment() {
    let config = config("/", &[("HOOK_SETTLE", "30s")]);
    let asked = Cell::new(0);
    let trial = run(&config, PLENTY, async |_| {
        asked.set(asked.get() + 1);
        answered(if asked.get() <= 3 { 503 } else { 200 })
    });
    let trial = trial.await.unwrap();
    assert_eq!(trial.verdict, Verdict::Pass);
    assert_eq!(trial.failed, 0);
    assert!(trial.settled >= PAUSE * 3);
}

/// A green that is not there stays so: waiting ends, and the probes say it.
#[tokio::test]
async fn a_green_that_is_not_there() {
    let config = config("/", &[("HOOK_SETTLE", "150ms"), ("HOOK_CONCURRENCY", "1")]);
    let trial = run(&config, PLENTY, async |_| Probe {
        outcome: Outcome::Broken("connection refused".to_owned()),
        took: Duration::ZERO,
    });
    let trial = trial.await.unwrap();
    assert_eq!(trial.verdict, Verdict::Abort);
    assert_eq!(trial.endpoints[0].failures["connection refused"], 2);
    assert!(trial.settled >= Duration::from_millis(150));
}

#[tokio::test]
async fn the_rate_is_kept() {
    let config = config("/", &[("HOOK_RATE", "100"), ("HOOK_CONCURRENCY", "64")]);
    let begun = Instant::now();
    run(&config, PLENTY, async |_| answered(200)).await.unwrap();
    // 22 probes, 10 ms apart; the first at once.
    assert!(begun.elapsed() >= Duration::from_millis(200));
}
