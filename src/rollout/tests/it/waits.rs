//! The ready wait and the termination wait.

use std::time::Duration;

use rollout::alarm::State;
use rollout::deployment::{
    AutoRollback, Command, ErrorCode, HookStatus, Observation, Refusal, Side, Spec, StopReason,
    TaskSetState, WaitType,
};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus, TargetStatus};

use crate::rig::{Rig, alarms, both, canary, hooks};

fn ready_wait() -> Spec {
    Spec {
        ready_wait: Some(Duration::from_mins(30)),
        alarms: alarms(),
        ..canary()
    }
}

fn to_ready(spec: Spec) -> Rig {
    let mut rig = Rig::new(spec).until_stable();
    rig.pass(Duration::from_millis(500));
    assert_eq!(rig.status(), DeploymentStatus::Ready);
    rig
}

#[test]
fn the_ready_wait_lies_between_test_and_production_traffic() {
    let mut rig = to_ready(ready_wait());
    assert_eq!(rig.view().target_status(), TargetStatus::Ready);
    assert_eq!(
        rig.view().ready_until,
        Some(rig.now + Duration::from_mins(30))
    );
    assert_eq!(
        rig.event(LifecycleEvent::AfterAllowTestTraffic),
        LifecycleStatus::Succeeded
    );
    assert_eq!(
        rig.event(LifecycleEvent::BeforeAllowTraffic),
        LifecycleStatus::Pending
    );
    assert_eq!(rig.view().test_traffic, Some(Side::Green));
    assert_eq!(rig.pass(Duration::from_millis(30 * 60_000 - 1)), []);
    let commands = rig.see(Observation::ContinueRequested(WaitType::ReadyWait));
    assert_eq!(rig.refused, None);
    assert_eq!(
        commands,
        [Command::SetWeights {
            blue: 90,
            green: 10
        }]
    );
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    let started = rig.view().started.expect("it began before");
    assert!(
        started < rig.now - Duration::from_mins(30),
        "the start is the first one"
    );
    // Continuing does not cut a canary short.
    rig.see(Observation::ContinueRequested(WaitType::ReadyWait));
    assert_eq!(rig.refused, Some(Refusal::DeploymentIsNotInReadyState));
    assert_eq!(rig.weights(), (90, 10));
}

#[test]
fn without_a_test_listener_the_ready_wait_follows_the_installation() {
    let mut rig = Rig::new(Spec {
        test_listener: false,
        ..ready_wait()
    })
    .until_stable();
    assert_eq!(rig.status(), DeploymentStatus::Ready);
    assert_eq!(
        rig.event(LifecycleEvent::AfterInstall),
        LifecycleStatus::Succeeded
    );
    rig.see(Observation::ContinueRequested(WaitType::TerminationWait));
    assert_eq!(rig.refused, Some(Refusal::DeploymentIsNotInReadyState));
    assert_eq!(rig.status(), DeploymentStatus::Ready);
}

#[test]
fn the_hook_on_test_traffic_comes_before_the_ready_wait() {
    let spec = Spec {
        hooks: hooks(&[LifecycleEvent::AfterAllowTestTraffic]),
        ..ready_wait()
    };
    let mut rig = Rig::new(spec).until_stable();
    rig.pass(Duration::from_millis(500));
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    let Some(Command::InvokeHook { execution_id, .. }) = rig.acts().pop() else {
        panic!("the hook was called")
    };
    rig.see(Observation::HookResult {
        execution_id,
        status: HookStatus::Succeeded,
    });
    assert_eq!(rig.status(), DeploymentStatus::Ready);
}

#[test]
fn a_ready_wait_that_expires_stops_the_deployment() {
    let mut rig = to_ready(ready_wait());
    rig.pass(Duration::from_mins(30));
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    assert_eq!(rig.error().code, ErrorCode::Timeout);
    assert_eq!(
        rig.error().message,
        "The deployment timed out while waiting for a notification to continue. This time out period is 30 minutes."
    );
    let (s, k) = (LifecycleStatus::Succeeded, LifecycleStatus::Skipped);
    assert_eq!(
        rig.statuses(),
        [s, s, s, s, s, k, k, k],
        "nothing was running, so nothing failed"
    );
    assert_eq!(
        rig.view().rollback_reason,
        Some(StopReason::ReadyWaitExpired)
    );
    assert_eq!(rig.view().green, Some(TaskSetState::Terminating));
    // Too late.
    rig.see(Observation::ContinueRequested(WaitType::ReadyWait));
    assert_eq!(rig.refused, Some(Refusal::DeploymentAlreadyCompleted));
}

