//! Input that cannot be used: told in one message, with the right exit code, before anything starts.

use std::net::TcpListener;

use crate::support::{Ended, Room, bundles};

const DEFINITION: &str = "task-definition.json.j2";
const APPSPEC: &str = "appspec.yaml.j2";

/// Runs with an edited configuration; nothing may have been started.
fn refused(edits: &[(&str, &str, &str)], code: i32) -> Ended {
    let room = Room::new();
    let config = room.config(edits);
    let ended = room.run("r", &["2.0.1", "--config", config.to_str().unwrap()]);
    ended.expect(code);
    assert!(ended.steps().is_empty(), "{:?}", ended.steps());
    ended
}

fn assert_says(ended: &Ended, parts: &[&str]) {
    for part in parts {
        assert!(
            ended.stderr.contains(part),
            "no {part:?} in: {}",
            ended.stderr
        );
    }
}

#[test]
fn a_version_that_no_bundle_has() {
    let ended = Room::new().run("r", &["2.0.7"]);
    ended.expect(2);
    assert_says(
        &ended,
        &["no bundle of version 2.0.7", "1.0.0, 2.0.0, 2.0.1"],
    );
}

#[test]
fn no_bundles_at_all() {
    let room = Room::new();
    let ended = room.run("r", &["2.0.1", "--bundles", "nowhere"]);
    ended.expect(2);
    assert_says(&ended, &["no bundles in nowhere", "nix/host/bundles"]);
}

#[test]
fn a_template_with_an_undefined_variable() {
    let ended = refused(&[(DEFINITION, "{{ image }}", "{{ imgae }}")], 2);
    assert_says(
        &ended,
        &[
            "task-definition.json.j2:",
            "`imgae` is not defined; did you mean `image`?",
        ],
    );
}

#[test]
fn a_pair_of_cpu_and_memory_that_does_not_exist() {
    let ended = refused(
        &[(DEFINITION, "\"memory\": \"512\"", "\"memory\": \"700\"")],
        2,
    );
    assert_says(
        &ended,
        &[
            "`memory`: 700 with cpu 256 does not exist on Fargate",
            "512, 1024 or 2048",
        ],
    );
}

#[test]
fn a_field_that_does_not_exist() {
    let ended = refused(&[(DEFINITION, "\"stopTimeout\"", "\"stopTimeOut\"")], 2);
    assert_says(
        &ended,
        &[
            "`containerDefinitions[0].stopTimeOut`: RegisterTaskDefinition has no such field; did you mean `stopTimeout`?",
        ],
    );
}

#[test]
fn an_appspec_that_names_no_container_of_the_task() {
    let ended = refused(&[(APPSPEC, "{{ application.container }}", "web")], 2);
    assert_says(
        &ended,
        &["appspec.yaml.j2", "no container `web`", "it has: app"],
    );
}

#[test]
fn an_appspec_that_is_none() {
    let ended = refused(
        &[(
            APPSPEC,
            "Type: AWS::ECS::Service",
            "Type: AWS::Lambda::Function",
        )],
        2,
    );
    assert_says(&ended, &["appspec.yaml.j2"]);
}

#[test]
fn a_configuration_with_an_unknown_key() {
    let ended = refused(&[("release.toml", "speed = 10", "spede = 10")], 2);
    assert_says(
        &ended,
        &["unknown key `stage.spede`; did you mean `speed`?"],
    );
}

#[test]
fn a_strategy_that_does_not_exist() {
    let ended = Room::new().run("r", &["2.0.1", "--strategy", "canray"]);
    ended.expect(2);
    assert_says(&ended, &["no strategy `canray`; did you mean `canary`?"]);
}

#[test]
fn arguments_that_make_no_sense() {
    for arguments in [
        vec!["2.0.1", "--speed", "0"],
        vec!["2.0.1", "--traffic", "many"],
        vec!["2.0.1", "--timeout", "5"],
        vec!["2.0.1", "--target", "t.json", "--speed", "5"],
        vec!["render"],
    ] {
        let ended = Room::new().command(&arguments).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}");
    }
}

/// One bit of the image, in the middle of its largest layer.
#[test]
fn an_image_with_a_flipped_bit() {
    let room = Room::new();
    let set = room.path("bundles");
    for version in ["1.0.0", "2.0.1"] {
        copy(&bundles().join(version), &set.join(version));
    }
    let image = set.join("2.0.1/image.tar");
    let mut bytes = std::fs::read(&image).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let ended = room.run("r", &["2.0.1", "--bundles", set.to_str().unwrap()]);
    ended.expect(5);
    assert_says(
        &ended,
        &[
            "refused: the bundle in",
            "2.0.1 is damaged",
            "build it again",
        ],
    );
    assert!(ended.steps().is_empty());
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), &place).unwrap();
        }
    }
}

#[test]
fn postgresql_that_is_not_installed() {
    let room = Room::new();
    let nowhere = room.path("nowhere");
    let ended = room.run("r", &["2.0.1", "--postgres-bin", nowhere.to_str().unwrap()]);
    ended.expect(1);
    assert_says(&ended, &["cannot rehearse", "apt-get install postgresql"]);
}

#[test]
fn ports_that_are_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for option in ["--port", "--test-port", "--api-port"] {
        let ended = Room::new().run("r", &["2.0.1", option, &port]);
        ended.expect(1);
        assert_says(
            &ended,
            &["cannot rehearse", &port, "another port, or 0 for any"],
        );
    }
}

#[test]
fn render_shows_what_would_be_sent() {
    let room = Room::new();
    let ended = room.command(&["render", "2.0.1"]).output().unwrap();
    assert!(ended.status.success());
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(text.contains("# task-definition.json\n{"), "{text}");
    assert!(text.contains("# appspec.yaml\nversion: 0.0"), "{text}");
    assert!(text.contains("@sha256:"), "{text}");
}

#[test]
fn help_and_version_are_quick() {
    let begun = std::time::Instant::now();
    for arguments in [
        vec!["--version"],
        vec!["help", "exit-codes"],
        vec!["help"],
        vec!["--help"],
    ] {
        let ended = Room::new().command(&arguments).output().unwrap();
        assert!(ended.status.success(), "{arguments:?}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
