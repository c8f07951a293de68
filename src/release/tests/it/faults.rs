//! Faults around a rehearsal: Ctrl-C, SIGKILL, a database that is gone.

use rollout::event::Event;
use rustix::process::Signal;

use crate::support::{Room, descendants, kill, wait_until_gone};

fn created(event: &Event) -> Option<String> {
    match event {
        Event::DeploymentCreated { deployment_id, .. } => Some(deployment_id.clone()),
        _ => None,
    }
}

fn shifted(event: &Event) -> Option<()> {
    matches!(event, Event::WeightsChanged { green: 10, .. }).then_some(())
}

/// One Ctrl-C ends a rehearsal in order: exit 130, no process left, no directory left.
#[test]
fn ctrl_c_leaves_nothing() {
    let room = Room::new();
    let temporary = room.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let mut command = room.command(&["2.0.1", "--speed", "60", "--format", "json"]);
    let record = room.path("r.jsonl");
    command
        .env("TMPDIR", &temporary)
        .arg("--record")
        .arg(&record);
    let mut running = Room::adopt(command, record);
    running.until("the shift", shifted);
    let family = descendants(running.pid());
    assert!(
        family.iter().any(|process| process.name == "postgres"),
        "{family:?}"
    );
    running.signal(Signal::INT);
    let ended = running.end();
    ended.expect(130);
    assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
    wait_until_gone(&family);
    let left: Vec<_> = std::fs::read_dir(&temporary)
        .unwrap()
        .filter_map(Result::ok)
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// While the stage is starting, Ctrl-C works as well.
#[test]
fn ctrl_c_at_the_start() {
    let room = Room::new();
    let mut running = room.start("r", &["2.0.1", "--speed", "60"]);
    running.until("the stage", |event| {
        matches!(event, Event::StepStarted { .. }).then_some(())
    });
    running.signal(Signal::TERM);
    running.end().expect(130);
}

/// SIGKILL leaves no process, and the next run in the same directory starts clean.
#[test]
fn sigkill_leaves_no_process_and_the_next_run_is_clean() {
    let room = Room::new();
    let stage = room.path("stage");
    let arguments = [
        "2.0.1",
        "--strategy",
        "blue-green",
        "--speed",
        "60",
        "--stage-dir",
        stage.to_str().unwrap(),
    ];
    let mut running = room.start("first", &arguments);
    running.until("the deployment", created);
    let family = descendants(running.pid());
    assert!(
        family.iter().any(|process| process.name == "app"),
        "{family:?}"
    );
    running.signal(Signal::KILL);
    assert_eq!(running.end().code, -9);
    wait_until_gone(&family);
    let ended = room.run("second", &arguments);
    ended.expect(0);
    assert_eq!(ended.requests().1, 0);
}

/// Both versions fail without a database. The alarm does not know that it is not green's fault; the
/// deployment is stopped and rolled back, and the run ends.
#[test]
fn the_database_stops_during_the_canary() {
    let room = Room::new();
    let mut running = room.start("r", &["2.0.1", "--speed", "60"]);
    running.until("the shift", shifted);
    let postmaster = descendants(running.pid())
        .into_iter()
        .filter(|process| process.name == "postgres")
        .min_by_key(|process| (process.started, process.pid))
        .unwrap();
    kill(postmaster.pid, Signal::QUIT);
    let ended = running.end();
    ended.expect(3);
    assert_eq!(ended.weights(), [10, 0]);
    assert!(
        ended.outcome().contains("rolled back"),
        "{}",
        ended.outcome()
    );
    assert!(ended.requests().1 > 0);
}
