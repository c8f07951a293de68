//! Rehearsals that go as they should, the bad version's included.

use rollout::alarm::State;
use rollout::event::{Event, RequestCounts};
use rollout::lifecycle::DeploymentStatus;

use crate::support::{Ended, Room, bundles, descendants, wait_until_gone};

#[test]
fn a_bad_version_is_rolled_back_by_the_alarm() {
    let ended = Room::new().run("r", &["2.0.0", "--speed", "60", "--judge", "off"]);
    ended.expect(3);
    assert_eq!(ended.weights(), [10, 0]);
    assert_eq!(
        ended.steps(),
        [
            "stage",
            "baseline",
            "preflight",
            "push",
            "register",
            "migrate",
            "deploy",
            "watch",
            "record"
        ]
    );
    let alarm = ended.events().find_map(|event| match event {
        Event::AlarmStateChanged {
            alarm,
            metric,
            state: State::Alarm,
            value,
            threshold,
            ..
        } => Some((alarm.clone(), metric.clone(), *value, *threshold)),
        _ => None,
    });
    let (alarm, metric, value, threshold) = alarm.unwrap();
    assert!(alarm.ends_with("-b-target-5xx"), "{alarm}");
    assert_eq!(metric, "HTTPCode_Target_5XX_Count");
    assert!(value.unwrap() > threshold);
    assert_eq!(
        ended.outcome(),
        format!("2.0.0 was rolled back: alarm {alarm}")
    );

    // Users lost requests on green only, and about 80 % of those it took.
    let mut blue = RequestCounts::default();
    let mut green = RequestCounts::default();
    for event in ended.events() {
        if let Event::Traffic { groups, .. } = event {
            for (group, counts) in groups {
                *(if group.ends_with("-a") {
                    &mut blue
                } else {
                    &mut green
                }) += *counts;
            }
        }
    }
    assert_eq!(blue.lost(), 0);
    assert!(green.total() > 20, "{green:?}");
    assert!(green.lost() * 100 / green.total() > 50, "{green:?}");
    assert_eq!(green.lost(), green.server_error);
    assert_eq!(ended.requests().1, green.lost());

    // CodeDeploy's own account of it.
    let ends: Vec<DeploymentStatus> = ended
        .events()
        .filter_map(|event| match event {
            Event::DeploymentEnded { status, .. } => Some(*status),
            _ => None,
        })
        .collect();
    assert_eq!(
        ends,
        [DeploymentStatus::Stopped, DeploymentStatus::Succeeded]
    );
}

/// Rehearses 2.0.1 and expects that nobody noticed. Draining is scaled, requests are not: at this
/// speed and on a busy machine the default would be short for a request.
fn nobody_notices(strategy: &str) -> Ended {
    let room = Room::new();
    let slow = (
        "release.toml",
        "deregistration-delay = \"30s\"",
        "deregistration-delay = \"10m\"",
    );
    let config = room.config(&[slow]);
    let config = config.to_str().unwrap();
    let ended = room.run(
        "r",
        &[
            "2.0.1",
            "--strategy",
            strategy,
            "--speed",
            "60",
            "--traffic",
            "100/s",
            "--config",
            config,
        ],
    );
    ended.expect(0);
    assert_eq!(ended.outcome(), "2.0.1 is deployed");
    let (all, lost) = ended.requests();
    assert!(all > 300, "{all}");
    assert_eq!(lost, 0);
    ended
}

#[test]
fn a_good_version_is_deployed_without_a_lost_request() {
    assert_eq!(nobody_notices("canary").weights(), [10, 100]);
}

#[test]
fn linear_moves_in_ten_steps() {
    let steps = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100];
    assert_eq!(nobody_notices("linear").weights(), steps);
}

#[test]
fn blue_green_moves_all_at_once() {
    assert_eq!(nobody_notices("blue-green").weights(), [100]);
}

/// What people see, not on a terminal: aligned lines and the block at the end, without colours.
#[test]
fn people_read_lines_and_a_summary() {
    let room = Room::new();
    let arguments = [
        "2.0.1",
        "--strategy",
        "blue-green",
        "--speed",
        "120",
        "--format",
        "human",
    ];
    let ended = room.run("r", &arguments);
    ended.expect(0);
    for part in [
        "release 2.0.1 to stage",
        "✓ baseline    1.0.0 serves at http://127.0.0.1:",
        "▒▒▒▒ 1.0.0 0 %, 2.0.1 100 %",
        "✓ 2.0.1 is deployed",
        "  serving   2.0.1 has all traffic",
        "  lost      ",
        "  exit code 0",
    ] {
        assert!(
            ended.stdout.contains(part),
            "no {part:?} in\n{}",
            ended.stdout
        );
    }
    assert!(
        !ended.stdout.contains('\u{1b}'),
        "colours without a terminal"
    );
    assert_eq!(ended.stderr, "");
}

/// Programs read the record's lines, and nothing else is on standard output.
#[test]
fn programs_read_the_record() {
    let room = Room::new();
    let ended = room.run(
        "r",
        &[
            "2.0.1",
            "--strategy",
            "blue-green",
            "--speed",
            "120",
            "--traffic",
            "0",
        ],
    );
    ended.expect(0);
    let record = std::fs::read_to_string(room.path("r.jsonl")).unwrap();
    assert_eq!(ended.stdout, record);
    assert_eq!(ended.stderr, "");
    match ended.events().next() {
        Some(Event::RecordOpened {
            version,
            bundle,
            speed,
            ..
        }) => {
            assert_eq!(version, "2.0.1");
            assert!(bundle.starts_with("sha256:"), "{bundle}");
            assert!((speed - 120.0).abs() < f64::EPSILON);
        }
        other => panic!("the record begins with {other:?}"),
    }
    assert_eq!(ended.requests(), (0, 0));
}

#[test]
fn nothing_is_left_behind() {
    let room = Room::new();
    let stage = room.path("stage");
    let stage = stage.to_str().unwrap();
    let mut running = room.start(
        "r",
        &[
            "2.0.1",
            "--strategy",
            "blue-green",
            "--speed",
            "60",
            "--stage-dir",
            stage,
        ],
    );
    running.until("deployment", |event| {
        matches!(event, Event::DeploymentCreated { .. }).then_some(())
    });
    let family = descendants(running.pid());
    assert!(
        family.iter().any(|process| process.name == "postgres"),
        "{family:?}"
    );
    assert!(family.len() > 3, "{family:?}");
    running.end().expect(0);
    wait_until_gone(&family);
    assert!(bundles().is_dir());
}
