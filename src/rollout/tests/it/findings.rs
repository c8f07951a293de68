//! What is wrong with a plan; every mend is applied, and must mend.

use std::time::Duration;

use rollout::alarm::{Comparison, Definition, MissingData, Statistic};
use rollout::timeline::{CannotFire, Finding, Plan, Severity, Traffic, Watched, findings};
use rollout::traffic::TrafficRouting;

use crate::timeline::{DEAD, FAILURES, GROUPS, alarm, metric, plan};

fn lint(change: impl Fn(&mut Plan)) -> Vec<Finding> {
    let mut plan = plan();
    change(&mut plan);
    findings(&plan).expect("a valid plan")
}

/// A change of all alarms on failures.
fn failures(plan: &mut Plan, change: impl Fn(&mut Definition)) {
    for watched in &mut plan.alarms {
        if watched.definition.metric.name == FAILURES {
            change(&mut watched.definition);
        }
    }
}

#[test]
fn a_plan_without_a_fault_has_no_findings() {
    assert_eq!(lint(|_| {}), []);
    // Nor do the predefined linear shifts, nor all at once.
    for name in TrafficRouting::predefined_names() {
        let routing = TrafficRouting::predefined(name).expect("predefined");
        assert_eq!(lint(|plan| plan.spec.routing = routing), [], "{name}");
    }
    // Unknown traffic: what depends on it is not claimed.
    assert_eq!(lint(|plan| plan.traffic = None), []);
}

#[test]
fn an_alarm_that_cannot_fire_in_time() {
    // Five periods in a row, and 70 s of delays: 241 s + 70 s at best, the canary is 300 s.
    let slow = |definition: &mut Definition| {
        definition.evaluation_periods = 5;
        definition.datapoints_to_alarm = 0;
    };
    let found = lint(|plan| failures(plan, slow));
    assert_eq!(found.len(), 2);
    let Finding::CannotFire {
        why: CannotFire::TooSlow {
            earliest: Some(earliest),
            ..
        },
        ..
    } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert_eq!(*earliest, Duration::from_secs(240 + 1 + 70));
    assert_eq!(found[0].severity(), Severity::Error);
    // In unknown traffic, too.
    let unknown = |plan: &mut Plan| {
        plan.traffic = None;
        failures(plan, slow);
    };
    assert_eq!(lint(unknown).len(), 2);
    assert!(
        found[0].mend().ends_with("7 min or longer"),
        "{}",
        found[0].mend()
    );
    assert_eq!(
        lint(|plan| {
            failures(plan, slow);
            plan.spec.routing = TrafficRouting::canary(10, 7);
        }),
        []
    );

    // Four periods fire in time only if they lie well.
    let found = lint(|plan| {
        failures(plan, |definition| {
            definition.evaluation_periods = 4;
            definition.datapoints_to_alarm = 4;
        });
    });
    assert!(
        matches!(
            &found[..],
            [
                Finding::MayFireTooLate { .. },
                Finding::MayFireTooLate { .. }
            ]
        ),
        "{found:?}"
    );

    // 2 requests a second are 120 a minute: more than 120 failures never happen before the full
    // shift, however the version fails.
    let high = |threshold| {
        move |plan: &mut Plan| failures(plan, |definition| definition.threshold = threshold)
    };
    let found = lint(high(150.0));
    let Finding::CannotFire {
        why:
            CannotFire::TooFewRequests {
                most,
                needed,
                enough: Some(enough),
            },
        ..
    } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert!((most - 120.0).abs() < 1e-9 && (needed - 151.0).abs() < 1e-9);
    assert_eq!(lint(high(*enough)), []);
    assert!(!lint(high(enough + 1.0)).is_empty());

    // The mean of ones is one.
    let mean = |plan: &mut Plan| {
        failures(plan, |definition| definition.statistic = Statistic::Average);
    };
    assert!(matches!(
        &lint(mean)[0],
        Finding::CannotFire {
            why: CannotFire::Statistic {
                statistic: Statistic::Average
            },
            ..
        }
    ));
}

