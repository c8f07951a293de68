use super::*;

use State::{Alarm, InsufficientData, Ok as Fine};

/// N, M and the treatment of missing data; the rest is as in the guide's tables: a data point of
/// 1 breaches, one of 0 does not.
fn definition(n: u32, m: u32, missing: MissingData) -> Definition {
    Definition {
        name: "5xx".to_owned(),
        metric: Metric {
            namespace: "AWS/ApplicationELB".to_owned(),
            name: "HTTPCode_Target_5XX_Count".to_owned(),
            dimensions: BTreeMap::new(),
        },
        statistic: Statistic::Sum,
        period: Duration::from_mins(1),
        evaluation_periods: n,
        datapoints_to_alarm: m,
        threshold: 0.0,
        comparison: Comparison::GreaterThanThreshold,
        treat_missing_data: missing,
    }
}

/// Data points as the guide draws them: `0` good, `X` breaching, `-` missing, oldest first.
fn points(drawn: &str) -> Vec<Option<f64>> {
    drawn
        .split_whitespace()
        .map(|point| match point {
            "0" => Some(0.0),
            "X" => Some(1.0),
            "-" => None,
            other => panic!("{other:?} is not a point"),
        })
        .collect()
}

const TREATMENTS: [MissingData; 4] = [
    MissingData::Missing,
    MissingData::Ignore,
    MissingData::Breaching,
    MissingData::NotBreaching,
];

/// Checks a row of a table: the states under the four treatments, in the guide's order, where
/// `None` stands for "retain the current state".
fn row(n: u32, m: u32, drawn: &str, expected: [Option<State>; 4]) {
    for (treatment, expected) in TREATMENTS.into_iter().zip(expected) {
        for previous in [Fine, Alarm, InsufficientData] {
            let found = evaluate(&definition(n, m, treatment), previous, &points(drawn)).state;
            assert_eq!(
                found,
                expected.unwrap_or(previous),
                "{m} of {n}, {drawn}, {}, after {previous}",
                treatment.as_str()
            );
        }
    }
}

#[test]
fn the_guides_table_for_3_out_of_3() {
    assert_eq!(evaluation_range(&definition(3, 3, MissingData::Missing)), 5);
    row(3, 3, "0 - X - X", [Some(Fine); 4]);
    row(3, 3, "0 - - - -", [Some(Fine); 4]);
    row(
        3,
        3,
        "- - - - -",
        [Some(InsufficientData), None, Some(Alarm), Some(Fine)],
    );
    row(3, 3, "0 X X - X", [Some(Alarm); 4]);
    row(
        3,
        3,
        "- - X - -",
        [Some(Alarm), None, Some(Alarm), Some(Fine)],
    );
}

#[test]
fn the_guides_table_for_2_out_of_3() {
    row(3, 2, "0 - X - X", [Some(Alarm); 4]);
    row(3, 2, "0 0 X 0 X", [Some(Alarm); 4]);
    row(
        3,
        2,
        "0 - X - -",
        [Some(Fine), Some(Fine), Some(Alarm), Some(Fine)],
    );
    row(
        3,
        2,
        "- - - - 0",
        [Some(Fine), Some(Fine), Some(Alarm), Some(Fine)],
    );
    row(
        3,
        2,
        "- - - X -",
        [Some(Alarm), None, Some(Alarm), Some(Fine)],
    );
}

#[test]
fn a_young_breaching_point_does_not_yet_alarm() {
    // The guide's examples for M = 3. Filled with breaching points there are three.
    row(
        3,
        3,
        "- - - - X",
        [Some(Fine), None, Some(Alarm), Some(Fine)],
    );
    row(
        3,
        3,
        "- - - X -",
        [Some(Fine), None, Some(Alarm), Some(Fine)],
    );
    row(
        3,
        3,
        "- - - X 0",
        [Some(Fine), Some(Fine), Some(Fine), Some(Fine)],
    );
    row(
        3,
        3,
        "- - X - 0",
        [Some(Fine), Some(Fine), Some(Fine), Some(Fine)],
    );
}

#[test]
fn enough_breaching_points_alarm_under_every_treatment() {
    row(3, 1, "- - - - X", [Some(Alarm); 4]);
    row(3, 1, "0 - - - X", [Some(Alarm); 4]);
    row(5, 2, "- - - - - X X", [Some(Alarm); 4]);
}

