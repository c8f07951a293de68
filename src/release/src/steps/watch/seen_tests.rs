#![expect(clippy::unwrap_used, reason = "tests")]
use std::time::Duration;

use super::*;

const NOW: u64 = 1_790_000_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(NOW + second * 1000)
}

fn time(second: u64) -> DateTime {
    DateTime::from_millis(i64::try_from(at(second).as_millis()).unwrap())
}

fn seen() -> Seen {
    Seen::new(
        "d-1",
        Plan {
            routing: TrafficRouting::canary(10, 5),
            ready_wait: Duration::from_mins(7),
            termination_wait: Duration::from_mins(5),
            rollback: Vec::new(),
        },
    )
}

fn info(status: cd::DeploymentStatus) -> cd::DeploymentInfo {
    cd::DeploymentInfo::builder()
        .deployment_id("d-1")
        .status(status)
        .create_time(time(0))
        .build()
}

fn event(name: &str, status: cd::LifecycleEventStatus, from: u64, to: u64) -> cd::LifecycleEvent {
    cd::LifecycleEvent::builder()
        .lifecycle_event_name(name)
        .status(status)
        .start_time(time(from))
        .end_time(time(to))
        .build()
}

fn set(label: cd::TargetLabel, weight: f64, status: &str) -> cd::EcsTaskSet {
    cd::EcsTaskSet::builder()
        .task_set_label(label)
        .traffic_weight(weight)
        .status(status)
        .build()
}

/// Without the first look's creation and what it brings.
fn begun() -> Seen {
    let mut seen = seen();
    seen.look(at(1), &info(cd::DeploymentStatus::InProgress), None);
    seen
}

#[test]
fn a_look_without_changes_says_nothing() {
    let mut seen = begun();
    let entries = seen.look(at(2), &info(cd::DeploymentStatus::InProgress), None);
    assert_eq!(entries, []);
}

#[test]
fn the_first_look_tells_the_creation_at_its_own_time() {
    let entries = seen().look(at(9), &info(cd::DeploymentStatus::Created), None);
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].at, at(0));
    assert!(matches!(entries[0].event, Event::DeploymentCreated { .. }));
}

#[test]
fn an_unknown_status_is_not_terminal() {
    let mut seen = begun();
    let entries = seen.look(at(2), &info(cd::DeploymentStatus::from("Marinating")), None);
    assert_eq!(entries, []);
    assert_eq!(seen.ended(), None);
}

#[test]
fn an_event_that_came_and_went_between_two_looks_has_both_its_times() {
    let mut seen = begun();
    let target = cd::EcsTarget::builder()
        .lifecycle_events(event("Install", cd::LifecycleEventStatus::Succeeded, 3, 40))
        .build();
    let entries = seen.look(
        at(45),
        &info(cd::DeploymentStatus::InProgress),
        Some(&target),
    );
    let told: Vec<(Timestamp, LifecycleStatus)> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::LifecycleEventChanged { status, .. } => Some((entry.at, *status)),
            _ => None,
        })
        .collect();
    assert_eq!(
        told,
        [
            (at(3), LifecycleStatus::InProgress),
            (at(40), LifecycleStatus::Succeeded)
        ]
    );
    assert_eq!(seen.installing_since(), None);
}

#[test]
fn the_last_step_of_a_shift_comes_before_the_end_of_allow_traffic() {
    let mut seen = begun();
    let target = cd::EcsTarget::builder()
        .lifecycle_events(event(
            "AllowTraffic",
            cd::LifecycleEventStatus::Succeeded,
            60,
            360,
        ))
        .task_sets_info(set(cd::TargetLabel::Blue, 0.0, "ACTIVE"))
        .task_sets_info(set(cd::TargetLabel::Green, 100.0, "PRIMARY"))
        .build();
    let entries = seen.look(
        at(365),
        &info(cd::DeploymentStatus::InProgress),
        Some(&target),
    );
    let weights = entries
        .iter()
        .position(|entry| matches!(entry.event, Event::WeightsChanged { green: 100, .. }));
    let end = entries.iter().position(|entry| {
        matches!(
            entry.event,
            Event::LifecycleEventChanged {
                status: LifecycleStatus::Succeeded,
                ..
            }
        )
    });
    assert!(weights.unwrap() < end.unwrap(), "{entries:?}");
    assert!(!seen.blue_has_all());
}

