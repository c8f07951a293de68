//! Releases to a stage of another process: two at once, following, stopping, giving up.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_codedeploy::types::AutoRollbackConfiguration;
use rollout::event::Event;
use rustix::process::Signal;

use crate::support::{LIMIT, Room, Running, descendants, wait_until_gone};

/// `release stage` with the baseline on it.
struct Stage {
    running: Running,
    target: PathBuf,
}

impl Stage {
    fn start(room: &Room, speed: &str) -> Stage {
        let target = room.path("target.json");
        let path = target.to_str().unwrap();
        let running = room.start("stage", &["stage", "--target", path, "--speed", speed]);
        let begun = Instant::now();
        while !target.exists() {
            assert!(begun.elapsed() < LIMIT, "no target.json");
            std::thread::sleep(Duration::from_millis(20));
        }
        Stage { running, target }
    }

    fn target(&self) -> &str {
        self.target.to_str().unwrap()
    }

    /// An SDK client of our own.
    fn codedeploy(&self) -> aws_sdk_codedeploy::Client {
        let text = std::fs::read_to_string(&self.target).unwrap();
        let target: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = Credentials::from_keys("stage", "stage", None);
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(target["endpoint_url"].as_str().unwrap())
            .credentials_provider(SharedCredentialsProvider::new(keys))
            .build();
        aws_sdk_codedeploy::Client::new(&config)
    }
}

fn created(event: &Event) -> Option<String> {
    match event {
        Event::DeploymentCreated { deployment_id, .. } => Some(deployment_id.clone()),
        _ => None,
    }
}

/// One stage, several releases: the second is refused with the id of the first; Ctrl-C leaves a
/// deployment running; the same version again follows it to the end; and once more, there is
/// nothing to do.
#[test]
fn two_releases_at_once_and_a_deployment_that_is_left_and_followed() {
    let room = Room::new();
    let stage = Stage::start(&room, "30");
    let target = ["--target", stage.target()];

    let mut first = room.start("first", &["2.0.1", target[0], target[1]]);
    let id = first.until("the deployment", created);

    let second = room.run("second", &["2.0.0", target[0], target[1]]);
    second.expect(5);
    assert!(
        second
            .stderr
            .contains(&format!("refused: deployment {id} ")),
        "{}",
        second.stderr
    );
    assert!(second.steps().is_empty(), "{:?}", second.steps());

    first.signal(Signal::INT);
    let first = first.end();
    first.expect(130);
    assert!(
        first.stderr.contains(&format!("deployment {id} goes on")),
        "{}",
        first.stderr
    );
    assert!(
        first
            .stderr
            .contains(&format!("release 2.0.1 --target {}", stage.target())),
        "{}",
        first.stderr
    );

    let followed = room.run("followed", &["2.0.1", target[0], target[1]]);
    followed.expect(0);
    assert_eq!(followed.deployment(), Some(id.as_str()));
    assert_eq!(followed.steps(), ["preflight", "watch", "record"]);
    assert!(
        followed
            .detail("preflight")
            .contains("watched, not doubled")
    );
    assert_eq!(followed.weights().last(), Some(&100));

    let again = room.run("again", &["2.0.1", target[0], target[1]]);
    again.expect(0);
    assert_eq!(again.deployment(), None);
    assert_eq!(again.outcome(), "nothing to do: 2.0.1 is deployed already");
    assert!(
        again.detail("push").contains("was there already"),
        "{}",
        again.detail("push")
    );
    assert!(
        again.detail("register").contains("equal already"),
        "{}",
        again.detail("register")
    );

    let family = descendants(stage.running.pid());
    assert!(!family.is_empty());
    stage.running.signal(Signal::INT);
    stage.running.end().expect(0);
    wait_until_gone(&family);
    assert!(!stage.target.exists(), "the target leads nowhere now");
}