#[test]
fn one_bad_minute_of_a_sparse_metric_lasts_for_the_whole_range() {
    // N = 1: the range is 3, and the last real point decides alone.
    assert_eq!(
        evaluation_range(&definition(1, 1, MissingData::NotBreaching)),
        3
    );
    row(1, 1, "- - X", [Some(Alarm); 4]);
    row(1, 1, "- X -", [Some(Alarm); 4]);
    row(1, 1, "X - -", [Some(Alarm); 4]);
    row(
        1,
        1,
        "- - -",
        [Some(InsufficientData), None, Some(Alarm), Some(Fine)],
    );
    row(1, 1, "X - 0", [Some(Fine); 4]);
}

#[test]
fn only_the_range_counts_and_a_short_one_is_filled_with_missing_points() {
    row(
        1,
        1,
        "X - - -",
        [Some(InsufficientData), None, Some(Alarm), Some(Fine)],
    );
    row(3, 3, "X X X X 0 0 0", [Some(Fine); 4]);
    row(
        3,
        3,
        "",
        [Some(InsufficientData), None, Some(Alarm), Some(Fine)],
    );
    row(3, 3, "X X X", [Some(Alarm); 4]);
    row(3, 3, "0", [Some(Fine); 4]);
}

#[test]
fn nonsense_counts_are_the_nearest_sense() {
    row(0, 0, "X", [Some(Alarm); 4]);
    row(3, 0, "0 X X", [Some(Fine); 4]);
    row(2, 9, "X X", [Some(Alarm); 4]);
    row(2, 9, "0 X", [Some(Fine); 4]);
    let definition = definition(u32::MAX, 1, MissingData::Breaching);
    assert_eq!(evaluate(&definition, Fine, &[None]).state, Alarm);
}

#[test]
fn a_point_that_is_not_a_number_is_missing() {
    let nan = [Some(f64::NAN)];
    let found = evaluate(&definition(1, 1, MissingData::Missing), Fine, &nan);
    assert_eq!((found.state, found.value), (InsufficientData, None));
}

#[test]
fn operators_compare_as_they_are_named() {
    use Comparison as C;
    let table = [
        (C::GreaterThanOrEqualToThreshold, [false, true, true]),
        (C::GreaterThanThreshold, [false, false, true]),
        (C::LessThanThreshold, [true, false, false]),
        (C::LessThanOrEqualToThreshold, [true, true, false]),
    ];
    for (comparison, expected) in table {
        let found = [9.0, 10.0, 11.0].map(|value| comparison.breaches(value, 10.0));
        assert_eq!(found, expected, "{}", comparison.as_str());
        assert!(
            !comparison.breaches(f64::NAN, 10.0),
            "{}",
            comparison.as_str()
        );
        let alarm = Definition {
            comparison,
            threshold: 10.0,
            ..definition(1, 1, MissingData::Missing)
        };
        let found = [9.0, 10.0, 11.0].map(|v| evaluate(&alarm, Fine, &[Some(v)]).state == Alarm);
        assert_eq!(found, expected, "{}", comparison.as_str());
    }
}

#[test]
fn statistics_are_what_they_are_called() {
    let of = |statistic: Statistic| statistic.of(&[3.0, 1.0, 2.0, 6.0]);
    assert_eq!(of(Statistic::SampleCount), Some(4.0));
    assert_eq!(of(Statistic::Average), Some(3.0));
    assert_eq!(of(Statistic::Sum), Some(12.0));
    assert_eq!(of(Statistic::Minimum), Some(1.0));
    assert_eq!(of(Statistic::Maximum), Some(6.0));
    assert_eq!(Statistic::Maximum.of(&[-2.0, -1.0]), Some(-1.0));
    assert_eq!(Statistic::Sum.of(&[]), None);
}

/// The reason for points of which the newest period ends at 2026-03-08 00:46.
fn reason(definition: &Definition, previous: State, points: &[Option<f64>]) -> String {
    let end = Timestamp::from_secs(1_772_930_760);
    evaluate_ending_at(definition, previous, points, end).reason
}

