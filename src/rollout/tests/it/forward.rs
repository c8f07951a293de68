//! Deployments that go well.

use std::time::Duration;

use rollout::alarm::State;
use rollout::deployment::{
    Command, Deployment, HookStatus, Observation, Refusal, Side, Spec, TaskSetState, WaitType,
};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus, TargetStatus};
use rollout::replay::replay;
use rollout::traffic::TrafficRouting;

use crate::rig::{ALL_HOOKS, ID, ROLLBACK_ID, Rig, START, alarms, canary, hooks};

#[test]
fn a_canary_with_a_test_listener_goes_through_eight_events() {
    let mut rig = Rig::new(Spec {
        alarms: alarms(),
        ..canary()
    })
    .until_shift();
    rig.pass(Duration::from_mins(20));
    insta::assert_snapshot!(rig.timeline(), @r"
    00:00.000 created
    00:02.000 = InProgress
    00:02.000 BeforeInstall InProgress
    00:02.000 BeforeInstall Succeeded
    00:02.000 Install InProgress
    00:02.000 Green Created
    01:02.000 Green Stable
    01:02.000 Install Succeeded
    01:02.000 AfterInstall InProgress
    01:02.000 AfterInstall Succeeded
    01:02.000 AllowTestTraffic InProgress
    01:02.000 test traffic to Green
    01:02.500 AllowTestTraffic Succeeded
    01:02.500 AfterAllowTestTraffic InProgress
    01:02.500 AfterAllowTestTraffic Succeeded
    01:02.500 BeforeAllowTraffic InProgress
    01:02.500 BeforeAllowTraffic Succeeded
    01:02.500 AllowTraffic InProgress
    01:02.500 weights 90/10
    06:02.500 weights 0/100
    06:02.500 Green PRIMARY
    06:03.000 AllowTraffic Succeeded
    06:03.000 AfterAllowTraffic InProgress
    06:03.000 AfterAllowTraffic Succeeded
    06:03.000 waits to terminate blue
    11:03.000 Blue Terminating
    11:03.000 ended Succeeded
    ");
    assert_eq!(
        rig.acts(),
        [
            Command::CreateGreen,
            Command::AllowTestTraffic,
            Command::SetWeights {
                blue: 90,
                green: 10
            },
            Command::SetWeights {
                blue: 0,
                green: 100
            },
            Command::MakeGreenPrimary,
            Command::TerminateBlue,
        ]
    );
    let view = rig.view();
    assert_eq!(view.status, DeploymentStatus::Succeeded);
    assert_eq!(view.target_status(), TargetStatus::Succeeded);
    assert_eq!(view.error, None);
    assert_eq!(view.rollback, None);
    assert_eq!(view.created, START);
    assert_eq!(view.updated, START + Duration::from_secs(663));
    assert_eq!(view.started, Some(START + Duration::from_secs(2)));
    assert_eq!(view.completed, Some(START + Duration::from_secs(663)));
}

#[test]
fn all_at_once_without_a_test_listener_goes_through_six_events() {
    let mut rig = Rig::new(Spec::new(ID, ROLLBACK_ID));
    assert_eq!(rig.status(), DeploymentStatus::Created);
    assert_eq!(rig.view().target_status(), TargetStatus::Pending);
    assert_eq!(rig.statuses(), [LifecycleStatus::Pending; 6]);
    rig.pass(Duration::from_secs(2));
    rig.see(Observation::TaskSetStable);
    rig.pass(Duration::from_secs(1));
    insta::assert_snapshot!(rig.timeline(), @r"
    00:00.000 created
    00:02.000 = InProgress
    00:02.000 BeforeInstall InProgress
    00:02.000 BeforeInstall Succeeded
    00:02.000 Install InProgress
    00:02.000 Green Created
    00:02.000 Green Stable
    00:02.000 Install Succeeded
    00:02.000 AfterInstall InProgress
    00:02.000 AfterInstall Succeeded
    00:02.000 BeforeAllowTraffic InProgress
    00:02.000 BeforeAllowTraffic Succeeded
    00:02.000 AllowTraffic InProgress
    00:02.000 weights 0/100
    00:02.000 Green PRIMARY
    00:02.500 AllowTraffic Succeeded
    00:02.500 AfterAllowTraffic InProgress
    00:02.500 AfterAllowTraffic Succeeded
    00:02.500 Blue Terminating
    00:02.500 ended Succeeded
    ");
}

#[test]
fn a_linear_shift_moves_in_equal_steps_without_drift() {
    let routing = TrafficRouting::linear(10, 1);
    let mut rig = Rig::new(Spec {
        routing,
        ..canary()
    })
    .until_shift();
    let shift = rig.now;
    for step in 1..=10_u8 {
        assert_eq!(rig.weights(), (100 - 10 * step, 10 * step));
        assert_eq!(rig.now, shift + Duration::from_mins(u64::from(step) - 1));
        let early = Duration::from_millis(59_999);
        if step < 10 {
            assert_eq!(rig.pass(early), []);
            rig.pass(Duration::from_millis(1));
        }
    }
    assert_eq!(rig.view().primary, Side::Green);
    assert_eq!(
        rig.event(LifecycleEvent::AllowTraffic),
        LifecycleStatus::InProgress
    );
    rig.pass(Duration::from_millis(500));
    assert_eq!(
        rig.event(LifecycleEvent::AllowTraffic),
        LifecycleStatus::Succeeded
    );
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    assert!(rig.view().termination_wait_started());
}

#[test]
fn a_late_tick_moves_traffic_once_and_dates_nothing_back() {
    let routing = TrafficRouting::linear(10, 1);
    let mut rig = Rig::new(Spec {
        routing,
        ..canary()
    })
    .until_shift();
    rig.now += Duration::from_secs(200);
    let commands = rig.see(Observation::Tick);
    assert_eq!(
        commands,
        [Command::SetWeights {
            blue: 60,
            green: 40
        }]
    );
    assert_eq!(rig.log.last().expect("an event").at, rig.now);
    // The plan is not stretched by it.
    rig.pass(Duration::from_secs(40));
    assert_eq!(rig.weights(), (50, 50));
}

#[test]
fn time_does_not_go_back() {
    let mut rig = Rig::new(canary()).until_shift();
    let before = rig.now;
    rig.now = START;
    assert_eq!(rig.see(Observation::Tick), []);
    rig.see(Observation::StopRequested {
        auto_rollback: None,
    });
    assert_eq!(rig.view().completed, Some(before));
}

#[test]
fn green_may_settle_before_the_shift_and_wobble_for_less_than_five_minutes_in_it() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&[LifecycleEvent::BeforeAllowTraffic]),
        ..canary()
    });
    rig.pass(Duration::from_secs(2));
    rig.see(Observation::TaskSetStable);
    rig.pass(Duration::from_secs(1));
    let Some(Command::InvokeHook { execution_id, .. }) = rig.acts().pop() else {
        panic!("the hook was called")
    };
    rig.see(Observation::TaskSetUnstable);
    rig.see(Observation::HookResult {
        execution_id,
        status: HookStatus::Succeeded,
    });
    assert_eq!(
        rig.event(LifecycleEvent::AllowTraffic),
        LifecycleStatus::InProgress
    );
    assert_eq!(
        rig.pass(Duration::from_millis(3_599_999)),
        [],
        "no traffic to an unsteady green"
    );
    assert_eq!(rig.weights(), (100, 0));
    let commands = rig.see(Observation::TaskSetStable);
    assert_eq!(
        commands,
        [Command::SetWeights {
            blue: 90,
            green: 10
        }]
    );
    // The plan counts from here.
    rig.pass(Duration::from_millis(10));
    rig.see(Observation::TaskSetUnstable);
    assert_eq!(rig.pass(Duration::from_millis(299_989)), []);
    rig.see(Observation::TaskSetStable);
    let commands = rig.pass(Duration::from_millis(1));
    assert_eq!(
        commands,
        [
            Command::SetWeights {
                blue: 0,
                green: 100
            },
            Command::MakeGreenPrimary
        ]
    );
}

