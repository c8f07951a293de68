//! Hook functions: when they are called, and what their answers do.

use std::time::Duration;

use rollout::deployment::{
    Command, ErrorCode, HookStatus, LifecycleErrorCode, Observation, Refusal, Spec, messages,
};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};

use crate::rig::{ALL_HOOKS, ROLLBACK_ID, Rig, canary, hooks};

use LifecycleStatus::{Failed, Skipped};

#[test]
fn every_hook_is_called_once_and_holds_the_deployment() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&ALL_HOOKS),
        ..canary()
    });
    rig.pass(Duration::from_secs(2));
    let mut ids = Vec::new();
    for expected in ALL_HOOKS {
        // Up to the call: nothing but time and a stable green is needed.
        let call = loop {
            let called = rig.commands.iter().rev().find_map(|command| match command {
                Command::InvokeHook {
                    event,
                    function,
                    execution_id,
                } if *event == expected => Some((function.clone(), execution_id.clone())),
                _ => None,
            });
            if let Some(call) = called {
                break call;
            }
            if rig.event(LifecycleEvent::Install) == LifecycleStatus::InProgress {
                rig.see(Observation::TaskSetStable);
            } else {
                rig.pass(Duration::from_secs(1));
            }
        };
        assert_eq!(call.0, format!("on{expected}"));
        assert_eq!(rig.event(expected), LifecycleStatus::InProgress);
        let acts = rig.acts().len();
        rig.pass(Duration::from_millis(3_599_999) - Duration::from_secs(1));
        assert_eq!(rig.acts().len(), acts, "{expected} waits for its hook");
        rig.see(Observation::HookResult {
            execution_id: call.1.clone(),
            status: HookStatus::Succeeded,
        });
        assert_eq!(rig.refused, None);
        assert_eq!(rig.event(expected), LifecycleStatus::Succeeded);
        // Nobody answers twice.
        rig.see(Observation::HookResult {
            execution_id: call.1.clone(),
            status: HookStatus::Failed,
        });
        assert_eq!(rig.refused, Some(Refusal::LifecycleEventAlreadyCompleted));
        ids.push(call.1);
    }
    let invoked = rig
        .acts()
        .iter()
        .filter(|c| matches!(c, Command::InvokeHook { .. }))
        .count();
    assert_eq!(invoked, 5);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5, "each call has an id of its own");
    assert!(
        ids.iter()
            .all(|id| !id.contains("Allow") && !id.contains("Install")),
        "opaque: {ids:?}"
    );
    rig.pass(Duration::from_mins(5));
    assert_eq!(rig.status(), DeploymentStatus::Succeeded);
}

#[test]
fn an_answer_to_no_call_is_refused() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&[LifecycleEvent::AfterInstall]),
        ..canary()
    })
    .until_install();
    let answer = |id: &str| Observation::HookResult {
        execution_id: id.to_owned(),
        status: HookStatus::Succeeded,
    };
    rig.see(answer("nonsense"));
    assert_eq!(
        rig.refused,
        Some(Refusal::InvalidLifecycleEventHookExecutionId)
    );
    rig.see(Observation::TaskSetStable);
    let Some(Command::InvokeHook { execution_id, .. }) = rig.acts().pop() else {
        panic!("the hook was called")
    };
    // The same event of another deployment has another id.
    let mut other = Rig::new(Spec {
        hooks: hooks(&[LifecycleEvent::AfterInstall]),
        ..Spec::new("d-CCCCCCCCC", ROLLBACK_ID)
    })
    .until_stable();
    other.see(answer(&execution_id));
    assert_eq!(
        other.refused,
        Some(Refusal::InvalidLifecycleEventHookExecutionId)
    );
    assert_eq!(
        other.event(LifecycleEvent::AfterInstall),
        LifecycleStatus::InProgress
    );
}

#[test]
fn a_hook_on_test_traffic_does_nothing_without_a_test_listener() {
    let spec = Spec {
        hooks: hooks(&[LifecycleEvent::AfterAllowTestTraffic]),
        test_listener: false,
        ..canary()
    };
    let mut rig = Rig::new(spec).until_shift();
    rig.pass(Duration::from_mins(11));
    assert_eq!(rig.status(), DeploymentStatus::Succeeded);
    assert!(
        !rig.acts()
            .iter()
            .any(|command| matches!(command, Command::InvokeHook { .. }))
    );
    assert_eq!(rig.view().test_traffic, None);
}

