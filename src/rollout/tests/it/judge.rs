//! The judge as a release program uses it: saved and read back in the middle, fed with
//! nonsense, and told of versions that are equal.

use proptest::prelude::*;
use rollout::Timestamp;
use rollout::judge::{
    Batch, BoundedHistogram, Config, ConfigError, Decision, Histogram, Judge, Latency, Reason,
    RefusedBatch, ResumeError, Side, Status,
};
use rollout::simulate::sample::{Poisson, Source, binomial};
use serde_json::json;

fn with_latency() -> Config {
    Config {
        latency: Some(Latency {
            bounds_ms: vec![10.0, 100.0, 1000.0],
            window: 4,
            required_for_pass: false,
            ..Latency::default()
        }),
        ..Config::default()
    }
}

/// A batch with everything in it, from a handful of small numbers.
fn batch([n_b, x_b, n_c, x_c]: [i64; 4], buckets: [i64; 4]) -> Batch {
    let side = |requests: i64, errors: i64, scale| Side {
        requests,
        errors: errors.min(requests),
        latency: Some(Histogram::Counts(buckets.map(|n| n * scale).to_vec())),
    };
    Batch::new(side(n_b, x_b, 3), side(n_c, x_c, 1))
}

proptest! {
    /// A judge that is written down and read back at any moment decides as if it had not been:
    /// to the last bit, for any future.
    #[test]
    fn a_saved_judge_has_the_same_future(
        polls in proptest::collection::vec(
            (proptest::array::uniform4(0..400_i64), proptest::array::uniform4(0..50_i64)), 2..30),
        cut in 0..29_usize,
    ) {
        let mut judge = Judge::new(with_latency()).expect("valid");
        let mut resumed = None;
        for (index, (counts, buckets)) in polls.iter().enumerate() {
            if index == cut % polls.len() {
                let saved = serde_json::to_string(&judge).expect("writes");
                let read: Judge = serde_json::from_str(&saved).expect("reads");
                prop_assert_eq!(&read, &judge);
                resumed = Some(read.resumed_under(&with_latency()).expect("the same configuration"));
            }
            let batch = batch(*counts, *buckets);
            let judgement = judge.observe(&batch);
            if let Some(resumed) = &mut resumed {
                prop_assert_eq!(&resumed.observe(&batch), &judgement);
                prop_assert_eq!(&*resumed, &judge);
            }
        }
        prop_assert!(resumed.is_some());
    }

    /// Whatever comes, every process stays a number, evidence never falls below what the onset
    /// mixture guarantees, and a decision once taken stays.
    #[test]
    fn no_counts_break_it(
        counts in proptest::collection::vec(
            proptest::array::uniform4(prop_oneof![
                0..20_i64, 0..100_000_i64, Just(-1), Just(i64::MAX), Just(i64::MIN), Just(1_000_000)
            ]), 1..12),
    ) {
        let mut judge = Judge::new(Config::default()).expect("valid");
        let mut latched = Decision::Continue;
        for [n_b, x_b, n_c, x_c] in counts {
            let before = judge.clone();
            let batch = Batch::new(Side::new(n_b, x_b), Side::new(n_c, x_c));
            let possible = [(n_b, x_b), (n_c, x_c)]
                .into_iter()
                .all(|(n, x)| (0..=1_000_000_000).contains(&n) && (0..=n).contains(&x));
            if let Ok(judgement) = judge.observe(&batch) {
                prop_assert!(possible);
                prop_assert!(latched == Decision::Continue || judgement.decision == latched);
                latched = judgement.decision;
            } else {
                prop_assert!(!possible);
                prop_assert_eq!(&judge, &before);
            }
            let log_e = judge.log_e();
            let t = 2.0 * f64::from(u32::try_from(judge.batches().max(1)).expect("few"));
            for value in [Some(log_e.relative), log_e.objective, log_e.objective_baseline] {
                let value = value.expect("on");
                prop_assert!(value.is_finite() && value >= -t.ln() - 1e-9, "{}", value);
            }
            prop_assert!(log_e.pass_relative.is_finite());
            prop_assert!(log_e.pass_objective.is_some_and(f64::is_finite));
        }
    }

    /// Green no worse than blue in a batch, by the counts themselves, never speaks for ABORT
    /// more than a single request's luck.
    #[test]
    fn equal_shares_are_no_evidence(n in 1..2000_i64, share in 0..100_i64, batches in 1..20_u32) {
        let mut judge = Judge::new(Config { objective: None, ..Config::default() }).expect("valid");
        let x = n * share / 100;
        for _ in 0..batches {
            judge.observe(&Batch::new(Side::new(9 * n, 9 * x), Side::new(n, x))).expect("possible");
        }
        prop_assert!(judge.log_e().relative < 1e-9);
        prop_assert_ne!(judge.decision(), Decision::Abort);
    }
}

