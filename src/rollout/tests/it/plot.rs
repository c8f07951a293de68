//! The pictures: the same bytes for the same data, and well-formed for any.

use rollout::Timestamp;
use rollout::judge::trial::Trial;
use rollout::judge::{Batch, Config, Decision, Judge, Side, Total};
use rollout::plot::{
    Evidence, History, Marked, Moment, Rates, Served, blast_radius, evidence, rates, trade_off,
};
use rollout::simulate::{Alarm, Comparison, JudgeDetector, Phase, Row, Scope};

/// A release of a version that fails 2 %: 10 % of the traffic for five minutes, then all.
struct Played {
    moments: Vec<Moment>,
    served: Vec<Served>,
    verdict: Option<Marked>,
}

fn played() -> Played {
    let mut judge = Judge::new(Config::default()).expect("valid");
    let mut played = Played {
        moments: Vec::new(),
        served: Vec::new(),
        verdict: None,
    };
    let failing = [1, 3, 0, 2, 4, 2, 5, 1, 3, 2, 4, 3];
    for (index, x) in (0_u32..).zip(failing) {
        let at = f64::from(30 * (index + 1));
        let full = index >= 10;
        let (blue, green) = if full {
            (Side::default(), Side::new(600, 10 * x))
        } else {
            (Side::new(540, x % 2), Side::new(60, x))
        };
        let total = |side: &Side| Total {
            requests: side.requests.unsigned_abs(),
            errors: side.errors.unsigned_abs(),
        };
        played.served.push(Served {
            at,
            baseline: total(&blue),
            candidate: total(&green),
        });
        let judgement = judge.observe(&Batch::new(blue, green)).expect("possible");
        played.moments.push(Moment {
            at,
            log_e: judge.log_e(),
        });
        if judgement.decision == Decision::Abort && played.verdict.is_none() {
            played.verdict = Some(Marked {
                at,
                decision: Decision::Abort,
            });
        }
    }
    played
}

fn rows() -> Vec<Row> {
    let alarm = Alarm {
        threshold: 10.0,
        period: 60.0,
        datapoints: 2,
        evaluation_periods: 2,
        scope: Scope::Green,
        metric_delay: 60.0,
        poll_delay: 10.0,
        phase: Phase::Uniform,
    };
    let judge = JudgeDetector {
        batch_seconds: 60.0,
        delay: 70.0,
        config: Config::default(),
    };
    Comparison {
        runs: 400,
        good_runs: 200,
        ..Comparison::of(20.0, 0.001, 0.02, alarm, &judge)
    }
    .rows()
    .expect("valid")
}

/// Every element is closed, in order, and every text escaped: what an XML parser would check.
fn well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>'), "{}", &rest[..start]);
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{svg}");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
    for wrong in ["NaN", "inf", "-0\""] {
        assert!(!svg.contains(wrong), "{wrong} in {svg}");
    }
}

#[test]
fn the_evidence() {
    let played = played();
    let config = Config::default();
    let svg = evidence(&Evidence {
        moments: &played.moments,
        config: &config,
        weights: &[(0.0, 10.0), (300.0, 100.0)],
        verdict: played.verdict,
    });
    well_formed(&svg);
    insta::assert_snapshot!(svg);
}

#[test]
fn the_rates() {
    let svg = rates(&Rates {
        batches: &played().served,
        objective: Some(0.01),
    });
    well_formed(&svg);
    insta::assert_snapshot!(svg);
}

#[test]
fn the_blast_radius_and_the_trade_off() {
    let rows = rows();
    let svg = blast_radius(&rows);
    well_formed(&svg);
    insta::assert_snapshot!("the_blast_radius", svg);
    let svg = trade_off(&rows);
    well_formed(&svg);
    insta::assert_snapshot!("the_trade_off", svg);
}

/// What a release program keeps of its trial gives the same pictures.
#[test]
fn a_trial_is_drawn_from_its_history() {
    let played = played();
    let mut trial = Trial::new(Config::default()).expect("valid");
    let origin = Timestamp::from_secs(1_800_000_000);
    let mut history = History::new(origin);
    let side = |total: Total| {
        let whole = |n: u64| i64::try_from(n).expect("small");
        Side::new(whole(total.requests), whole(total.errors))
    };
    for (index, served) in (0_u64..).zip(&played.served) {
        let start = Timestamp::from_secs(1_800_000_000 + 30 * index);
        let end = Timestamp::from_secs(1_800_000_030 + 30 * index);
        let percent = if index < 10 { 10 } else { 100 };
        trial.weight_changed(start, percent);
        history.weight(start, percent);
        let batch = Batch::new(side(served.baseline), side(served.candidate));
        for judged in trial.period(start, end, batch).expect("heard") {
            history.push(&judged, trial.judge());
        }
    }
    let config = Config::default();
    let direct = evidence(&Evidence {
        moments: &played.moments,
        config: &config,
        weights: &[(0.0, 10.0), (300.0, 100.0)],
        verdict: played.verdict,
    });
    assert_eq!(history.evidence(trial.judge()), direct);
    let direct = rates(&Rates {
        batches: &played.served,
        objective: Some(0.01),
    });
    assert_eq!(history.rates(trial.judge()), direct);
    let saved = serde_json::to_string(&history).expect("writes");
    let read: History = serde_json::from_str(&saved).expect("reads");
    assert_eq!(read.rates(trial.judge()), direct);
}

#[test]
fn nothing_to_draw_is_drawn_as_nothing() {
    let config = Config::default();
    well_formed(&evidence(&Evidence {
        moments: &[],
        config: &config,
        weights: &[],
        verdict: None,
    }));
    well_formed(&rates(&Rates {
        batches: &[Served::default()],
        objective: None,
    }));
    well_formed(&blast_radius(&[]));
    well_formed(&trade_off(&[]));
    let mut rows = rows();
    rows.truncate(1);
    rows[0].strategy = "<10 % & \"slow\">".to_owned();
    let svg = trade_off(&rows);
    well_formed(&svg);
    assert!(svg.contains("&lt;10 % &amp; &quot;slow&quot;&gt;"));
}
