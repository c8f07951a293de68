//! Deployments that end badly, with and without a rollback.

use std::time::Duration;

use rollout::alarm::State;
use rollout::appspec::AppSpec;
use rollout::deployment::{
    Alarms, AutoRollback, Command, ErrorCode, ErrorInformation, Kind, Observation, Refusal, Side,
    Spec, StopReason, TaskSetState, messages,
};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus, TargetStatus};
use rollout::traffic::TrafficRouting;

use crate::rig::{ID, ROLLBACK_ID, Rig, alarms, both, canary};

use LifecycleStatus::{Failed, Skipped, Succeeded};

fn with_alarms() -> Spec {
    Spec {
        alarms: alarms(),
        ..canary()
    }
}

/// The rollback deployment that the last commands create.
fn rollback_of(commands: &[Command]) -> &Spec {
    match commands.last() {
        Some(Command::CreateRollbackDeployment { spec }) => spec,
        other => panic!("expected a rollback deployment, not {other:?}"),
    }
}

#[test]
fn an_alarm_in_the_canary_brings_traffic_back() {
    let mut rig = Rig::new(with_alarms()).until_shift();
    rig.pass(Duration::from_mins(2));
    rig.alarms = Some(both(State::Alarm));
    let commands = rig.pass(Duration::from_secs(10));
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
    03:10.000 AllowTraffic Failed (UnknownError)
    03:10.000 AfterAllowTraffic Skipped
    03:10.000 weights 100/0
    03:10.000 test traffic to Blue
    03:10.000 Green Terminating
    03:10.000 rolled back by d-BBBBBBBBB (Alarm)
    03:10.000 ended Stopped (ALARM_ACTIVE)
    ");
    assert_eq!(
        commands[..3],
        [
            Command::SetWeights {
                blue: 100,
                green: 0
            },
            Command::RestoreTestTraffic,
            Command::TerminateGreen,
        ]
    );
    let rollback = rollback_of(&commands);
    assert_eq!(rollback.deployment_id, ROLLBACK_ID);
    assert_eq!(rollback.kind, Kind::Rollback { of: ID.to_owned() });
    assert_eq!(rollback.routing, TrafficRouting::AllAtOnce);
    assert!(rollback.test_listener);
    assert_eq!((rollback.hooks.len(), rollback.alarms.names.len()), (0, 0));
    assert_eq!(
        (
            rollback.ready_wait,
            rollback.termination_wait,
            rollback.auto_rollback
        ),
        (None, Duration::ZERO, AutoRollback::NONE)
    );
    assert_eq!(
        rig.error(),
        &ErrorInformation {
            code: ErrorCode::AlarmActive,
            message: "One or more alarms have been activated according to the Amazon CloudWatch metrics you selected, and the affected deployments have been stopped. Activated alarms: <blue> <green>".to_owned(),
        }
    );
    let info = rig.view().rollback.as_ref().expect("rolled back");
    assert_eq!(info.rollback_deployment_id.as_deref(), Some(ROLLBACK_ID));
    assert_eq!(info.rollback_triggering_deployment_id, None);
    assert_eq!(
        info.rollback_message,
        "Deployment d-AAAAAAAAA terminated. Automatic rollback is triggered with a DeploymentId d-BBBBBBBBB."
    );
    assert_eq!(rig.view().target_status(), TargetStatus::Failed);
    assert_eq!(rig.view().blue, TaskSetState::Stable);
}

#[test]
fn an_alarm_during_install_fails_install_and_skips_the_rest() {
    let mut rig = Rig::new(with_alarms()).until_install();
    rig.pass(Duration::from_secs(90));
    rig.alarms = Some(both(State::Alarm));
    let commands = rig.pass(Duration::from_secs(10));
    assert_eq!(
        commands[..1],
        [Command::TerminateGreen],
        "no traffic was moved"
    );
    let (s, f, k) = (Succeeded, Failed, Skipped);
    assert_eq!(rig.statuses(), [s, f, k, k, k, k, k, k]);
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    rollback_of(&commands);
}

#[test]
fn an_alarm_that_is_red_already_stops_the_deployment_at_once() {
    let mut rig = Rig::new(with_alarms());
    // The rig answered the first poll with OK; the next answer comes before the beginning.
    let commands = rig.see(Observation::Alarms(both(State::Alarm)));
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    assert_eq!(rig.error().code, ErrorCode::AlarmActive);
    assert_eq!(rig.statuses(), [Skipped; 8]);
    assert_eq!(rig.view().started, None);
    assert_eq!(rig.view().completed, Some(rig.view().created));
    assert_eq!(rig.view().target_status(), TargetStatus::Skipped);
    assert_eq!(commands.len(), 1, "there is nothing to put back");
    rollback_of(&commands);
}

