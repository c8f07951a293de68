//! Records: what is written is read again, and read to the same state.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::Timestamp;
use rollout::alarm::State;
use rollout::deployment::{Observation, Roles, Spec};
use rollout::event::{Entry, Event, RECORD_FORMAT, RequestCounts, TaskSetDescription};
use rollout::replay::replay;

use crate::rig::{ID, Rig, alarms, both, canary, hooks};

fn written_and_read(entries: &[Entry]) -> Vec<Entry> {
    entries
        .iter()
        .map(|entry| {
            let line = serde_json::to_string(entry).expect("writes");
            assert!(!line.contains('\n'), "one line: {line}");
            serde_json::from_str(&line).expect("reads")
        })
        .collect()
}

/// One of every event that is not a deployment's own.
fn surroundings() -> Vec<Entry> {
    let counts = RequestCounts {
        ok: 1000,
        server_error: 7,
        connection_error: 1,
        timed_out: 0,
    };
    let side = |version: &str, group: &str| TaskSetDescription {
        version: Some(version.to_owned()),
        task_definition: "arn:aws:ecs:eu-west-1:000000000000:task-definition/web:7".to_owned(),
        target_group: group.to_owned(),
    };
    [
        Event::RecordOpened {
            format: RECORD_FORMAT,
            version: "2.0.0".to_owned(),
            bundle: "sha256:00".to_owned(),
            target: "stage".to_owned(),
            strategy: "canary".to_owned(),
            speed: 10.0,
        },
        Event::StepStarted {
            step: "preflight".to_owned(),
        },
        Event::StepFinished {
            step: "preflight".to_owned(),
            detail: "nothing to do".to_owned(),
        },
        Event::RolesAssigned {
            deployment_id: ID.to_owned(),
            roles: Roles {
                blue: side("1.0.0", "a"),
                green: side("2.0.0", "b"),
            },
        },
        Event::AlarmStateChanged {
            alarm: "green".to_owned(),
            metric: "HTTPCode_Target_5XX_Count".to_owned(),
            state: State::Alarm,
            previous: State::InsufficientData,
            reason: "Threshold Crossed: …".to_owned(),
            value: Some(12.0),
            threshold: 10.0,
        },
        Event::TaskStarted {
            task: "0123".to_owned(),
            group: Some("service:web".to_owned()),
            task_definition: "web:7".to_owned(),
        },
        Event::TaskStopped {
            task: "0123".to_owned(),
            stop_code: "EssentialContainerExited".to_owned(),
            reason: "Essential container in task exited".to_owned(),
            exit_code: Some(-1),
        },
        Event::TargetHealthChanged {
            target_group: "a".to_owned(),
            target: "10.0.0.1:8080".to_owned(),
            state: "unhealthy".to_owned(),
            reason: "Target.ResponseCodeMismatch".to_owned(),
        },
        Event::TargetGroupPeriod {
            target_group: "a".to_owned(),
            period_s: 60,
            requests: 1000,
            target_5xx: 7,
            elb_5xx: 1,
        },
        Event::Traffic {
            period_s: 60,
            groups: BTreeMap::from([("a".to_owned(), counts)]),
            unattributed: RequestCounts::default(),
        },
        Event::Summary {
            exit_code: 3,
            outcome: "rolled back".to_owned(),
            real_seconds: 61.5,
            requests: counts,
            first_loss: Some(Timestamp::from_millis(1)),
            last_loss: None,
            record: None,
            next: Vec::new(),
        },
    ]
    .into_iter()
    .map(|event| Entry::new(Timestamp::from_millis(1_800_000_001_234), event))
    .collect()
}

#[test]
fn every_event_is_written_and_read() {
    let entries = surroundings();
    assert_eq!(written_and_read(&entries), entries);
}

#[test]
fn a_line_is_flat_and_dated() {
    let line = |entry: &Entry| serde_json::to_string(entry).expect("writes");
    let entries = surroundings();
    assert_eq!(
        line(&entries[1]),
        r#"{"at":1800000001234,"event":"step_started","step":"preflight"}"#
    );
    assert_eq!(
        line(&entries[9]),
        r#"{"at":1800000001234,"event":"traffic","period_s":60,"groups":{"a":{"ok":1000,"5xx":7,"connection_error":1,"timed_out":0}}}"#
    );
    let rig = Rig::new(Spec {
        test_listener: false,
        ..canary()
    });
    assert_eq!(
        line(&rig.log[0]),
        r#"{"at":1800000000000,"event":"deployment_created","deployment_id":"d-AAAAAAAAA","routing":{"type":"TimeBasedCanary","percentage":10,"interval_ms":300000},"lifecycle_events":["BeforeInstall","Install","AfterInstall","BeforeAllowTraffic","AllowTraffic","AfterAllowTraffic"]}"#
    );
}

#[test]
fn an_event_of_another_time_is_an_error_that_names_it() {
    let error = serde_json::from_str::<Entry>(r#"{"at":1,"event":"moon_phase","phase":3}"#)
        .expect_err("is not known");
    assert!(error.to_string().contains("moon_phase"), "{error}");
}

/// A record as a rehearsal leaves it: a deployment, its rollback, and what is around them.
fn rehearsal() -> (Rig, Rig, Vec<Entry>) {
    let spec = Spec {
        alarms: alarms(),
        ..canary()
    };
    let mut forward = Rig::new(spec.clone()).until_shift();
    forward.alarms = Some(both(State::Alarm));
    forward.pass(Duration::from_mins(1));
    let mut back = Rig::new(spec.rollback().expect("a forward deployment"));
    back.pass(Duration::from_secs(10));
    let mut record = surroundings();
    // Told while the deployment runs, and after.
    record.splice(4..4, forward.log.clone());
    record.push(record[3].clone());
    record.extend(back.log.clone());
    (forward, back, record)
}

#[test]
fn a_record_replays_to_the_states_of_all_its_deployments() {
    let (forward, back, record) = rehearsal();
    let views = replay(&written_and_read(&record));
    assert_eq!(views, [forward.view().clone(), back.view().clone()]);
}

#[test]
fn a_record_without_a_beginning_tells_of_no_deployment() {
    let (_, back, record) = rehearsal();
    let created = record
        .iter()
        .position(|entry| matches!(entry.event, Event::DeploymentCreated { .. }))
        .expect("it has one");
    assert_eq!(replay(&record[created + 1..]), [back.view().clone()]);
}

#[test]
fn specs_and_observations_are_written_and_read() {
    let spec = Spec {
        hooks: hooks(&[rollout::lifecycle::LifecycleEvent::AfterInstall]),
        alarms: alarms(),
        ready_wait: Some(Duration::from_mins(3)),
        ..canary()
    };
    let json = serde_json::to_string(&spec).expect("writes");
    assert!(json.contains(r#""ready_wait_ms":180000"#), "{json}");
    assert!(
        json.contains(r#""hooks":{"AfterInstall":"onAfterInstall"}"#),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<Spec>(&json).expect("reads"), spec);
    for observation in [
        Observation::Tick,
        Observation::Alarms(both(State::Ok)),
        Observation::StopRequested {
            auto_rollback: Some(false),
        },
        Observation::ContinueRequested(rollout::deployment::WaitType::TerminationWait),
        Observation::CommandFailed(rollout::deployment::messages::alarms_active(&["a"])),
    ] {
        let json = serde_json::to_string(&observation).expect("writes");
        assert_eq!(
            serde_json::from_str::<Observation>(&json).expect("reads"),
            observation
        );
    }
}
