//! Strategies side by side.

use rollout::simulate::{Alarm, Comparison, Phase, Row, Watch, exact};
use rollout::smoke;
use rollout::traffic::TrafficRouting;

use crate::simulate::{alarm, judge, scenario};

/// Side by side: what has a formula is the formula's, the rest is in the published table, and a
/// smoke test multiplies what it lets pass.
#[test]
fn every_strategy_side_by_side() {
    let comparison = Comparison {
        runs: 500,
        good_runs: 300,
        ..Comparison::of(20.0, 0.001, 0.02, alarm(), &judge(60.0, 70.0))
    };
    let rows = comparison.rows().expect("valid");
    assert_eq!(rows.len(), 15);
    for row in &rows {
        let shares: f64 = row.distribution.iter().map(|bin| bin.share).sum();
        assert!((shares - 1.0).abs() < 1e-9, "{row:?}");
        let holds = |n: f64| {
            let mut bins = row.distribution.iter();
            bins.any(|bin| (bin.from..bin.to).contains(&n))
        };
        assert!(
            holds(row.bad.failures.q50) && holds(row.bad.failures.q95),
            "{row:?}"
        );
    }
    let row = |strategy: &str, watch: &str| {
        let found = rows
            .iter()
            .find(|row| row.strategy == strategy && row.watch == watch);
        found.expect("there")
    };
    let canary = row("Canary10Percent5Minutes", "alarm");
    let formula = exact(&scenario(TrafficRouting::canary(10, 5), 0.02)).expect("valid");
    assert_eq!(
        canary.bad.failures.mean.to_bits(),
        formula.expected_failures.to_bits()
    );
    assert_eq!(canary.bad.p_rollback.to_bits(), formula.p_detect.to_bits());
    assert_eq!((canary.good_runs, canary.bad_refused), (None, None));
    assert!((canary.t_full_s - 300.0).abs() < 1e-9);
    let judged = row("Linear10PercentEvery3Minutes", "judge");
    assert!((judged.bad.failures.mean - 14.0).abs() < 2.0, "{judged:?}");
    assert!(
        judged.good_rollback <= 0.01 && judged.good_runs == Some(300),
        "{judged:?}"
    );
    let written = serde_json::to_string(&rows).expect("writes");
    let read: Vec<Row> = serde_json::from_str(&written).expect("reads");
    assert_eq!(read.len(), rows.len());

    let guarded = Comparison {
        p_green: 0.2,
        strategies: vec![("canary".to_owned(), TrafficRouting::canary(10, 5))],
        watches: vec![Watch {
            name: "hook".to_owned(),
            alarm: Some(alarm()),
            judge: None,
            smoke: Some(smoke::Config::default()),
        }],
        ..comparison
    };
    let rows = guarded.rows().expect("valid");
    let characteristic = |p| smoke::characteristic(&smoke::Config::default(), p).expect("valid");
    let refused = rows[0].bad_refused.expect("a smoke test");
    assert!((refused - (1.0 - characteristic(0.2).pass)).abs() < 1e-12);
    let refused = rows[0].good_refused.expect("a smoke test");
    assert!((refused - (1.0 - characteristic(0.001).pass)).abs() < 1e-12);
    assert!(rows[0].bad.failures.q95 < 1.0, "{:?}", rows[0]);
    // Where the alarm has no formula that ends, chance takes over.
    let long = Comparison {
        watches: vec![Watch {
            name: "alarm".to_owned(),
            alarm: Some(Alarm {
                datapoints: 32,
                evaluation_periods: 64,
                phase: Phase::At(0.0),
                ..alarm()
            }),
            judge: None,
            smoke: None,
        }],
        bake_minutes: 120.0,
        runs: 20,
        good_runs: 20,
        ..guarded
    };
    assert_eq!(long.rows().expect("valid")[0].good_runs, Some(20));
}