/// Somebody else calls `StopDeployment`: exit 7, and traffic is back. Before that: giving up to watch
/// is exit 6, and the deployment goes on.
#[test]
fn giving_up_and_stopping() {
    let room = Room::new();
    let stage = Stage::start(&room, "20");
    let target = ["--target", stage.target()];

    let gave_up = room.run(
        "gave-up",
        &["2.0.1", target[0], target[1], "--timeout", "30s"],
    );
    gave_up.expect(6);
    let id = gave_up.deployment().unwrap().to_owned();
    assert!(
        gave_up.stderr.contains(&format!("deployment {id} after")),
        "{}",
        gave_up.stderr
    );
    assert!(
        gave_up.stderr.contains("release 2.0.1 --target"),
        "{}",
        gave_up.stderr
    );

    let mut followed = room.start("followed", &["2.0.1", target[0], target[1]]);
    assert_eq!(followed.until("the deployment", created), id);
    let client = stage.codedeploy();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        client
            .stop_deployment()
            .deployment_id(&id)
            .auto_rollback_enabled(true)
            .send()
            .await
            .unwrap();
    });
    let followed = followed.end();
    followed.expect(7);
    assert!(
        followed
            .outcome()
            .starts_with("the deployment of 2.0.1 was stopped"),
        "{}",
        followed.outcome()
    );
}

/// A target that does not answer, and one that lacks something.
#[test]
fn targets_that_cannot_be_released_to() {
    let room = Room::new();
    let stage = Stage::start(&room, "60");
    let good = std::fs::read_to_string(&stage.target).unwrap();
    let spoilt = |from: &str, to: &str| {
        let path = room.path("spoilt.json");
        assert!(good.contains(from), "{good} has no {from}");
        std::fs::write(&path, good.replace(from, to)).unwrap();
        room.run("spoilt", &["2.0.1", "--target", path.to_str().unwrap()])
    };
    let ended = spoilt("\"service\": \"serein-demo\"", "\"service\": \"other\"");
    ended.expect(5);
    assert!(
        ended.stderr.contains("no service other"),
        "{}",
        ended.stderr
    );
    let ended = spoilt(
        "\"deployment_group\": \"serein-demo\"",
        "\"deployment_group\": \"other\"",
    );
    ended.expect(5);
    assert!(
        ended
            .stderr
            .contains("DeploymentGroupDoesNotExistException"),
        "{}",
        ended.stderr
    );
    let ended = spoilt(
        "\"bucket\": \"serein-demo-releases\"",
        "\"bucket\": \"other\"",
    );
    ended.expect(5);
    assert!(ended.stderr.contains("no bucket other"), "{}", ended.stderr);
    let ended = spoilt("\"bucket\"", "\"buckets\"");
    ended.expect(2);
    assert!(
        ended.stderr.contains("did you mean `bucket`?"),
        "{}",
        ended.stderr
    );

    stage.running.signal(Signal::INT);
    stage.running.end().expect(0);
    let path = room.path("gone.json");
    std::fs::write(&path, good).unwrap();
    let ended = room.run("gone", &["2.0.1", "--target", path.to_str().unwrap()]);
    ended.expect(1);
    assert!(
        ended.stderr.contains("is the target running"),
        "{}",
        ended.stderr
    );
}

/// Stopped in the middle of the shift by somebody whose group does not roll back: users are on both
/// versions, and a person must look. Exit 4.
#[test]
fn traffic_that_does_not_come_back_is_an_incident() {
    let room = Room::new();
    let stage = Stage::start(&room, "20");
    let client = stage.codedeploy();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let never = AutoRollbackConfiguration::builder().enabled(false).build();
        client
            .update_deployment_group()
            .application_name("serein-demo")
            .current_deployment_group_name("serein-demo")
            .auto_rollback_configuration(never)
            .send()
            .await
            .unwrap();
    });
    let mut running = room.start("r", &["2.0.1", "--target", stage.target()]);
    let id = running.until("the deployment", created);
    running.until("the shift", |event| {
        matches!(event, Event::WeightsChanged { green: 10, .. }).then_some(())
    });
    runtime.block_on(async {
        let stop = client.stop_deployment().deployment_id(&id);
        stop.auto_rollback_enabled(false).send().await.unwrap();
    });
    let ended = running.end();
    ended.expect(4);
    let outcome = ended.outcome();
    assert!(
        outcome.starts_with("2.0.1 failed and traffic is not known to be back"),
        "{outcome}"
    );
    assert!(outcome.contains("green had 10 % of it"), "{outcome}");
    match ended.events().last() {
        Some(Event::Summary { next, .. }) => assert!(next[0].contains(&id), "{next:?}"),
        other => panic!("the record ends with {other:?}"),
    }
}
