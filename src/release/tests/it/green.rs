//! New versions that fail in other ways than by answering 500.

use rollout::alarm::State;
use rollout::event::Event;
use rustix::process::Signal;

use crate::support::{Ended, Room, descendants, exit_codes, kill, wait_until_gone};

const DEFINITION: &str = "task-definition.json.j2";

/// Rehearses 2.0.1 with a change to its task definition that the baseline does not have.
fn rehearse(room: &Room, anchor: &str, change: &str, more: &[(&str, &str, &str)]) -> Ended {
    let changed = format!("{{% if version == '2.0.1' %}}{change}{{% endif %}}\n      {anchor}");
    let mut edits = vec![
        (DEFINITION, anchor, changed.as_str()),
        (
            "release.toml",
            "install-timeout = \"10m\"",
            "install-timeout = \"3m\"",
        ),
    ];
    edits.extend(more);
    let config = room.config(&edits);
    room.run(
        "r",
        &[
            "2.0.1",
            "--speed",
            "60",
            "--config",
            config.to_str().unwrap(),
        ],
    )
}

#[test]
fn green_exits_at_once() {
    let room = Room::new();
    let ended = rehearse(
        &room,
        "\"essential\": true,",
        "\"command\": [\"no-such-command\"],",
        &[],
    );
    ended.expect(3);
    assert_eq!(ended.weights(), [] as [u8; 0]);
    assert_eq!(ended.requests().1, 0);
    assert!(
        exit_codes(&ended).iter().any(|(_, code)| *code == Some(2)),
        "{:?}",
        exit_codes(&ended)
    );
    let outcome = ended.outcome();
    assert!(
        outcome.contains("green did not become healthy within 3 min"),
        "{outcome}"
    );
    assert!(outcome.contains("exit code 2"), "{outcome}");
}

#[test]
fn green_never_becomes_healthy() {
    let room = Room::new();
    let ended = rehearse(
        &room,
        "\"environment\": [",
        "",
        &[(
            DEFINITION,
            "\"value\": {{ application.port ~ \"\" }}",
            "\"value\": {{ \"9\" if version == '2.0.1' else application.port ~ \"\" }}",
        )],
    );
    ended.expect(3);
    assert_eq!(ended.weights(), [] as [u8; 0]);
    assert_eq!(ended.requests().1, 0);
    assert!(
        ended.outcome().contains("green did not become healthy"),
        "{}",
        ended.outcome()
    );
}

/// A process that is stopped cannot handle SIGTERM; it is killed after its `stopTimeout`, and the
/// rollback does not wait for it.
#[test]
fn green_hangs_on_sigterm() {
    let room = Room::new();
    let config = room.config(&[
        (DEFINITION, "\"stopTimeout\": 30", "\"stopTimeout\": 2"),
        ("release.toml", "after = \"20s\"", "after = \"6m\""),
    ]);
    let config = config.to_str().unwrap();
    let mut running = room.start(
        "r",
        &[
            "2.0.0", "--judge", "off", "--speed", "60", "--config", config,
        ],
    );
    let task = running.until("green's task", |event| match event {
        Event::TaskStarted {
            task,
            group: Some(group),
            task_definition,
        } if group.starts_with("service:") && task_definition.ends_with(":2") => Some(task.clone()),
        _ => None,
    });
    running.until("the alarm", |event| match event {
        Event::AlarmStateChanged {
            state: State::Alarm,
            ..
        } => Some(()),
        _ => None,
    });
    let green = descendants(running.pid())
        .into_iter()
        .filter(|process| process.name == "app")
        .max_by_key(|process| (process.started, process.pid))
        .unwrap();
    kill(green.pid, Signal::STOP);
    let ended = running.end();
    ended.expect(3);
    assert_eq!(ended.weights(), [10, 0]);
    assert!(
        exit_codes(&ended).contains(&(task, Some(137))),
        "{:?}",
        exit_codes(&ended)
    );
    wait_until_gone(&[green]);
}

/// The schema cannot be brought up: nothing is deployed, and the task's last lines are told.
#[test]
fn a_migration_fails() {
    let room = Room::new();
    let ended = rehearse(
        &room,
        "\"essential\": true,",
        "",
        &[(
            DEFINITION,
            "{{ target.database.name }}",
            "{{ \"nobody\" if version == '2.0.1' else target.database.name }}",
        )],
    );
    ended.expect(3);
    assert_eq!(ended.deployment(), None);
    assert_eq!(ended.requests().1, 0);
    assert!(
        ended.outcome().starts_with("the migration of 2.0.1 failed"),
        "{}",
        ended.outcome()
    );
    assert!(
        ended.outcome().contains("its last lines:"),
        "{}",
        ended.outcome()
    );
}