#[test]
fn reasons_are_in_cloudwatchs_words() {
    let one = definition(1, 1, MissingData::NotBreaching);
    assert_eq!(
        reason(&one, Fine, &[Some(3.0)]),
        "Threshold Crossed: 1 out of the last 1 datapoints [3.0 (08/03/26 00:45:00)] was greater than the threshold (0.0) (minimum 1 datapoint for OK -> ALARM transition)."
    );
    assert_eq!(
        reason(&one, Alarm, &[Some(3.0), Some(0.0), None]),
        "Threshold Crossed: 1 out of the last 1 datapoints [0.0 (08/03/26 00:44:00)] was not greater than the threshold (0.0) (minimum 1 datapoint for ALARM -> OK transition)."
    );
    assert_eq!(
        reason(&one, Alarm, &[]),
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [NonBreaching]."
    );
    let two_of_three = Definition {
        comparison: Comparison::GreaterThanOrEqualToThreshold,
        threshold: 2.5,
        ..definition(3, 2, MissingData::Breaching)
    };
    assert_eq!(
        reason(&two_of_three, Fine, &[Some(4.0), Some(1.0), Some(2.5)]),
        "Threshold Crossed: 2 out of the last 3 datapoints [2.5 (08/03/26 00:45:00), 4.0 (08/03/26 00:43:00)] were greater than or equal to the threshold (2.5) (minimum 2 datapoints for OK -> ALARM transition)."
    );
    assert_eq!(
        reason(&two_of_three, Fine, &[Some(4.0)]),
        "Threshold Crossed: 1 out of the last 1 datapoints [4.0 (08/03/26 00:45:00)] was greater than or equal to the threshold (2.5) and 2 missing datapoints were treated as [Breaching] (minimum 2 datapoints for OK -> ALARM transition)."
    );
    assert_eq!(
        reason(&two_of_three, Fine, &[]),
        "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [Breaching]."
    );
    assert_eq!(
        reason(&definition(3, 3, MissingData::Missing), Fine, &[]),
        "Insufficient Data: 3 datapoints were unknown."
    );
    assert_eq!(
        reason(&definition(1, 1, MissingData::Missing), Fine, &[]),
        "Insufficient Data: 1 datapoint was unknown."
    );
    assert_eq!(
        reason(&definition(3, 3, MissingData::Ignore), Alarm, &[Some(1.0)]),
        "Unchanged: 2 missing datapoints were treated as [Ignore], the alarm stays ALARM."
    );
    let below = Definition {
        comparison: Comparison::LessThanThreshold,
        threshold: 1.0,
        ..definition(1, 1, MissingData::Missing)
    };
    assert_eq!(
        evaluate(&below, Fine, &[Some(0.5)]).reason,
        "Threshold Crossed: 1 out of the last 1 datapoints [0.5] was less than the threshold (1.0) (minimum 1 datapoint for OK -> ALARM transition)."
    );
}

#[test]
fn a_reason_never_lists_no_point() {
    // OK with bad points only: what stands against the alarm is their number.
    let young = definition(3, 3, MissingData::Missing);
    assert_eq!(
        reason(&young, Fine, &points("X")),
        "Threshold Crossed: 1 out of the last 1 datapoints [1.0 (08/03/26 00:45:00)] was greater than the threshold (0.0) (minimum 3 datapoints for OK -> ALARM transition)."
    );
    // ALARM with good points only: the gap is what breaches.
    let gap = definition(3, 2, MissingData::Breaching);
    assert_eq!(
        reason(&gap, Fine, &points("0")),
        "Threshold Crossed: 1 out of the last 1 datapoints [0.0 (08/03/26 00:45:00)] was not greater than the threshold (0.0) and 2 missing datapoints were treated as [Breaching] (minimum 2 datapoints for OK -> ALARM transition)."
    );
}

#[test]
fn the_newest_real_point_is_the_value() {
    let alarm = definition(3, 3, MissingData::Missing);
    assert_eq!(
        evaluate(&alarm, Fine, &[Some(1.0), Some(2.0), None]).value,
        Some(2.0)
    );
    assert_eq!(evaluate(&alarm, Fine, &[None, None]).value, None);
}

#[test]
fn dates_follow_the_calendar() {
    // Seconds from `date -u -d … +%s`.
    for (seconds, expected) in [
        (0, "01/01/70 00:00:00"),
        (951_782_399, "28/02/00 23:59:59"),
        (951_782_400, "29/02/00 00:00:00"),
        (951_868_800, "01/03/00 00:00:00"),
        (1_735_689_599, "31/12/24 23:59:59"),
        (1_795_392_000, "23/11/26 00:00:00"),
        (4_107_542_400, "01/03/00 00:00:00"),
    ] {
        assert_eq!(
            words::date(Timestamp::from_secs(seconds)),
            expected,
            "{seconds}"
        );
    }
}