#[test]
fn impossible_batches_are_refused_whole_and_change_nothing() {
    let mut judge = Judge::new(with_latency()).expect("valid");
    judge
        .observe(&batch([90, 1, 10, 0], [5, 20, 3, 1]))
        .expect("possible");
    let before = judge.clone();
    let good = || Side::new(100, 1);
    let histogram = |latency| Side {
        latency: Some(latency),
        ..good()
    };
    let counts = |counts: &[i64]| histogram(Histogram::Counts(counts.to_vec()));
    let bounded = |bounds_ms: &[f64]| {
        histogram(Histogram::Bounded(BoundedHistogram {
            bounds_ms: bounds_ms.to_vec(),
            counts: vec![1; 4],
        }))
    };
    let cases = [
        (Side::new(10, 11), "fails 11 of 10"),
        (Side::new(-1, 0), "counts -1"),
        (Side::new(10, -1), "counts -1"),
        (Side::new(i64::MAX, 0), "taken for a mistake"),
        (counts(&[1, 2, 3]), "other bounds"),
        (counts(&[1, 2, 3, -4]), "counts -4"),
        (counts(&[1_000_000_000; 4]), "taken for a mistake"),
        (bounded(&[10.0, 100.0, 2000.0]), "other bounds"),
        (bounded(&[10.0, f64::NAN, 1000.0]), "other bounds"),
    ];
    for (bad, words) in cases {
        for batch in [Batch::new(good(), bad.clone()), Batch::new(bad, good())] {
            let error = judge.observe(&batch).expect_err("refused").to_string();
            assert!(error.contains(words), "{error}");
            assert_eq!(judge, before);
        }
    }
    assert!(judge.remember_latency(&Histogram::Counts(vec![1])).is_err());
    assert_eq!(judge, before);
    // The configuration's own bounds, said aloud, are welcome.
    judge
        .observe(&Batch::new(good(), bounded(&[10.0, 100.0, 1000.0])))
        .expect("the same bounds");
}

