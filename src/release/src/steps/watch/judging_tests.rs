#![expect(clippy::unwrap_used, reason = "tests")]
use super::*;

const BEGAN: u64 = 1_790_000_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(BEGAN + second * 1000)
}

fn judging() -> Judging {
    Judging {
        mode: Mode::Enforce,
        interval: Duration::from_secs(10),
        source: Source::LoadBalancer(StageCounters::of("http://127.0.0.1:1")),
        deployment_id: "d-1".to_owned(),
        latency: false,
        state: State {
            trial: Trial::new(judge::Judge::default().config()).unwrap(),
            taken: None,
        },
        looked: Timestamp::default(),
        told: Decision::Continue,
        stopped: false,
    }
}

fn roles() -> Roles<TaskSetDescription> {
    let side = |group: &str| TaskSetDescription {
        version: None,
        task_definition: format!("demo:{group}"),
        target_group: group.to_owned(),
    };
    Roles {
        blue: side("a"),
        green: side("b"),
    }
}

/// Answered and failed of blue and of green at a second, under weights that hold since another.
fn counters(second: u64, since: u64, green: u32, counts: [(u64, u64); 2]) -> elb::Counters {
    let group = |(answered, failed)| GroupCounters {
        answered,
        failed,
        ..GroupCounters::default()
    };
    elb::Counters {
        at: at(second),
        weights_since: at(since),
        weights: [("a".to_owned(), 100 - green), ("b".to_owned(), green)].into(),
        target_groups: [
            ("a".to_owned(), group(counts[0])),
            ("b".to_owned(), group(counts[1])),
        ]
        .into(),
    }
}

/// Requests and failures of blue and of green.
type Shape = [(i64, i64); 2];

const NONE: [Shape; 0] = [];

fn shape(judged: &[Judged]) -> Vec<Shape> {
    let side = |side: &Option<Side>| {
        let side = side.as_ref().unwrap();
        (side.requests, side.errors)
    };
    let batches = judged.iter().map(|judged| &judged.cut.batch);
    batches
        .map(|batch| [side(&batch.baseline), side(&batch.candidate)])
        .collect()
}

#[test]
fn what_green_answered_before_its_first_users_is_no_evidence() {
    let mut judging = judging();
    let mut take = |counters| shape(&judging.take(&counters, &roles()));
    // Testers had 50 answers, all of them failures.
    assert_eq!(take(counters(0, 0, 0, [(1000, 0), (50, 50)])), NONE);
    assert_eq!(take(counters(30, 0, 0, [(1600, 0), (50, 50)])), NONE);
    assert_eq!(take(counters(31, 30, 10, [(1620, 0), (50, 50)])), NONE);
    assert_eq!(take(counters(36, 30, 10, [(1700, 1), (58, 51)])), NONE);
    let batch = take(counters(41, 30, 10, [(1800, 2), (70, 52)]));
    assert_eq!(batch, [[(180, 2), (20, 2)]]);
}

#[test]
fn no_batch_holds_requests_of_two_weights() {
    let mut judging = judging();
    let mut take = |counters| shape(&judging.take(&counters, &roles()));
    assert_eq!(take(counters(0, 0, 10, [(0, 0), (0, 0)])), NONE);
    assert_eq!(take(counters(10, 0, 10, [(90, 0), (10, 0)])).len(), 1);
    // What came since then came partly under the old weights: it is in no batch.
    assert_eq!(take(counters(15, 14, 20, [(140, 9), (20, 9)])), NONE);
    let batch = take(counters(25, 14, 20, [(220, 9), (40, 9)]));
    assert_eq!(batch, [[(80, 0), (20, 0)]]);
}

#[test]
fn a_judge_that_is_resumed_goes_on_where_it_was() {
    let mut first = judging();
    first.take(&counters(0, 0, 10, [(0, 0), (0, 0)]), &roles());
    let saved = serde_json::to_string(&first.state).unwrap();
    let mut second = Judging {
        state: serde_json::from_str(&saved).unwrap(),
        ..judging()
    };
    // The gap is in the next batch.
    let judged = second.take(&counters(60, 0, 10, [(540, 0), (60, 48)]), &roles());
    assert_eq!(shape(&judged), [[(540, 0), (60, 48)]]);
    assert_eq!(second.state.trial.judge().standing(), Decision::Abort);
    // And an ABORT that was not carried out is.
    let saved = serde_json::to_string(&second.state).unwrap();
    let mut third = Judging {
        state: serde_json::from_str(&saved).unwrap(),
        ..judging()
    };
    third.told = third.state.trial.judge().standing();
    assert!(third.must_stop());
    third.has_stopped();
    assert!(!third.must_stop());
    let why = third.why().unwrap();
    assert!(
        why.starts_with("the judge: green fails 48 of 60, blue 0 of 540"),
        "{why}"
    );
}

#[test]
fn who_only_observes_stops_nothing() {
    let mut judging = judging();
    judging.mode = Mode::Observe;
    judging.told = Decision::Abort;
    assert!(!judging.must_stop());
    assert_eq!(judging.why(), None);
}