#[test]
fn an_alarm_that_looks_the_wrong_way() {
    let found = lint(|plan| {
        plan.alarms.remove(1);
    });
    let Finding::OneTargetGroup {
        watched, unwatched, ..
    } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert_eq!([watched, unwatched], [GROUPS[0], GROUPS[1]]);
    // One alarm that adds both up watches both.
    let sum = |plan: &mut Plan| {
        plan.alarms.remove(1);
        plan.alarms[0].also.push(metric(FAILURES, Some(GROUPS[1])));
    };
    assert_eq!(lint(sum), []);

    let found = lint(|plan| {
        failures(plan, |definition| {
            let name = definition.metric.name.clone();
            definition.metric = metric(&name, Some("targetgroup/other/3"));
        });
    });
    assert!(
        matches!(found[0], Finding::ForeignTargetGroup { .. }),
        "{found:?}"
    );

    let whole = |plan: &mut Plan| {
        plan.alarms.remove(1);
        plan.alarms[0].definition = alarm(FAILURES, None);
    };
    let found = lint(whole);
    assert!(
        matches!(
            found[..],
            [Finding::TestListener {
                per_target_group: true,
                ..
            }]
        ),
        "{found:?}"
    );
    // Without a test listener nothing but users trips it.
    assert_eq!(
        lint(|plan| {
            whole(plan);
            plan.spec.test_listener = false;
        }),
        []
    );
    let found = lint(|plan| {
        plan.alarms[2].definition = alarm("HTTPCode_ELB_5XX_Count", None);
    });
    assert!(
        matches!(
            found[..],
            [Finding::TestListener {
                per_target_group: false,
                ..
            }]
        ),
        "{found:?}"
    );
    assert_eq!(found[0].severity(), Severity::Note);
    assert_eq!(
        lint(|plan| {
            plan.alarms.remove(2);
        }),
        [Finding::DeadGreenUnseen]
    );
    let no_rollback = lint(|plan| plan.spec.auto_rollback.on_alarm = false);
    assert_eq!(no_rollback, [Finding::StopsWithoutRollback]);
}