#[test]
fn configurations_without_a_meaning_are_refused() {
    type Change = fn(&mut Config);
    fn latency(config: &mut Config) -> &mut Latency {
        config.latency.get_or_insert_default()
    }
    let cases: [(Change, &str); 24] = [
        (|c| c.objective = Some(0.0), "an objective of 0 "),
        (|c| c.objective = Some(1.0), "an objective of 1 "),
        (|c| c.objective = Some(-0.1), "an objective of -0.1"),
        (|c| c.objective = Some(f64::NAN), "an objective of NaN"),
        (|c| c.alpha.relative = 0.0, "alpha.relative = 0"),
        (|c| c.alpha.objective = 1.0, "alpha.objective = 1"),
        (|c| c.alpha.latency = f64::NAN, "alpha.latency = NaN"),
        (|c| c.beta.relative = -1.0, "beta.relative = -1"),
        (|c| c.beta.objective = 2.0, "beta.objective = 2"),
        (|c| c.beta.latency = f64::INFINITY, "beta.latency = inf"),
        (|c| c.multipliers.clear(), "0 multipliers"),
        (|c| c.multipliers = vec![2.0; 101], "101 multipliers"),
        (|c| c.multipliers.push(1.0), "1 is not an odds ratio"),
        (|c| c.multipliers.push(f64::NAN), "NaN is not an odds ratio"),
        (
            |c| c.multipliers.push(f64::INFINITY),
            "inf is not an odds ratio",
        ),
        (|c| c.relative_margin = 0.9, "relative_margin = 0.9"),
        (|c| c.pass_margin = f64::NAN, "pass_margin = NaN"),
        (|c| c.temper = 0.0, "temper = 0"),
        (|c| c.temper = 1.1, "temper = 1.1"),
        (|c| latency(c).bounds_ms = vec![10.0, 10.0], "bounds"),
        (|c| latency(c).bounds_ms = vec![-10.0, 10.0], "bounds"),
        (
            |c| latency(c).quantiles_permille = vec![500, 1000],
            "latency.quantiles_permille",
        ),
        (
            |c| latency(c).pass_quantiles_permille = vec![],
            "latency.pass_quantiles_permille",
        ),
        (|c| latency(c).window = 0, "latency.window = 0"),
    ];
    for (change, words) in cases {
        let mut config = Config::default();
        change(&mut config);
        let error: ConfigError = Judge::new(config).expect_err("refused");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_state_that_was_tampered_with_is_refused() {
    let mut judge = Judge::new(with_latency()).expect("valid");
    for _ in 0..3 {
        judge
            .observe(&batch([90, 1, 10, 0], [5, 20, 3, 1]))
            .expect("possible");
    }
    let saved = serde_json::to_value(&judge).expect("writes");
    let refused = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut saved = saved.clone();
        change(&mut saved);
        serde_json::from_value::<Judge>(saved)
            .expect_err("refused")
            .to_string()
    };
    let fit = "does not fit";
    assert!(refused(&|s| s["state"]["relative"]["log_a"] = json!([])).contains(fit));
    assert!(refused(&|s| s["state"]["relative"]["log_e"] = json!("NaN")).contains(fit));
    assert!(refused(&|s| s["state"]["objective"] = json!(null)).contains(fit));
    assert!(refused(&|s| s["state"]["latency"]["history"][0] = json!([1])).contains(fit));
    assert!(refused(&|s| s["config"]["latency"]["bounds_ms"] = json!([1, 2])).contains(fit));
    assert!(refused(&|s| s["config"]["objective"] = json!(1)).contains("an objective of 1 "));
    assert!(refused(&|s| s["state"]["more"] = json!(1)).contains("unknown field"));

    let other = Config {
        latency: Some(Latency::default()),
        ..with_latency()
    };
    assert_eq!(judge.resumed_under(&other), Err(ResumeError::OtherConfig));
}

#[test]
fn every_interval_counts_once() {
    let mut judge = Judge::new(Config::default()).expect("valid");
    let batch = Batch::new(Side::new(90, 0), Side::new(10, 0));
    let at = Timestamp::from_secs;
    judge.observe_until(at(60), &batch).expect("new");
    let before = judge.clone();
    for end in [60, 59] {
        let again = judge.observe_until(at(end), &batch);
        assert!(
            matches!(again, Err(RefusedBatch::Repeated { .. })),
            "{again:?}"
        );
        assert_eq!(judge, before);
    }
    // A refused batch does not use its interval up: it may come again, corrected.
    let bad = Batch::new(Side::new(90, 91), Side::new(10, 0));
    assert!(judge.observe_until(at(120), &bad).is_err());
    judge.observe_until(at(120), &batch).expect("new");
    assert_eq!(judge.judged_until(), Some(at(120)));
    assert_eq!(judge.baseline().requests, 180);
}

#[test]
fn missing_data_decide_nothing() {
    // Both sides miss the objective; the guard holds, and an empty poll must not lift it.
    let mut judge = Judge::new(Config::default()).expect("valid");
    for _ in 0..10 {
        let judgement = judge
            .observe(&Batch::new(Side::new(900, 90), Side::new(100, 10)))
            .expect("possible");
        assert_eq!(judgement.abort, []);
    }
    let judgement = judge
        .observe(&Batch::default())
        .expect("nothing is possible");
    assert_eq!((judgement.status, judgement.abort), (Status::Empty, vec![]));
    // (Green is no worse than blue, and that was said.)
    assert_eq!(judgement.decision, Decision::Pass);
    // With blue's traffic gone green stands alone.
    let alone = Batch {
        baseline: None,
        candidate: Some(Side::new(100, 10)),
    };
    let judgement = judge.observe(&alone).expect("possible");
    assert_eq!(judgement.abort, [Reason::Objective]);
}

#[test]
fn an_abort_after_a_pass_is_told() {
    let mut judge = Judge::new(Config::default()).expect("valid");
    while judge.decision() == Decision::Continue {
        judge
            .observe(&Batch::new(Side::new(540, 0), Side::new(60, 0)))
            .expect("possible");
    }
    assert_eq!(judge.decision(), Decision::Pass);
    let passed = judge.evidence().to_string();
    assert!(
        passed.starts_with("green fails 0 of 480, blue 0 of 4320; chance"),
        "{passed}"
    );
    let judgement = judge
        .observe(&Batch::new(Side::new(540, 0), Side::new(60, 50)))
        .expect("possible");
    assert_eq!(judgement.decision, Decision::Pass, "the verdict is latched");
    assert_eq!(judgement.abort, [Reason::Relative, Reason::Objective]);
    assert_eq!(judge.abort().map(|verdict| verdict.at_batch), Some(9));
    assert_eq!(judge.evidence().decision, Decision::Abort);
    assert_eq!(judge.standing(), Decision::Abort);
    assert!(judge.evidence().p_value() < 1e-9);
}

#[test]
fn the_evidence_in_plain_words() {
    let sentence = |config: Config, batches: &[Batch]| {
        let mut judge = Judge::new(config).expect("valid");
        for batch in batches {
            judge.observe(batch).expect("possible");
        }
        judge.evidence().to_string()
    };
    let one = |n_b, x_b, n_c, x_c| [Batch::new(Side::new(n_b, x_b), Side::new(n_c, x_c))];
    let margin = Config {
        relative_margin: 1.5,
        ..Config::default()
    };
    let relative_only = || Config {
        objective: None,
        ..Config::default()
    };
    let slow = Config {
        objective: None,
        ..with_latency()
    };
    let slower = Batch {
        candidate: Some(Side {
            latency: Some(Histogram::Counts(vec![0, 10, 80, 10])),
            ..Side::new(100, 0)
        }),
        ..batch([900, 0, 0, 0], [100, 190, 10, 0])
    };
    let said = [
        sentence(Config::default(), &one(830, 0, 92, 74)),
        sentence(margin, &one(900, 5, 100, 9)),
        sentence(Config::default(), &one(0, 0, 100, 12)),
        sentence(relative_only(), &one(900, 5, 100, 9)),
        sentence(Config::default(), &one(900, 5, 100, 1)),
        sentence(Config::default(), &[]),
        sentence(Config::default(), &one(9000, 0, 1000, 0)),
        sentence(relative_only(), &one(9000, 450, 1000, 40)),
        sentence(slow, &[slower.clone(), slower]),
    ];
    insta::assert_snapshot!(said.join("\n"), @r"
    green fails 74 of 92, blue 0 of 830; chance of such evidence against an equal version below 1 in 10^89
    green fails 9 of 100, blue 5 of 900; chance of such evidence against a version of at most 1.5 times blue's odds of failing below 1 in 1308
    green fails 12 of 100, blue had no requests; chance of such evidence against a version that fails at most 1 % of requests below 1 in 10^7
    green fails 9 of 100, blue 5 of 900; chance of such evidence against an equal version below 1 in 10^4
    no evidence of harm: green fails 1 of 100, blue 5 of 900
    no evidence of harm: green had no requests, blue had no requests
    green fails 0 of 1000, blue 0 of 9000; chance of such evidence for a version that fails 1 % of requests or more below 1 in 9114
    green fails 40 of 1000, blue 450 of 9000; chance of such evidence for a version of 2 times blue's odds of failing or more below 1 in 10^7
    green fails 0 of 200, blue 0 of 1800; green is slower than blue; chance of such evidence against a version no slower than is tolerated below 1 in 10^72
    ");
}

/// How the common error level moves while two equal versions serve.
fn drift(kind: u32, batch: u32, walk: &mut f64, source: &mut Source) -> f64 {
    let t = f64::from(batch);
    match kind {
        // Up and down like a day.
        0 => 0.005 * (1.0 + 0.9 * (t / 7.0).sin()),
        // Steps: 0.2 %, an incident of 5 %, 0.4 %.
        1 => [0.002, 0.05, 0.004][usize::from(batch >= 20) + usize::from(batch >= 40)],
        // A random walk.
        2 => {
            *walk = (*walk * (0.6 * (source.uniform() - 0.5)).exp()).clamp(0.0002, 0.2);
            *walk
        }
        // Outages, out of the blue.
        _ if source.uniform() < 0.1 => 0.6,
        _ => 0.001,
    }
}

/// Equal versions, 10/90, a common level that drifts, 60 looks: false aborts in so many runs.
fn false_aborts(config: Config, runs: u32, seed: u64, level: impl Fn(f64) -> f64) -> u32 {
    let fresh = Judge::new(config).expect("valid");
    let mut source = Source::seeded(seed);
    let (blue, green) = (Poisson::new(900.0), Poisson::new(100.0));
    let mut aborts = 0;
    for run in 0..runs {
        let mut judge = fresh.clone();
        let mut walk = 0.01;
        for batch in 0..60 {
            let p = level(drift(run % 4, batch, &mut walk, &mut source));
            let side = |n: u64, source: &mut Source| {
                let x = binomial(source, n, p);
                Side::new(n.try_into().expect("small"), x.try_into().expect("small"))
            };
            let (n_b, n_c) = (blue.draw(&mut source), green.draw(&mut source));
            let batch = Batch::new(side(n_b, &mut source), side(n_c, &mut source));
            let judgement = judge.observe(&batch).expect("possible");
            if !judgement.abort.is_empty() {
                aborts += 1;
                break;
            }
        }
    }
    aborts
}

/// The promise: of 10,000 releases of a version that is equal, at 10/90 and with drift, at most
/// the promised share is ever accused. Others measured 0.0007 to 0.0020 against the
/// bound of 0.005; a judge that pools its batches or looks naively accuses nearly all of them.
#[test]
fn false_aborts_stay_within_the_promise() {
    const RUNS: u32 = 10_000;
    let relative_only = Config {
        objective: None,
        ..Config::default()
    };
    let aborts = false_aborts(relative_only, RUNS, 6, |p| p);
    println!("{aborts} false aborts in {RUNS} runs of the relative test");
    assert!(f64::from(aborts) <= 0.005 * f64::from(RUNS), "{aborts}");
    // A test that never fires would keep the promise, too: it must have some luck to resist.
    assert!(aborts > 0, "{aborts}");
}

/// The same of the default judge, for versions that meet the objective, some of them just.
#[test]
fn false_aborts_with_an_objective_stay_within_the_promise() {
    const RUNS: u32 = 10_000;
    let aborts = false_aborts(Config::default(), RUNS, 7, |p| p.min(0.01));
    println!("{aborts} false aborts in {RUNS} runs of the default judge");
    assert!(f64::from(aborts) <= 0.0075 * f64::from(RUNS), "{aborts}");
    assert!(aborts > 0, "{aborts}");
}