#[test]
fn traffic_that_went_back_is_seen_although_green_is_gone() {
    let mut seen = begun();
    let with = |sets: Vec<cd::EcsTaskSet>| {
        cd::EcsTarget::builder()
            .set_task_sets_info(Some(sets))
            .build()
    };
    let both = vec![
        set(cd::TargetLabel::Blue, 90.0, "PRIMARY"),
        set(cd::TargetLabel::Green, 10.0, "ACTIVE"),
    ];
    seen.weights(at(60), &with(both));
    assert!(!seen.blue_has_all());
    // No task set with a label is no news about the traffic.
    assert_eq!(seen.weights(at(61), &with(Vec::new())), []);
    assert!(!seen.blue_has_all());
    let blue = vec![set(cd::TargetLabel::Blue, 100.0, "PRIMARY")];
    let entries = seen.weights(at(62), &with(blue));
    assert!(matches!(
        entries[0].event,
        Event::WeightsChanged {
            blue: 100,
            green: 0,
            ..
        }
    ));
    assert!(seen.blue_has_all());
}

#[test]
fn waits_say_until_when() {
    let mut seen = begun();
    let entries = seen.look(at(100), &info(cd::DeploymentStatus::Ready), None);
    assert!(entries.iter().any(|entry| {
        matches!(entry.event, Event::ReadyWaitStarted { until, .. } if until == at(100 + 7 * 60))
    }));
    let target = cd::EcsTarget::builder()
        .lifecycle_events(event(
            "AfterAllowTraffic",
            cd::LifecycleEventStatus::Succeeded,
            400,
            401,
        ))
        .build();
    let mut info = info(cd::DeploymentStatus::InProgress);
    info.instance_termination_wait_time_started = true;
    let entries = seen.look(at(405), &info, Some(&target));
    assert!(entries.iter().any(|entry| {
        matches!(entry.event, Event::TerminationWaitStarted { until, .. } if until == at(401 + 5 * 60))
    }));
}

/// Reason and clause for an end with that code and message.
fn ended(status: cd::DeploymentStatus, code: &str, message: &str) -> (StopReason, String) {
    let mut seen = begun();
    let mut info = info(status);
    info.error_information = Some(
        cd::ErrorInformation::builder()
            .code(cd::ErrorCode::from(code))
            .message(message)
            .build(),
    );
    seen.look(at(500), &info, None);
    (seen.reason(), seen.why())
}

#[test]
fn reasons_for_an_end() {
    let stopped = || cd::DeploymentStatus::Stopped;
    let (reason, why) = ended(
        stopped(),
        "ALARM_ACTIVE",
        "One or more. Activated alarms: <a> <b>",
    );
    assert_eq!((reason, why.as_str()), (StopReason::Alarm, "alarms a, b"));
    let (reason, _) = ended(stopped(), "MANUAL_STOP", "The deployment was stopped.");
    assert_eq!(reason, StopReason::Request);
    let message = "The deployment timed out while waiting for a notification to continue.";
    let (reason, _) = ended(stopped(), "MANUAL_STOP", message);
    assert_eq!(reason, StopReason::ReadyWaitExpired);
    let failed = cd::DeploymentStatus::Failed;
    let (reason, why) = ended(failed.clone(), "HOOK_EXECUTION_FAILURE", "A hook failed.");
    assert_eq!(reason, StopReason::Failure);
    assert_eq!(why, "A hook failed (HOOK_EXECUTION_FAILURE)");
    // A code that nobody has heard of is told, and is a failure.
    let (reason, why) = ended(failed, "SOLAR_FLARE", "The sun.");
    assert_eq!(reason, StopReason::Failure);
    assert!(why.contains("SOLAR_FLARE: The sun"), "{why}");
}