#[test]
fn an_alarm_without_the_rollback_event_only_stops() {
    let auto_rollback = AutoRollback {
        on_alarm: false,
        ..AutoRollback::ALL
    };
    let mut rig = Rig::new(Spec {
        auto_rollback,
        ..with_alarms()
    })
    .until_shift();
    rig.alarms = Some(both(State::Alarm));
    assert_eq!(rig.pass(Duration::from_secs(10)), []);
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    assert_eq!(rig.weights(), (90, 10), "traffic stays where it was");
    assert_eq!(rig.view().green, Some(TaskSetState::Stable));
    assert_eq!(rig.view().rollback, None);
}

#[test]
fn each_ending_is_rolled_back_by_its_own_event_only() {
    let none = AutoRollback::NONE;
    let on_failure = AutoRollback {
        on_failure: true,
        ..none
    };
    let on_alarm = AutoRollback {
        on_alarm: true,
        ..none
    };
    let on_request = AutoRollback {
        on_request: true,
        ..none
    };
    let failure = || {
        Observation::CommandFailed(ErrorInformation {
            code: ErrorCode::EcsUpdateError,
            message: "no".to_owned(),
        })
    };
    let alarm = || Observation::Alarms(both(State::Alarm));
    let stop = || Observation::StopRequested {
        auto_rollback: None,
    };
    for (auto_rollback, observation, reason) in [
        (on_failure, failure(), Some(StopReason::Failure)),
        (on_failure, alarm(), None),
        (on_failure, Observation::AlarmPollFailed, None),
        (on_failure, stop(), None),
        (on_alarm, failure(), None),
        (on_alarm, alarm(), Some(StopReason::Alarm)),
        (
            on_alarm,
            Observation::AlarmPollFailed,
            Some(StopReason::Alarm),
        ),
        (on_alarm, stop(), None),
        (on_request, failure(), None),
        (on_request, alarm(), None),
        (on_request, Observation::AlarmPollFailed, None),
        (on_request, stop(), Some(StopReason::Request)),
    ] {
        let mut rig = Rig::new(Spec {
            auto_rollback,
            ..with_alarms()
        })
        .until_shift();
        rig.see(observation.clone());
        assert!(rig.status().is_terminal());
        assert_eq!(
            rig.view().rollback_reason,
            reason,
            "{auto_rollback:?} {observation:?}"
        );
        let expected = if reason.is_some() { (100, 0) } else { (90, 10) };
        assert_eq!(rig.weights(), expected);
    }
}

#[test]
fn a_request_can_force_or_forbid_the_rollback() {
    for (configured, requested, rolled_back) in [
        (true, None, true),
        (true, Some(true), true),
        (true, Some(false), false),
        (false, None, false),
        (false, Some(true), true),
        (false, Some(false), false),
    ] {
        let auto_rollback = AutoRollback {
            on_request: configured,
            ..AutoRollback::NONE
        };
        let mut rig = Rig::new(Spec {
            auto_rollback,
            ..canary()
        })
        .until_shift();
        let commands = rig.see(Observation::StopRequested {
            auto_rollback: requested,
        });
        assert_eq!(rig.refused, None);
        assert_eq!(rig.status(), DeploymentStatus::Stopped);
        assert_eq!(rig.error().code, ErrorCode::ManualStop);
        assert_eq!(
            !commands.is_empty(),
            rolled_back,
            "{configured} {requested:?}"
        );
        assert_eq!(rig.view().rollback.is_some(), rolled_back);
    }
}

#[test]
fn a_stop_before_traffic_moved_leaves_or_removes_green() {
    for (rolled_back, green) in [
        (true, Some(TaskSetState::Terminating)),
        (false, Some(TaskSetState::Created)),
    ] {
        let mut rig = Rig::new(canary()).until_install();
        rig.see(Observation::StopRequested {
            auto_rollback: Some(rolled_back),
        });
        assert_eq!(rig.view().green, green);
        assert_eq!(rig.weights(), (100, 0));
    }
}