#[test]
fn functions_on_events_without_hooks_are_never_called() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&LifecycleEvent::ALL),
        ..canary()
    });
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.acts().len(), 1);
    assert!(matches!(
        rig.acts()[0],
        Command::InvokeHook {
            event: LifecycleEvent::BeforeInstall,
            ..
        }
    ));
    let Command::InvokeHook { execution_id, .. } = rig.acts()[0].clone() else {
        panic!("a call")
    };
    rig.see(Observation::HookResult {
        execution_id,
        status: HookStatus::Succeeded,
    });
    assert_eq!(rig.acts().pop(), Some(Command::CreateGreen));
}

#[test]
fn a_hook_cannot_be_answered_before_it_is_called() {
    let spec = || Spec {
        hooks: hooks(&[LifecycleEvent::AfterInstall]),
        ..canary()
    };
    let Some(Command::InvokeHook { execution_id, .. }) =
        Rig::new(spec()).until_stable().acts().pop()
    else {
        panic!("the hook was called")
    };
    // The same deployment, a little earlier.
    let mut rig = Rig::new(spec()).until_install();
    rig.see(Observation::HookResult {
        execution_id,
        status: HookStatus::Succeeded,
    });
    assert_eq!(
        rig.refused,
        Some(Refusal::InvalidLifecycleEventHookExecutionId)
    );
    rig.see(Observation::TaskSetStable);
    assert_eq!(
        rig.event(LifecycleEvent::AfterInstall),
        LifecycleStatus::InProgress
    );
}

#[test]
fn a_hook_that_fails_fails_the_deployment_and_names_the_function() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&[LifecycleEvent::AfterAllowTraffic]),
        ..canary()
    })
    .until_shift();
    rig.pass(Duration::from_mins(6));
    let Some(Command::InvokeHook { execution_id, .. }) = rig.acts().pop() else {
        panic!("the hook was called")
    };
    assert_eq!(
        rig.weights(),
        (0, 100),
        "this hook runs when users are on green"
    );
    let commands = rig.see(Observation::HookResult {
        execution_id,
        status: HookStatus::Failed,
    });
    assert_eq!(rig.status(), DeploymentStatus::Failed);
    assert_eq!(rig.error().code, ErrorCode::HookExecutionFailure);
    assert_eq!(
        rig.error().message,
        "The deployment failed because one or more of the lifecycle event validation functions failed."
    );
    let state = rig
        .view()
        .lifecycle_event(LifecycleEvent::AfterAllowTraffic)
        .expect("listed");
    assert_eq!(state.status, Failed);
    assert_eq!(state.end, Some(rig.now));
    let why = state.diagnostics.as_ref().expect("says why");
    assert_eq!(why.error_code, LifecycleErrorCode::ScriptFailed);
    assert_eq!(why.script_name, "onAfterAllowTraffic");
    assert_eq!(
        commands[0],
        Command::SetWeights {
            blue: 100,
            green: 0
        }
    );
    assert!(commands.contains(&Command::MakeBluePrimary));
    assert_eq!(rig.weights(), (100, 0));
}

#[test]
fn a_hook_that_stays_silent_for_an_hour_fails_the_deployment() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&[LifecycleEvent::BeforeInstall]),
        ..canary()
    });
    rig.pass(Duration::from_secs(2));
    rig.pass(Duration::from_millis(3_599_999));
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.status(), DeploymentStatus::Failed);
    assert_eq!(rig.error().code, ErrorCode::Timeout);
    assert_eq!(rig.error().message, messages::HOOK_SILENT);
    let (f, k) = (Failed, Skipped);
    assert_eq!(rig.statuses(), [f, k, k, k, k, k, k, k]);
    let state = rig
        .view()
        .lifecycle_event(LifecycleEvent::BeforeInstall)
        .expect("listed");
    let why = state.diagnostics.as_ref().expect("says why");
    assert_eq!(why.error_code, LifecycleErrorCode::ScriptTimedOut);
}
