//! The judge: what it sees that an alarm does not, or sees later.

use rollout::event::Event;
use rollout::judge::{Decision, Total};

use crate::support::{Ended, Room};

/// The judge's decisions, and whether each was enforced.
fn decisions(ended: &Ended) -> Vec<(Decision, bool)> {
    ended
        .events()
        .filter_map(|event| match event {
            Event::JudgeDecided {
                decision, enforced, ..
            } => Some((*decision, *enforced)),
            _ => None,
        })
        .collect()
}

/// Green's requests at the judge's last look.
fn green(ended: &Ended) -> Total {
    let judged = ended.events().filter_map(|event| match event {
        Event::Judged { candidate, .. } => Some(*candidate),
        _ => None,
    });
    judged.last().unwrap()
}

const STRICT_ALARM: (&str, &str, &str) =
    ("release.toml", "threshold = 10\n", "threshold = 1000000\n");

/// An edit of `[judge]` in release.toml.
fn judge(keys: &str) -> (&'static str, &'static str, &str) {
    ("release.toml", "objective = 0.01 ", keys)
}

#[test]
fn the_judge_stops_a_bad_version_after_fewer_lost_requests_than_the_alarm() {
    let room = Room::new();
    let judged = room.run("judged", &["2.0.0", "--speed", "20"]);
    judged.expect(3);
    assert_eq!(decisions(&judged), [(Decision::Abort, true)]);
    let outcome = judged.outcome();
    assert!(
        outcome.starts_with("2.0.0 was rolled back: the judge: green fails "),
        "{outcome}"
    );
    assert!(
        outcome.contains("against an equal version below 1 in "),
        "{outcome}"
    );
    assert_eq!(judged.weights(), [10, 0]);

    let alarmed = room.run("alarmed", &["2.0.0", "--speed", "20", "--judge", "off"]);
    alarmed.expect(3);
    assert_eq!(decisions(&alarmed), []);
    assert!(
        alarmed.outcome().contains("alarm "),
        "{}",
        alarmed.outcome()
    );
    let (with, without) = (judged.requests().1, alarmed.requests().1);
    assert!(
        0 < with && with * 2 < without,
        "{with} lost with the judge, {without} without"
    );
}

#[test]
fn a_judge_that_observes_says_so_and_stops_nothing() {
    let ended = Room::new().run("r", &["2.0.0", "--speed", "30", "--judge", "observe"]);
    ended.expect(3);
    assert_eq!(decisions(&ended), [(Decision::Abort, false)]);
    assert!(ended.outcome().contains("alarm "), "{}", ended.outcome());
}

#[test]
fn a_good_version_passes() {
    let ended = Room::new().run("r", &["2.0.1", "--speed", "60", "--traffic", "400/s"]);
    ended.expect(0);
    assert_eq!(decisions(&ended), [(Decision::Pass, false)]);
    assert_eq!(green(&ended).errors, 0);
}

/// Two failures in a hundred: no alarm on a count sees them at a tenth of the traffic.
#[test]
fn a_small_regression_is_found_while_it_is_small() {
    let room = Room::new();
    let anchor = "{\"name\": \"PORT\"";
    let config = room.config(&[
        (
            "task-definition.json.j2",
            anchor,
            &format!("{{% if version == '2.0.0' %}}{{\"name\": \"FAIL_PERCENT\", \"value\": \"2\"}},{{% endif %}}\n        {anchor}"),
        ),
        STRICT_ALARM,
    ]);
    let config = config.to_str().unwrap();
    // 100 requests in a second of the stage.
    let ended = room.run(
        "r",
        &[
            "2.0.0",
            "--speed",
            "10",
            "--traffic",
            "1000/s",
            "--config",
            config,
        ],
    );
    ended.expect(3);
    assert_eq!(decisions(&ended), [(Decision::Abort, true)]);
    assert_eq!(ended.weights(), [10, 0], "found in the canary stage");
    let green = green(&ended);
    assert!(green.errors * 10 < green.requests, "{green:?}");
}

/// What AWS will do: minutes from CloudWatch, through the SDK, each a minute late.
#[test]
fn the_judge_reads_cloudwatch() {
    let room = Room::new();
    let config = room.config(&[
        judge("latency = true\nsource = \"cloudwatch\" "),
        STRICT_ALARM,
    ]);
    let config = config.to_str().unwrap();
    let ended = room.run("r", &["2.0.0", "--speed", "30", "--config", config]);
    ended.expect(3);
    assert_eq!(decisions(&ended), [(Decision::Abort, true)]);
    assert!(
        ended.outcome().contains("the judge: green fails "),
        "{}",
        ended.outcome()
    );
    assert_eq!(ended.weights(), [10, 0]);
}

#[test]
fn a_judge_that_cannot_be_is_refused() {
    for (keys, says) in [
        ("objective = 0", "an objective of 0 cannot be tested"),
        ("objective = 1.0", "an objective of 1 cannot be tested"),
        ("temper = 1.5", "temper"),
        ("relative-margin = 0.5", "margin"),
        ("interval = \"0s\"", "`judge.interval`"),
        ("mode = \"maybe\"", "known: off, observe, enforce"),
        ("objectiv = 0.01", "did you mean `objective`?"),
    ] {
        let room = Room::new();
        let config = room.config(&[judge(keys)]);
        let ended = room.run("r", &["2.0.0", "--config", config.to_str().unwrap()]);
        ended.expect(2);
        assert!(ended.stderr.contains(says), "{keys}: {}", ended.stderr);
    }
}