#[test]
fn an_ended_deployment_listens_to_nothing() {
    let mut rig = Rig::new(with_alarms()).until_shift();
    rig.see(Observation::StopRequested {
        auto_rollback: None,
    });
    let (log, ended) = (rig.log.clone(), rig.deployment.clone());
    rig.now += Duration::from_secs(100);
    for observation in [
        Observation::Tick,
        Observation::TaskSetStable,
        Observation::TaskSetUnstable,
        Observation::Alarms(both(State::Alarm)),
        Observation::AlarmPollFailed,
        Observation::CommandFailed(messages::alarms_active(&["late"])),
    ] {
        assert_eq!(rig.see(observation), []);
        assert_eq!(rig.refused, None);
    }
    rig.see(Observation::StopRequested {
        auto_rollback: Some(true),
    });
    assert_eq!(rig.refused, Some(Refusal::DeploymentAlreadyCompleted));
    assert_eq!(rig.log, log);
    assert_eq!(rig.view(), ended.view());
    assert_eq!(rig.deployment.wake_at(), None);
}

#[test]
fn a_green_that_is_never_stable_fails_after_an_hour() {
    let mut rig = Rig::new(canary()).until_install();
    assert_eq!(rig.pass(Duration::from_millis(3_599_999)), []);
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    // The limit wins over what comes at the same moment.
    rig.now += Duration::from_millis(1);
    let commands = rig.see(Observation::TaskSetStable);
    assert_eq!(rig.status(), DeploymentStatus::Failed);
    assert_eq!(rig.error().code, ErrorCode::Timeout);
    assert_eq!(rig.error().message, messages::NEVER_HEALTHY);
    assert_eq!(commands[0], Command::TerminateGreen);
}

#[test]
fn a_green_that_does_not_settle_before_the_shift_fails_after_an_hour() {
    let mut rig = Rig::new(canary()).until_stable();
    rig.see(Observation::TaskSetUnstable);
    rig.pass(Duration::from_millis(500));
    assert_eq!(
        rig.event(LifecycleEvent::AllowTraffic),
        LifecycleStatus::InProgress
    );
    rig.pass(Duration::from_millis(3_599_999));
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.status(), DeploymentStatus::Failed);
    assert_eq!(rig.event(LifecycleEvent::AllowTraffic), Failed);
    assert!(
        !rig.acts()
            .iter()
            .any(|command| matches!(command, Command::SetWeights { .. }))
    );
}

#[test]
fn a_green_that_is_unsteady_for_five_minutes_of_the_shift_fails() {
    let routing = TrafficRouting::linear(10, 3);
    let mut rig = Rig::new(Spec {
        routing,
        ..canary()
    })
    .until_shift();
    rig.pass(Duration::from_mins(1));
    rig.see(Observation::TaskSetUnstable);
    let commands = rig.pass(Duration::from_millis(299_999));
    assert_eq!(
        commands,
        [Command::SetWeights {
            blue: 80,
            green: 20
        }],
        "it keeps shifting"
    );
    assert_eq!(rig.status(), DeploymentStatus::InProgress);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.status(), DeploymentStatus::Failed);
    assert_eq!(rig.error().message, messages::UNSTEADY);
    assert_eq!(rig.weights(), (100, 0));
}

#[test]
fn unsteadiness_after_the_shift_is_ecs_business() {
    let mut rig = Rig::new(canary()).until_termination_wait();
    rig.see(Observation::TaskSetUnstable);
    rig.pass(Duration::from_mins(6));
    assert_eq!(rig.status(), DeploymentStatus::Succeeded);
}

#[test]
fn what_must_be_true_before_the_first_command_fails_the_deployment_before_install() {
    let mut rig = Rig::new(canary());
    let error = ErrorInformation {
        code: ErrorCode::EcsUpdateError,
        message: messages::PRIMARY_NOT_BEHIND_LISTENER.to_owned(),
    };
    rig.see(Observation::CommandFailed(error.clone()));
    assert_eq!(rig.status(), DeploymentStatus::Failed);
    assert_eq!(rig.error(), &error);
    assert_eq!(rig.statuses(), [Skipped; 8]);
    assert!(!rig.acts().contains(&Command::CreateGreen));
}

#[test]
fn an_appspec_that_cannot_be_read_is_told_in_codedeploys_words() {
    let told = |text: &str| {
        let error = AppSpec::parse(text).expect_err("is not an AppSpec");
        messages::invalid_appspec(&error)
    };
    let start = "The deployment failed because the AppSpec file that specifies the deployment configuration is missing or has an invalid configuration.";
    let syntax = told("{");
    assert_eq!(syntax.code, ErrorCode::InvalidRevision);
    let yaml =
        " The input AppSpec file is a not well-formed yaml. The template cannot be parsed. (";
    assert!(
        syntax.message.starts_with(&format!("{start}{yaml}")),
        "{syntax}"
    );
    assert_eq!(
        told("version: 0.0").message,
        format!("{start} (the AppSpec is invalid at Resources: it is required and missing)")
    );
}