#[test]
fn continuing_at_the_moment_of_expiry_is_too_late() {
    let mut rig = to_ready(ready_wait());
    rig.now += Duration::from_mins(30);
    rig.see(Observation::ContinueRequested(WaitType::ReadyWait));
    assert_eq!(rig.refused, Some(Refusal::DeploymentAlreadyCompleted));
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
}

#[test]
fn the_expiry_counts_as_a_stop_on_request_for_the_rollback() {
    for (auto_rollback, rolled_back) in [
        (
            AutoRollback {
                on_request: true,
                ..AutoRollback::NONE
            },
            true,
        ),
        (
            AutoRollback {
                on_request: false,
                ..AutoRollback::ALL
            },
            false,
        ),
    ] {
        let mut rig = to_ready(Spec {
            auto_rollback,
            ..ready_wait()
        });
        rig.pass(Duration::from_mins(30));
        assert_eq!(
            rig.view().rollback.is_some(),
            rolled_back,
            "{auto_rollback:?}"
        );
        assert_eq!(rig.weights(), (100, 0));
        let test = if rolled_back { Side::Blue } else { Side::Green };
        assert_eq!(rig.view().test_traffic, Some(test));
    }
}

#[test]
fn an_alarm_ends_the_ready_wait() {
    let mut rig = to_ready(ready_wait());
    rig.alarms = Some(both(State::Alarm));
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    assert_eq!(rig.error().code, ErrorCode::AlarmActive);
}

#[test]
fn the_termination_wait_is_in_progress_and_can_be_ended() {
    let mut rig = Rig::new(canary()).until_termination_wait();
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    assert_eq!(rig.statuses(), [LifecycleStatus::Succeeded; 8]);
    assert_eq!(
        (rig.view().primary, rig.view().blue),
        (Side::Green, TaskSetState::Stable)
    );
    rig.see(Observation::ContinueRequested(WaitType::ReadyWait));
    assert_eq!(rig.refused, Some(Refusal::DeploymentIsNotInReadyState));
    let commands = rig.see(Observation::ContinueRequested(WaitType::TerminationWait));
    assert_eq!(commands, [Command::TerminateBlue]);
    assert_eq!(rig.status(), DeploymentStatus::Succeeded);
    assert_eq!(rig.view().blue, TaskSetState::Terminating);
    assert_eq!(rig.deployment.wake_at(), None);
}

#[test]
fn the_termination_wait_ends_by_itself_to_the_millisecond() {
    let mut rig = Rig::new(canary()).until_termination_wait();
    let until = rig.view().termination_until.expect("it waits");
    assert_eq!(rig.deployment.wake_at(), Some(until));
    rig.now = until - Duration::from_millis(1);
    assert_eq!(rig.see(Observation::Tick), []);
    rig.now = until;
    assert_eq!(rig.see(Observation::Tick), [Command::TerminateBlue]);
    assert_eq!(rig.view().completed, Some(until));
}

#[test]
fn in_the_termination_wait_blue_is_the_fast_way_back() {
    let mut rig = Rig::new(canary()).until_termination_wait();
    let commands = rig.see(Observation::StopRequested {
        auto_rollback: Some(true),
    });
    assert_eq!(
        commands[..4],
        [
            Command::SetWeights {
                blue: 100,
                green: 0
            },
            Command::RestoreTestTraffic,
            Command::MakeBluePrimary,
            Command::TerminateGreen,
        ]
    );
    assert!(matches!(
        &commands[4..],
        [Command::CreateRollbackDeployment { .. }]
    ));
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    assert_eq!(
        rig.statuses(),
        [LifecycleStatus::Succeeded; 8],
        "what succeeded stays so"
    );
    assert_eq!(
        (rig.view().primary, rig.view().blue),
        (Side::Blue, TaskSetState::Stable)
    );
}

#[test]
fn alarms_are_heeded_until_the_end() {
    let mut rig = Rig::new(Spec {
        alarms: alarms(),
        ..canary()
    })
    .until_termination_wait();
    rig.alarms = Some(
        [
            ("blue".to_owned(), State::Ok),
            ("green".to_owned(), State::Alarm),
        ]
        .into(),
    );
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    assert!(
        rig.error().message.ends_with("Activated alarms: <green>"),
        "{:?}",
        rig.error()
    );
    assert_eq!(rig.weights(), (100, 0));
    assert_eq!(rig.view().primary, Side::Blue);
}