#[test]
fn missing_data_that_hide_or_invent_trouble() {
    let treated = |treatment, periods| {
        let found = lint(|plan| {
            plan.alarms.truncate(2);
            plan.alarms.push(alarm(DEAD, None).into());
            failures(plan, |definition| {
                definition.treat_missing_data = treatment;
                definition.evaluation_periods = periods;
                definition.datapoints_to_alarm = periods;
            });
        });
        found
            .iter()
            .map(|finding| match finding {
                Finding::MissingData { fault, .. } => format!("{fault:?}"),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(treated(MissingData::NotBreaching, 2), [""; 0]);
    assert_eq!(treated(MissingData::Missing, 1), [""; 0]);
    assert_eq!(
        treated(MissingData::Missing, 2),
        ["OneBadPeriodIsEnough"; 2]
    );
    assert_eq!(
        treated(MissingData::Breaching, 1),
        ["RedWithoutFailures"; 2]
    );
    assert_eq!(treated(MissingData::Ignore, 1), ["KeepsItsState"; 2]);

    let hosts = |treatment| {
        lint(|plan| {
            plan.alarms.extend(GROUPS.map(|group| {
                Watched::from(Definition {
                    comparison: Comparison::LessThanThreshold,
                    threshold: 1.0,
                    treat_missing_data: treatment,
                    ..alarm("HealthyHostCount", Some(group))
                })
            }));
        })
    };
    assert_eq!(hosts(MissingData::Breaching), []);
    assert_eq!(hosts(MissingData::NotBreaching).len(), 2);
}

#[test]
fn a_threshold_that_a_good_version_trips() {
    // Blue fails 1.2 times a minute at 20 requests a second.
    let threshold = |threshold| {
        move |plan: &mut Plan| failures(plan, |definition| definition.threshold = threshold)
    };
    let found = lint(threshold(2.0));
    let Finding::GoodVersionTrips {
        probability,
        enough: Some(enough),
        ..
    } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert!((0.3..1.0).contains(probability), "{found:?}");
    assert_eq!(lint(threshold(*enough)), []);
    assert!(!lint(threshold(enough - 1.0)).is_empty());
    // `>= 3` is `> 2`.
    let found = lint(|plan| {
        failures(plan, |definition| {
            definition.threshold = 3.0;
            definition.comparison = Comparison::GreaterThanOrEqualToThreshold;
        });
    });
    let Finding::GoodVersionTrips {
        probability: same,
        enough: Some(more),
        ..
    } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert!((probability - same).abs() < 1e-12 && (enough + 1.0 - more).abs() < 1e-9);
    // An alarm on both sides, one of one above 3: 0.48 over 15 minutes of bake time (a published
    // figure).
    let found = lint(|plan| {
        plan.spec.termination_wait = Duration::from_mins(15);
        plan.spec.test_listener = false;
        plan.alarms.remove(1);
        plan.alarms[0].definition = Definition {
            threshold: 3.0,
            ..alarm(FAILURES, None)
        };
    });
    let Finding::GoodVersionTrips {
        probability,
        side: None,
        ..
    } = &found[0]
    else {
        panic!("{found:?}");
    };
    assert!((probability - 0.48).abs() < 0.006, "{probability}");
}

#[test]
fn a_canary_that_is_too_short_for_the_judge() {
    let slow = |plan: &mut Plan| {
        plan.traffic = Some(Traffic::of(5.0));
        plan.alarms.clear();
        plan.spec.alarms.names.clear();
    };
    let found = lint(slow);
    let Finding::CanaryTooShort {
        minutes: Some(minutes),
        percent: Some(percent),
        ..
    } = found[0]
    else {
        panic!("{found:?}");
    };
    let with = |percent, minutes| {
        lint(|plan| {
            slow(plan);
            plan.spec.routing = TrafficRouting::canary(percent, minutes);
        })
    };
    assert_eq!(with(10, minutes), []);
    assert!(!with(10, minutes - 1).is_empty());
    assert_eq!(with(percent, 5), []);
    assert!(!with(percent - 1, 5).is_empty());
    let all_at_once = |plan: &mut Plan| {
        plan.spec.routing = TrafficRouting::AllAtOnce;
        if let Some(judge) = &mut plan.judge {
            judge.config.objective = None;
        }
    };
    assert_eq!(lint(all_at_once), [Finding::NoVerdict]);
}

/// Everything that is said, as it is said.
#[test]
fn findings_in_words() {
    let found = lint(|plan| {
        plan.traffic = Some(Traffic::of(2.0));
        plan.spec.auto_rollback.on_alarm = false;
        plan.alarms = vec![
            Definition {
                evaluation_periods: 5,
                datapoints_to_alarm: 5,
                ..alarm("five-in-a-row", None)
            },
            alarm(FAILURES, Some(GROUPS[1])),
            Definition {
                name: "whole".to_owned(),
                threshold: 0.0,
                treat_missing_data: MissingData::Breaching,
                ..alarm(FAILURES, None)
            },
            Definition {
                name: "mean".to_owned(),
                statistic: Statistic::Average,
                treat_missing_data: MissingData::Ignore,
                ..alarm("HTTPCode_ELB_503_Count", None)
            },
            Definition {
                name: "high".to_owned(),
                threshold: 20.0,
                ..alarm("TargetConnectionErrorCount", Some("targetgroup/none/9"))
            },
        ]
        .into_iter()
        .map(Watched::from)
        .collect();
    });
    let said: Vec<_> = found
        .iter()
        .map(|finding| {
            format!(
                "{:?}: {finding}\n  mend: {}",
                finding.severity(),
                finding.mend()
            )
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    Error: alarm five-in-a-row cannot fire within the canary of 5 min: its periods and delays take 5.2 min even if every request fails
      mend: ask for fewer or shorter periods, or let the interval be 7 min or longer
    Error: alarm HTTPCode_Target_5XX_Count of targetgroup/shop-b/2 watches targetgroup/shop-b/2 alone: the pair swaps its roles at every release, and half of the time green is targetgroup/shop-a/1
      mend: add the same alarm on targetgroup/shop-a/1, or sum both groups by metric math
    Error: alarm whole treats missing data as breaching: the metric is published only when something fails, so the alarm is red while nothing does
      mend: set TreatMissingData to notBreaching
    Error: alarm mean cannot fire within the canary of 5 min: the Average of a count of single failures never exceeds 1
      mend: set the statistic to Sum
    Error: alarm high cannot fire within the canary of 5 min: it needs 21 failures a period, and green has at most 12 requests in one
      mend: lower the threshold to 11, or give green a greater share
    Error: alarm high watches targetgroup/none/9, which is no target group of this deployment
      mend: set the dimension TargetGroup to a group of the pair, and add an alarm on the other
    Error: an alarm stops the deployment, but traffic stays where it is: the group does not roll back on alarms
      mend: add DEPLOYMENT_STOP_ON_ALARM to the events of autoRollbackConfiguration
    Warning: alarm whole counts HTTPCode_Target_5XX_Count of the whole load balancer: requests to the test listener trip it, too
      mend: add the dimension TargetGroup: one alarm on each group of the pair
    Warning: alarm whole (threshold 0) stops 65 % of the releases of a version without a fault: at 2 requests a second 0.1 % fail when all is well, and on both sides together they trip it
      mend: raise the threshold to 2, or ask for more periods in a row
    Warning: alarm mean treats missing data as ignore: the metric is published only when something fails, so the alarm stays red when that has ended, and stops the next release
      mend: set TreatMissingData to notBreaching
    Warning: the judge cannot find a version that fails 2 % of requests within the canary of 5 min, at 2 requests a second: it takes longer than the release
      mend: let the interval be 21 min or longer
    Note: alarm mean counts HTTPCode_ELB_503_Count of the whole load balancer: requests to the test listener trip it, too
      mend: watch HTTPCode_ELB_502_Count and HTTPCode_ELB_504_Count, which a request to an empty test target group (503) does not raise
    ");
}