#[test]
fn a_wobble_that_is_over_is_forgotten() {
    let routing = TrafficRouting::linear(10, 1);
    let mut rig = Rig::new(Spec {
        routing,
        ..canary()
    })
    .until_shift();
    for _ in 0..2 {
        rig.see(Observation::TaskSetUnstable);
        rig.pass(Duration::from_mins(3));
        rig.see(Observation::TaskSetStable);
    }
    rig.pass(Duration::from_mins(3));
    assert_eq!(rig.weights(), (0, 100));
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
}

#[test]
fn blue_is_whose_group_the_primary_task_set_uses() {
    use rollout::deployment::Roles;
    let first = Roles {
        blue: "a",
        green: "b",
    };
    assert_eq!(Roles::assign(["a", "b"], &"a"), Some(first));
    assert_eq!(Roles::assign(["b", "a"], &"a"), Some(first));
    assert_eq!(Roles::assign(["a", "b"], &"b"), Some(first.swap()));
    assert_eq!(Roles::assign(["b", "a"], &"b"), Some(first.swap()));
    assert_eq!(Roles::assign(["a", "b"], &"c"), None);
    assert_eq!(Roles::assign(["a", "a"], &"a"), None);
    assert_eq!(
        (*first.get(Side::Blue), *first.get(Side::Green)),
        ("a", "b")
    );
}

#[test]
fn stability_is_told_once() {
    let mut rig = Rig::new(canary()).until_shift();
    let told = rig.log.len();
    rig.see(Observation::TaskSetStable);
    assert_eq!(rig.log.len(), told);
    rig.see(Observation::TaskSetUnstable);
    rig.see(Observation::TaskSetUnstable);
    assert_eq!(rig.log.len(), told + 1);
    assert_eq!(rig.view().green, Some(TaskSetState::Unstable));
    rig.see(Observation::TaskSetStable);
    assert_eq!(rig.log.len(), told + 2);
    assert_eq!(rig.view().green, Some(TaskSetState::Stable));
}