#[test]
fn what_cloudwatch_refuses() {
    let good = definition(3, 2, MissingData::Missing);
    let name = || "5xx".to_owned();
    let with_period = |seconds| Definition {
        period: Duration::from_secs(seconds),
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        ..good.clone()
    };
    for seconds in [10, 20, 30, 60, 120, 3600, 86_400] {
        assert_eq!(with_period(seconds).validate(), Ok(()), "{seconds}");
    }
    for seconds in [0, 1, 40, 61, 90] {
        let period = Duration::from_secs(seconds);
        assert_eq!(
            with_period(seconds).validate(),
            Err(InvalidAlarm::Period {
                name: name(),
                period
            }),
            "{seconds}"
        );
    }
    let odd = Duration::from_millis(60_500);
    assert_eq!(
        Definition {
            period: odd,
            ..good.clone()
        }
        .validate(),
        Err(InvalidAlarm::Period {
            name: name(),
            period: odd
        })
    );
    assert_eq!(
        definition(0, 0, MissingData::Missing).validate(),
        Err(InvalidAlarm::NoEvaluationPeriods { name: name() })
    );
    assert_eq!(definition(3, 3, MissingData::Missing).validate(), Ok(()));
    assert_eq!(
        definition(3, 4, MissingData::Missing).validate(),
        Err(InvalidAlarm::DatapointsToAlarm {
            name: name(),
            wanted: 4,
            periods: 3
        })
    );
    // A day of minutes, a week of hours.
    assert_eq!(definition(1440, 1, MissingData::Missing).validate(), Ok(()));
    assert_eq!(
        definition(1441, 1, MissingData::Missing).validate(),
        Err(InvalidAlarm::TooLong {
            name: name(),
            periods: 1441,
            period: Duration::from_mins(1),
            limit: Duration::from_hours(24)
        })
    );
    let hourly = |n| Definition {
        period: Duration::from_hours(1),
        ..definition(n, 1, MissingData::Missing)
    };
    assert_eq!(hourly(168).validate(), Ok(()));
    assert_eq!(
        hourly(169).validate(),
        Err(InvalidAlarm::TooLong {
            name: name(),
            periods: 169,
            period: Duration::from_hours(1),
            limit: Duration::from_hours(168)
        })
    );
    assert_eq!(
        Definition {
            threshold: f64::NAN,
            ..good
        }
        .validate(),
        Err(InvalidAlarm::Threshold { name: name() })
    );
}

#[test]
fn alarms_of_less_than_a_minute_are_evaluated_every_ten_seconds() {
    let with_period = |seconds| {
        Definition {
            period: Duration::from_secs(seconds),
            ..definition(1, 1, MissingData::Missing)
        }
        .evaluation_interval()
    };
    assert_eq!(with_period(10), Duration::from_secs(10));
    assert_eq!(with_period(30), Duration::from_secs(10));
    assert_eq!(with_period(60), Duration::from_mins(1));
    assert_eq!(with_period(300), Duration::from_mins(1));
}

#[test]
fn names_are_the_apis() {
    let alarm = definition(1, 1, MissingData::NotBreaching);
    let json = serde_json::to_value(&alarm).expect("writes");
    assert_eq!(json["comparison"], "GreaterThanThreshold");
    assert_eq!(json["treat_missing_data"], "notBreaching");
    assert_eq!(json["statistic"], "Sum");
    assert_eq!(json["period_ms"], 60_000);
    assert_eq!(
        serde_json::from_value::<Definition>(json).expect("reads"),
        alarm
    );
    for state in [Fine, Alarm, InsufficientData] {
        assert_eq!(serde_json::to_value(state).expect("writes"), state.as_str());
    }
    for treatment in TREATMENTS {
        assert_eq!(
            serde_json::to_value(treatment).expect("writes"),
            treatment.as_str()
        );
    }
}

proptest::proptest! {
    /// Whatever the points, M real breaching ones among the N that count mean ALARM, and under
    /// `notBreaching` nothing else does.
    #[test]
    fn alarms_by_count_under_not_breaching(
        n in 1..6_u32,
        m in 1..6_u32,
        drawn in proptest::collection::vec(proptest::option::of(proptest::bool::ANY), 0..10),
    ) {
        let m = m.min(n);
        let points: Vec<_> = drawn.iter().map(|p| p.map(|bad| if bad { 1.0 } else { 0.0 })).collect();
        let alarm = definition(n, m, MissingData::NotBreaching);
        let range = evaluation_range(&alarm).min(points.len());
        let bad = points[points.len() - range..].iter().rev().flatten()
            .take(n as usize).filter(|value| **value > 0.0).count();
        let expected = if bad >= m as usize { Alarm } else { Fine };
        for treatment in TREATMENTS {
            let found = evaluate(&definition(n, m, treatment), Fine, &points);
            if treatment == MissingData::NotBreaching {
                proptest::prop_assert_eq!(found.state, expected);
            } else if expected == Alarm {
                proptest::prop_assert_eq!(found.state, Alarm);
            }
            proptest::prop_assert!(!found.reason.contains("[]"), "{}", found.reason);
            proptest::prop_assert!(found.reason.ends_with('.'), "{}", found.reason);
        }
    }
}
