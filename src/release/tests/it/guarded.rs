//! The strategy with a hook: green is tried before any user meets it.

use rollout::deployment::HookStatus;
use rollout::event::Event;
use rollout::lifecycle::{LifecycleEvent, LifecycleStatus};

use crate::support::{Ended, Room, bundles};

fn answers(ended: &Ended) -> Vec<HookStatus> {
    ended
        .events()
        .filter_map(|event| match event {
            Event::HookAnswered {
                lifecycle_event,
                status,
                ..
            } => {
                assert_eq!(*lifecycle_event, LifecycleEvent::AfterAllowTestTraffic);
                Some(*status)
            }
            _ => None,
        })
        .collect()
}

/// What the report says to do next, with what functions said.
fn next(ended: &Ended) -> &[String] {
    match ended.events().last() {
        Some(Event::Summary { next, .. }) => next,
        other => panic!("the record ends with {other:?}"),
    }
}

/// The deployment failed at the hook; production traffic has never moved, and nobody lost a request.
fn nobody_met_it(ended: &Ended) {
    ended.expect(3);
    assert!(
        ended.weights().iter().all(|green| *green == 0),
        "{:?}",
        ended.weights()
    );
    let (all, lost) = ended.requests();
    assert!(all > 50, "{all}");
    assert_eq!(lost, 0);
    let failed = ended.events().any(|event| {
        matches!(
            event,
            Event::LifecycleEventChanged {
                lifecycle_event: LifecycleEvent::AfterAllowTestTraffic,
                status: LifecycleStatus::Failed,
                ..
            }
        )
    });
    assert!(failed);
}

#[test]
fn a_bad_version_is_refused_before_anybody_meets_it() {
    let ended = Room::new().run("r", &["2.0.0", "--strategy", "guarded", "--speed", "30"]);
    nobody_met_it(&ended);
    assert_eq!(answers(&ended), [HookStatus::Failed]);
    assert!(
        ended.outcome().starts_with("2.0.0 was rolled back"),
        "{}",
        ended.outcome()
    );
    let said = &next(&ended)[0];
    let expected = "the function smoke said: green is refused: ";
    assert!(
        said.starts_with(expected) && said.contains("(/ 500 "),
        "{said}"
    );
}

#[test]
fn a_good_version_is_deployed_after_it_was_tried() {
    let arguments = ["2.0.1", "--strategy", "guarded", "--speed", "30"];
    let ended = Room::new().run("r", &arguments);
    ended.expect(0);
    assert_eq!(answers(&ended), [HookStatus::Succeeded]);
    assert_eq!(ended.weights(), [10, 100]);
    assert_eq!(ended.requests().1, 0);
}

#[test]
fn a_path_that_no_version_has_is_refused() {
    let room = Room::new();
    let config = room.config(&[(
        "release.toml",
        "HOOK_PATHS = \"/ /healthz/ready\"",
        "HOOK_PATHS = \"/ /nowhere\"",
    )]);
    let config = config.to_str().unwrap();
    let arguments = [
        "2.0.1",
        "--strategy",
        "guarded",
        "--speed",
        "30",
        "--config",
        config,
    ];
    let ended = room.run("r", &arguments);
    nobody_met_it(&ended);
    assert!(
        next(&ended)[0].contains("/nowhere 404"),
        "{:?}",
        next(&ended)
    );
}

/// Rehearses 2.0.1 with a script in the place of the hook, at a speed where an hour is 7 seconds.
fn with_script(script: &str) -> Ended {
    let room = Room::new();
    let program = room.path("bootstrap");
    std::fs::write(&program, script).unwrap();
    let package = room.path("script.zip");
    oci::function::write(&program, &package).unwrap();
    let to = format!("package = \"{}\"", package.display());
    let config = room.config(&[("release.toml", "package = \"hook.zip\"", &to)]);
    let config = config.to_str().unwrap();
    room.run(
        "r",
        &[
            "2.0.1",
            "--strategy",
            "guarded",
            "--speed",
            "500",
            "--config",
            config,
        ],
    )
}

/// As on AWS: CodeDeploy does not know that a function has crashed.
#[test]
fn a_hook_that_crashes_costs_its_hour() {
    let ended = with_script("#!/bin/sh\necho 'no luck' >&2\nexit 1\n");
    nobody_met_it(&ended);
    assert_eq!(answers(&ended), []);
    assert!(
        ended.outcome().contains("status callback"),
        "{}",
        ended.outcome()
    );
    assert!(
        next(&ended)[0].contains("exit status 1"),
        "{:?}",
        next(&ended)
    );
}

#[test]
fn a_hook_that_is_silent_costs_its_hour() {
    let ended = with_script("#!/bin/sh\nexec sleep 600\n");
    nobody_met_it(&ended);
    assert_eq!(answers(&ended), []);
    assert!(
        ended.outcome().contains("status callback"),
        "{}",
        ended.outcome()
    );
}

/// Who rehearses without a hook needs no package of one.
#[test]
fn a_package_that_is_not_there_is_named_where_it_is_needed() {
    let room = Room::new();
    let place = room.path("bundles");
    std::fs::create_dir(&place).unwrap();
    for version in ["1.0.0", "2.0.1"] {
        std::os::unix::fs::symlink(bundles().join(version), place.join(version)).unwrap();
    }
    let place = place.to_str().unwrap();
    let arguments = |strategy| {
        [
            "2.0.1",
            "--strategy",
            strategy,
            "--speed",
            "120",
            "--bundles",
            place,
        ]
    };
    let ended = room.run("guarded", &arguments("guarded"));
    ended.expect(2);
    assert!(ended.stderr.contains("hook.zip"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("nix/host/bundles"),
        "{}",
        ended.stderr
    );
    room.run("blue-green", &arguments("blue-green")).expect(0);
}

#[test]
fn the_appspec_shows_the_hook() {
    let room = Room::new();
    let output = room
        .command(&["render", "2.0.1", "--strategy", "guarded"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let hook = "function:CodeDeployHook_serein-demo-smoke";
    assert!(
        text.contains("AfterAllowTestTraffic") && text.contains(hook),
        "{text}"
    );
    let output = room.command(&["render", "2.0.1"]).output().unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains("Hooks"));
}