#[test]
fn a_command_that_fails_fails_the_event_that_gave_it() {
    let mut rig = Rig::new(canary()).until_stable();
    assert_eq!(rig.acts().last(), Some(&Command::AllowTestTraffic));
    rig.see(Observation::CommandFailed(ErrorInformation {
        code: ErrorCode::ElasticLoadBalancingInvalid,
        message: "no listener".to_owned(),
    }));
    assert_eq!(rig.event(LifecycleEvent::AllowTestTraffic), Failed);
    let state = rig
        .view()
        .lifecycle_event(LifecycleEvent::AllowTestTraffic)
        .expect("listed");
    assert_eq!(
        state.diagnostics.as_ref().expect("says why").message,
        "no listener"
    );

    let routing = TrafficRouting::AllAtOnce;
    let mut rig = Rig::new(Spec {
        routing,
        ..canary()
    })
    .until_shift();
    assert_eq!(rig.acts().last(), Some(&Command::MakeGreenPrimary));
    rig.see(Observation::CommandFailed(ErrorInformation {
        code: ErrorCode::EcsUpdateError,
        message: "no primary".to_owned(),
    }));
    assert_eq!(rig.event(LifecycleEvent::AllowTraffic), Failed);
    assert_eq!((rig.weights(), rig.view().primary), ((100, 0), Side::Blue));
}

#[test]
fn alarms_that_cannot_be_polled_stop_the_deployment_unless_that_is_ignored() {
    let missing = || Some([("blue".to_owned(), State::Ok)].into());
    for (ignore_poll_failure, answer) in [
        (false, None),
        (false, missing()),
        (true, None),
        (true, missing()),
    ] {
        let spec = Spec {
            alarms: Alarms {
                ignore_poll_failure,
                ..alarms()
            },
            ..canary()
        };
        let mut rig = Rig::new(spec).until_shift();
        rig.alarms = answer;
        rig.pass(Duration::from_secs(10));
        if ignore_poll_failure {
            assert_eq!(rig.status(), DeploymentStatus::InProgress);
        } else {
            assert_eq!(rig.status(), DeploymentStatus::Stopped);
            assert_eq!(rig.error().message, messages::ALARMS_UNKNOWN);
            assert_eq!(rig.view().rollback_reason, Some(StopReason::Alarm));
        }
    }
}

#[test]
fn an_ignored_poll_failure_lets_the_deployment_begin_but_no_alarm_pass() {
    let spec = Spec {
        alarms: Alarms {
            ignore_poll_failure: true,
            ..alarms()
        },
        ..canary()
    };
    let mut rig = Rig::new(spec).until_install();
    rig.alarms = Some([("blue".to_owned(), State::Alarm)].into());
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.error().code, ErrorCode::AlarmActive);
}

#[test]
fn a_deployment_that_hears_nothing_of_its_alarms_fails_after_five_minutes() {
    let (mut deployment, _) =
        rollout::deployment::Deployment::new(with_alarms(), crate::rig::START);
    let mut at = crate::rig::START;
    while let Some(wake_at) = deployment.wake_at() {
        at = wake_at;
        let step = deployment.observe(at, Observation::Tick);
        assert!(!step.commands.contains(&Command::CreateGreen));
    }
    assert_eq!(at, crate::rig::START + Duration::from_mins(5));
    assert_eq!(deployment.status(), DeploymentStatus::Failed);
    let error = deployment.view().error.as_ref().expect("ended badly");
    assert_eq!(
        (error.code, error.message.as_str()),
        (ErrorCode::Timeout, messages::NOT_STARTED)
    );
}

#[test]
fn a_rollback_deployment_can_be_stopped_and_is_not_rolled_back() {
    let mut rig = Rig::new(canary().rollback().expect("a forward deployment"));
    let commands = rig.see(Observation::StopRequested {
        auto_rollback: Some(true),
    });
    assert_eq!(commands, []);
    assert_eq!(rig.status(), DeploymentStatus::Stopped);
    let info = rig
        .view()
        .rollback
        .as_ref()
        .expect("still tied to what it undoes");
    assert_eq!(info.rollback_triggering_deployment_id.as_deref(), Some(ID));
}