#[test]
fn alarms_are_asked_for_before_anything_begins_and_every_ten_seconds() {
    let (mut deployment, step) = Deployment::new(
        Spec {
            alarms: alarms(),
            ..canary()
        },
        START,
    );
    let poll = Command::PollAlarms {
        names: vec!["blue".to_owned(), "green".to_owned()],
    };
    assert_eq!(step.commands, std::slice::from_ref(&poll));
    // No answer, no beginning.
    assert_eq!(
        deployment
            .observe(START + Duration::from_secs(9), Observation::Tick)
            .commands,
        []
    );
    assert_eq!(deployment.status(), DeploymentStatus::Created);
    assert_eq!(deployment.wake_at(), Some(START + Duration::from_secs(10)));
    let step = deployment.observe(START + Duration::from_secs(10), Observation::Tick);
    assert_eq!(step.commands, [poll]);
    let states = crate::rig::both(State::InsufficientData);
    let step = deployment.observe(START + Duration::from_secs(11), Observation::Alarms(states));
    assert_eq!(step.commands, [Command::CreateGreen]);
    assert_eq!(deployment.status(), DeploymentStatus::InProgress);
}

#[test]
fn alarms_that_are_not_configured_are_nobodys_business() {
    let mut rig = Rig::new(canary()).until_shift();
    rig.see(Observation::Alarms(crate::rig::both(State::Alarm)));
    rig.see(Observation::AlarmPollFailed);
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    assert!(
        rig.commands
            .iter()
            .all(|command| !matches!(command, Command::PollAlarms { .. }))
    );
}

#[test]
fn a_rollback_deployment_only_goes_through_its_events() {
    let of = Spec {
        hooks: hooks(&ALL_HOOKS),
        alarms: alarms(),
        ..canary()
    };
    let mut rig = Rig::new(
        of.rollback()
            .expect("a forward deployment can be rolled back"),
    );
    rig.see(Observation::ContinueRequested(WaitType::ReadyWait));
    assert_eq!(
        rig.refused,
        Some(Refusal::UnsupportedActionForDeploymentType)
    );
    rig.pass(Duration::from_mins(1));
    insta::assert_snapshot!(rig.timeline(), @r"
    00:00.000 created to undo d-AAAAAAAAA
    00:02.000 = InProgress
    00:02.000 BeforeInstall InProgress
    00:02.000 BeforeInstall Succeeded
    00:02.000 Install InProgress
    00:02.000 Install Succeeded
    00:02.000 AfterInstall InProgress
    00:02.000 AfterInstall Succeeded
    00:02.000 AllowTestTraffic InProgress
    00:02.000 AllowTestTraffic Succeeded
    00:02.000 AfterAllowTestTraffic InProgress
    00:02.000 AfterAllowTestTraffic Succeeded
    00:02.000 BeforeAllowTraffic InProgress
    00:02.000 BeforeAllowTraffic Succeeded
    00:02.000 AllowTraffic InProgress
    00:02.000 AllowTraffic Succeeded
    00:02.000 AfterAllowTraffic InProgress
    00:02.000 AfterAllowTraffic Succeeded
    00:02.000 ended Succeeded
    ");
    assert_eq!(rig.commands, []);
    let view = rig.view();
    assert_eq!(view.deployment_id, ROLLBACK_ID);
    assert_eq!(view.routing, TrafficRouting::AllAtOnce);
    assert_eq!(rig.weights(), (100, 0));
    let info = view.rollback.as_ref().expect("tied to what it undoes");
    assert_eq!(info.rollback_triggering_deployment_id.as_deref(), Some(ID));
    assert_eq!(info.rollback_deployment_id, None);
    assert_eq!(
        info.rollback_message,
        "Deployment d-BBBBBBBBB is triggered to roll back deployment d-AAAAAAAAA."
    );
    assert_eq!(
        rig.deployment.spec().rollback(),
        None,
        "a rollback is not rolled back"
    );
}

#[test]
fn a_deployment_can_be_stored_between_two_observations() {
    let mut rig = Rig::new(Spec {
        hooks: hooks(&ALL_HOOKS),
        alarms: alarms(),
        ..canary()
    })
    .until_shift_by_hooks();
    for _ in 0..40 {
        let json = serde_json::to_string(&rig.deployment).expect("writes");
        rig.deployment = serde_json::from_str(&json).expect("reads");
        rig.pass(Duration::from_secs(20));
    }
    assert_eq!(rig.weights(), (0, 100));
    assert_eq!(replay(&rig.log), [rig.view().clone()]);
}

impl Rig {
    /// Answers every hook at once, up to the first step of traffic.
    fn until_shift_by_hooks(mut self) -> Rig {
        while self.weights() == (100, 0) {
            self.pass(Duration::from_secs(1));
            match self.acts().pop() {
                Some(Command::InvokeHook { execution_id, .. }) => {
                    let status = HookStatus::Succeeded;
                    self.see(Observation::HookResult {
                        execution_id,
                        status,
                    });
                }
                Some(Command::CreateGreen) => {
                    self.see(Observation::TaskSetStable);
                }
                _ => {}
            }
        }
        self
    }
}
