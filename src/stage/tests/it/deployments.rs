//! Deployments from the first request to the last event, with real tasks and real traffic.
//!
//! The names of some tests begin with the line of the fidelity checklist (section 14 of the fact
//! sheet on CodeDeploy and ECS) that they test.

use std::time::Duration;

use aws_sdk_codedeploy::types::{
    self as cd, DeploymentCreator, DeploymentStatus, ErrorCode, LifecycleEventStatus,
};
use rollout::alarm::State;
use stage::traffic::{Traffic, TrafficOptions};

use crate::world::{ALL_AT_ONCE, CANARY, LINEAR, Setting, World, code, message};

const EIGHT: [&str; 8] = [
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "AllowTestTraffic",
    "AfterAllowTestTraffic",
    "BeforeAllowTraffic",
    "AllowTraffic",
    "AfterAllowTraffic",
];

fn quick() -> Setting {
    Setting {
        config: ALL_AT_ONCE,
        termination_wait: 0,
        ..Setting::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_1_eight_lifecycle_events_pending_from_the_start() {
    let world = World::serving(60.0, Setting::default()).await;
    let id = world
        .deploy(&[("MESSAGE", "green"), ("NEVER_HEALTHY", "1")])
        .await;
    world
        .until("it has started", async || world.target(&id).await.is_some())
        .await;
    let events = world.events(&id).await;
    assert_eq!(
        events
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        EIGHT
    );
    world
        .until("Install runs", async || {
            world.events(&id).await[1].1 == LifecycleEventStatus::InProgress
        })
        .await;
    let events = world.events(&id).await;
    assert!(
        events[2..]
            .iter()
            .all(|(_, status)| *status == LifecycleEventStatus::Pending)
    );
    let target = world.target(&id).await.unwrap();
    assert!(target.lifecycle_events()[2].start_time().is_none());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_1_six_lifecycle_events_without_a_test_listener() {
    let setting = Setting {
        test_listener: false,
        ..quick()
    };
    let world = World::serving(120.0, setting).await;
    let id = world.deploy(&[]).await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    let events = world
        .events_that_are(&id, LifecycleEventStatus::Succeeded)
        .await;
    let six: Vec<&str> = EIGHT
        .into_iter()
        .filter(|name| !name.contains("TestTraffic"))
        .collect();
    assert_eq!(events, six);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_2_in_progress_and_exclusive_through_the_termination_wait() {
    let setting = Setting {
        config: ALL_AT_ONCE,
        termination_wait: 60,
        ..Setting::default()
    };
    let world = World::serving(60.0, setting).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world
        .until("the termination wait", async || {
            world.info(&id).await.instance_termination_wait_time_started
        })
        .await;
    let info = world.info(&id).await;
    assert_eq!(info.status, Some(DeploymentStatus::InProgress));
    assert_eq!(world.get("/").await.1, "green");
    assert_eq!(world.service().await.task_sets().len(), 2);
    let events = world
        .events_that_are(&id, LifecycleEventStatus::Succeeded)
        .await;
    assert_eq!(events, EIGHT);

    let definition = world.register(&[]).await;
    let second = world
        .deployment_of(&world.appspec(&definition, &[]))
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&second), "DeploymentLimitExceededException");
    assert_eq!(
        message(&second),
        format!("The Deployment Group 'demo' already has an active Deployment '{id}'")
    );

    // Ended now, by ContinueDeployment, an hour before its time.
    world
        .codedeploy
        .continue_deployment()
        .deployment_id(&id)
        .deployment_wait_type(cd::DeploymentWaitType::TerminationWait)
        .send()
        .await
        .unwrap();
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    world.until_alone().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_3_an_alarm_stops_and_a_separate_deployment_rolls_back() {
    let world = World::empty(60.0).await;
    put_alarm(&world, "demo-b-5xx", "demo-b");
    let setting = Setting {
        alarms: vec!["demo-b-5xx"],
        ..Setting::default()
    };
    world.serve(&setting, 1).await;
    let mut events = world.stage.events().subscribe();

    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_weight("demo-b", 10).await;
    world
        .stage
        .alarms()
        .set_state("demo-b-5xx", State::Alarm, "a test")
        .unwrap();
    let info = world.until_status(&id, DeploymentStatus::Stopped).await;

    // Traffic is back already when the end is shown.
    assert_eq!((world.weight("demo-a"), world.weight("demo-b")), (100, 0));
    let error = info.error_information().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::AlarmActive));
    assert!(
        error
            .message()
            .unwrap()
            .ends_with("Activated alarms: <demo-b-5xx>"),
        "{error:?}"
    );
    assert_eq!(
        world
            .events_that_are(&id, LifecycleEventStatus::Failed)
            .await,
        ["AllowTraffic"]
    );
    assert_eq!(
        world
            .events_that_are(&id, LifecycleEventStatus::Skipped)
            .await,
        ["AfterAllowTraffic"]
    );

    let rollback = info.rollback_info().unwrap();
    let rollback_id = rollback.rollback_deployment_id().unwrap();
    assert_eq!(
        rollback.rollback_message(),
        Some(
            format!("Deployment {id} terminated. Automatic rollback is triggered with a DeploymentId {rollback_id}.")
                .as_str()
        )
    );
    // The rollback is not stopped by the alarm, which is still red.
    let back = world
        .until_status(rollback_id, DeploymentStatus::Succeeded)
        .await;
    assert_eq!(back.creator(), Some(&DeploymentCreator::CodeDeployRollback));
    assert_eq!(back.deployment_config_name(), Some(ALL_AT_ONCE));
    assert_eq!(info.creator(), Some(&DeploymentCreator::User));
    assert_eq!(info.deployment_config_name(), Some(CANARY));
    let tie = back.rollback_info().unwrap();
    assert_eq!(tie.rollback_triggering_deployment_id(), Some(id.as_str()));
    assert_eq!(
        tie.rollback_message(),
        Some(
            format!("Deployment {rollback_id} is triggered to roll back deployment {id}.").as_str()
        )
    );
    // No new task set: blue is PRIMARY, green on its way out.
    world.until_alone().await;
    let service = world.service().await;
    assert_eq!(service.task_sets()[0].status(), Some("PRIMARY"));
    assert_eq!(service.task_sets()[0].external_id(), None);
    assert_eq!(world.get("/").await.1, "blue");
    let told: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    assert!(
        !told
            .iter()
            .any(|entry| matches!(&entry.event, rollout::event::Event::HookInvoked { .. }))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_3_a_failed_hook_fails_and_rolls_back_without_hooks() {
    let world = World::serving(120.0, quick()).await;
    let calls = answer_hooks(
        &world,
        "CodeDeployHook_check",
        cd::LifecycleEventStatus::Failed,
    );
    let hooks = [
        ("AfterAllowTestTraffic", "CodeDeployHook_check"),
        ("AfterInstall", "nobody"),
    ];
    let id = world
        .deploy_with_hooks(&[("MESSAGE", "green")], &hooks[..1])
        .await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    let error = info.error_information().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::HookExecutionFailure));
    assert_eq!(
        world
            .events_that_are(&id, LifecycleEventStatus::Failed)
            .await,
        ["AfterAllowTestTraffic"]
    );
    let target = world.target(&id).await.unwrap();
    let failed = &target.lifecycle_events()[4];
    let diagnostics = failed.diagnostics().unwrap();
    assert_eq!(
        diagnostics.error_code(),
        Some(&cd::LifecycleErrorCode::ScriptFailed)
    );
    let rollback_id = info
        .rollback_info()
        .unwrap()
        .rollback_deployment_id()
        .unwrap();
    world
        .until_status(rollback_id, DeploymentStatus::Succeeded)
        .await;
    let calls = calls.lock().unwrap().clone();
    assert_eq!(calls.len(), 1, "the rollback calls no hooks");
    // Exactly two fields, and nothing that tells the event.
    let mut fields: Vec<_> = calls[0].as_object().unwrap().keys().cloned().collect();
    fields.sort();
    assert_eq!(fields, ["DeploymentId", "LifecycleEventHookExecutionId"]);
    assert_eq!(world.get("/").await.1, "blue");
    // Test traffic is back on blue.
    assert_eq!(world.get_test("/").await.1, "blue");

    // A function that is not there.
    world.until_alone().await;
    let id = world.deploy_with_hooks(&[], &hooks[1..]).await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    assert!(
        info.error_information()
            .unwrap()
            .message()
            .unwrap()
            .contains("nobody")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_succeed_let_the_deployment_go_on() {
    let world = World::serving(120.0, quick()).await;
    let calls = answer_hooks(
        &world,
        "CodeDeployHook_check",
        cd::LifecycleEventStatus::Succeeded,
    );
    let arn = "arn:aws:lambda:eu-west-1:000000000000:function:CodeDeployHook_check";
    let hooks = [
        "BeforeInstall",
        "AfterInstall",
        "AfterAllowTestTraffic",
        "BeforeAllowTraffic",
        "AfterAllowTraffic",
    ]
    .map(|event| (event, arn));
    let id = world
        .deploy_with_hooks(&[("MESSAGE", "green")], &hooks)
        .await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    let ids: std::collections::BTreeSet<String> = calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| {
            call["LifecycleEventHookExecutionId"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(ids.len(), 5, "five calls with an id each");

    // An answer that comes late, one with another id, and one with a status that is not taken.
    let put = |execution: &str, status: cd::LifecycleEventStatus| {
        let request = world
            .codedeploy
            .put_lifecycle_event_hook_execution_status()
            .deployment_id(&id)
            .lifecycle_event_hook_execution_id(execution)
            .status(status);
        async move { code(&request.send().await.unwrap_err()) }
    };
    let known = ids.first().unwrap();
    assert_eq!(
        put(known, LifecycleEventStatus::Succeeded).await,
        "LifecycleEventAlreadyCompletedException"
    );
    assert_eq!(
        put("x", LifecycleEventStatus::Succeeded).await,
        "InvalidLifecycleEventHookExecutionIdException"
    );
    assert_eq!(
        put(known, LifecycleEventStatus::Skipped).await,
        "InvalidLifecycleEventHookExecutionStatusException"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_4_an_alarm_that_is_red_already_stops_at_once() {
    let world = World::empty(60.0).await;
    put_alarm(&world, "red", "demo-a");
    let setting = Setting {
        alarms: vec!["red"],
        ..Setting::default()
    };
    world.serve(&setting, 1).await;
    world
        .stage
        .alarms()
        .set_state("red", State::Alarm, "a test")
        .unwrap();
    let id = world.deploy(&[]).await;
    let info = world.until_status(&id, DeploymentStatus::Stopped).await;
    assert_eq!(
        info.error_information().unwrap().code(),
        Some(&ErrorCode::AlarmActive)
    );
    let took =
        info.complete_time().unwrap().as_secs_f64() - info.create_time().unwrap().as_secs_f64();
    assert!(took < 10.0, "{took} virtual seconds");
    let events = world
        .events_that_are(&id, LifecycleEventStatus::Skipped)
        .await;
    assert_eq!(events, EIGHT);
    assert_eq!(world.service().await.task_sets().len(), 1);

    // With the alarms overridden it goes through.
    let definition = world.register(&[("MESSAGE", "green")]).await;
    let override_alarms = cd::AlarmConfiguration::builder().enabled(false).build();
    let id = world
        .deployment_of(&world.appspec(&definition, &[]))
        .deployment_config_name(ALL_AT_ONCE)
        .override_alarm_configuration(override_alarms)
        .send()
        .await
        .unwrap()
        .deployment_id
        .unwrap();
    world.until_weight("demo-b", 100).await;
    let stop = world
        .codedeploy
        .stop_deployment()
        .deployment_id(&id)
        .auto_rollback_enabled(true);
    stop.send().await.unwrap();
    world.until_status(&id, DeploymentStatus::Stopped).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_5_target_groups_swap_and_the_idle_one_stays_at_weight_0() {
    let world = World::serving(120.0, quick()).await;
    assert_eq!(
        world.get_test("/").await.0,
        503,
        "the test listener's group is empty"
    );
    let first = world.deploy(&[("MESSAGE", "one")]).await;
    world
        .until_status(&first, DeploymentStatus::Succeeded)
        .await;
    assert_eq!(
        world.weights(),
        [("demo-a".to_owned(), 0), ("demo-b".to_owned(), 100)].into()
    );
    assert_eq!(world.get_test("/").await.1, "one");
    let service = world.service().await;
    let arn = world.stage.stack().target_group_arn("demo-b");
    assert_eq!(
        service.load_balancers()[0].target_group_arn(),
        Some(arn.as_str())
    );
    world.until_alone().await;

    // The second goes the other way.
    let second = world.deploy(&[("MESSAGE", "two")]).await;
    world
        .until_status(&second, DeploymentStatus::Succeeded)
        .await;
    assert_eq!(
        world.weights(),
        [("demo-a".to_owned(), 100), ("demo-b".to_owned(), 0)].into()
    );
    assert_eq!(world.get("/").await.1, "two");
    let target = world.target(&second).await.unwrap();
    let groups: Vec<_> = target
        .task_sets_info()
        .iter()
        .map(|set| {
            let group = set.target_group().and_then(|group| group.name()).unwrap();
            (set.task_set_label().unwrap().as_str(), group)
        })
        .collect();
    assert_eq!(groups, [("Blue", "demo-b"), ("Green", "demo-a")]);
    world.until_alone().await;
    let service = world.service().await;
    assert_eq!(service.task_sets()[0].external_id(), Some(second.as_str()));
    assert_eq!(service.task_sets()[0].started_by(), Some("CODE_DEPLOY"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_7_deactivating_during_the_drain() {
    let mut stack = stage::Stack::named("demo");
    stack.deregistration_delay = Duration::from_secs(300);
    let options = stage::Options {
        speed: 60.0,
        stack,
        ..stage::Options::default()
    };
    let world = World::of(options).await;
    world.serve(&quick(), 1).await;
    let before = world.service().await.task_sets()[0]
        .id()
        .unwrap()
        .to_owned();
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    // Blue drains for five virtual minutes, five real seconds.
    let old = world.service().await;
    let old = old
        .task_sets()
        .iter()
        .find(|set| set.id() == Some(&before))
        .unwrap();
    assert_eq!(
        (old.status(), old.computed_desired_count()),
        (Some("DRAINING"), 0)
    );
    assert!((old.scale().unwrap().value() - 0.0).abs() < f64::EPSILON);
    world
        .until("DEACTIVATING", async || {
            tasks(&world, "STOPPED").await == [("DEACTIVATING".to_owned(), None)]
        })
        .await;
    world
        .until("STOPPED", async || {
            tasks(&world, "STOPPED").await == [("STOPPED".to_owned(), Some(0))]
        })
        .await;
    world.until_alone().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_9_an_alarm_slower_than_the_canary_is_as_slow_here() {
    // The interval is five virtual minutes whatever the speed: two speeds, one timeline.
    for speed in [30.0, 120.0] {
        let setting = Setting {
            termination_wait: 0,
            ..Setting::default()
        };
        let world = World::serving(speed, setting).await;
        let mut events = world.stage.events().subscribe();
        let id = world.deploy(&[("MESSAGE", "green")]).await;
        world.until_status(&id, DeploymentStatus::Succeeded).await;
        let mut changes = Vec::new();
        while let Ok(entry) = events.try_recv() {
            if let rollout::event::Event::WeightsChanged { green, .. } = entry.event {
                changes.push((green, entry.at));
            }
        }
        let [(10, first), (100, second)] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let between = (*second - *first).as_secs_f64();
        assert!(
            (295.0..330.0).contains(&between),
            "{between} s at speed {speed}"
        );
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_under_load_loses_no_request() {
    let setting = Setting {
        termination_wait: 1,
        ..Setting::default()
    };
    let world = World::serving(60.0, setting).await;
    let balancer = world.stage.load_balancer();
    let log = balancer.access_log(65_536);
    let options = TrafficOptions::new(balancer.production_address(), 200.0);
    let traffic = Traffic::start(
        options,
        *world.stage.clock(),
        world.stage.events().clone(),
        Some(log),
    )
    .unwrap();
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    world.until_alone().await;
    let totals = traffic.stop().await;
    let ok: u64 = totals.groups.values().map(|group| group.ok).sum();
    assert!(ok > 500, "{totals:?}");
    assert!(totals.groups["demo-b"].ok > 0, "{totals:?}");
    assert_eq!(totals.outcomes.lost(), 0, "{totals:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linear_deployment_moves_a_tenth_a_minute() {
    let setting = Setting {
        config: LINEAR,
        termination_wait: 0,
        ..Setting::default()
    };
    let world = World::serving(120.0, setting).await;
    let mut events = world.stage.events().subscribe();
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    let mut weights = Vec::new();
    while let Ok(entry) = events.try_recv() {
        if let rollout::event::Event::WeightsChanged { green, .. } = entry.event {
            weights.push(green);
        }
    }
    assert_eq!(weights, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_mid_canary_without_rollback_leaves_everything_as_it_is() {
    let setting = Setting {
        rollback: Vec::new(),
        ..Setting::default()
    };
    let world = World::serving(60.0, setting).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_weight("demo-b", 10).await;
    let answer = world
        .codedeploy
        .stop_deployment()
        .deployment_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), Some(&cd::StopStatus::Pending));
    let info = world.until_status(&id, DeploymentStatus::Stopped).await;
    assert_eq!(
        info.error_information().unwrap().code(),
        Some(&ErrorCode::ManualStop)
    );
    assert!(info.rollback_info().is_none());
    assert_eq!((world.weight("demo-a"), world.weight("demo-b")), (90, 10));
    let sets = world.service().await;
    let mut sets: Vec<_> = sets
        .task_sets()
        .iter()
        .map(|set| set.status().unwrap())
        .collect();
    sets.sort_unstable();
    assert_eq!(sets, ["ACTIVE", "PRIMARY"]);

    let again = world
        .codedeploy
        .stop_deployment()
        .deployment_id(&id)
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&again), "DeploymentAlreadyCompletedException");

    // What is left behind is in the way of the next deployment.
    let next = world.deploy(&[]).await;
    let info = world.until_status(&next, DeploymentStatus::Failed).await;
    let error = info.error_information().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::EcsUpdateError));
    assert!(
        error.message().unwrap().contains("is behind prod listener"),
        "{error:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_mid_canary_with_rollback_puts_traffic_back() {
    let setting = Setting {
        rollback: Vec::new(),
        ..Setting::default()
    };
    let world = World::serving(60.0, setting).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_weight("demo-b", 10).await;
    let stop = world
        .codedeploy
        .stop_deployment()
        .deployment_id(&id)
        .auto_rollback_enabled(true);
    stop.send().await.unwrap();
    let info = world.until_status(&id, DeploymentStatus::Stopped).await;
    assert_eq!((world.weight("demo-a"), world.weight("demo-b")), (100, 0));
    let rollback = info
        .rollback_info()
        .unwrap()
        .rollback_deployment_id()
        .unwrap();
    world
        .until_status(rollback, DeploymentStatus::Succeeded)
        .await;
    world.until_alone().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_in_the_termination_wait_goes_back_to_blue() {
    let setting = Setting {
        config: ALL_AT_ONCE,
        termination_wait: 60,
        ..Setting::default()
    };
    let world = World::serving(60.0, setting).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world
        .until("the termination wait", async || {
            world.info(&id).await.instance_termination_wait_time_started
        })
        .await;
    assert_eq!(world.get("/").await.1, "green");
    let stop = world
        .codedeploy
        .stop_deployment()
        .deployment_id(&id)
        .auto_rollback_enabled(true);
    stop.send().await.unwrap();
    world.until_status(&id, DeploymentStatus::Stopped).await;
    assert_eq!(world.get("/").await.1, "blue");
    world.until_alone().await;
    let service = world.service().await;
    assert_eq!(service.task_sets()[0].status(), Some("PRIMARY"));
    assert_eq!(service.task_sets()[0].external_id(), None);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_wait_ends_by_continue_deployment() {
    let setting = Setting {
        ready_wait: Some(60),
        ..quick()
    };
    let world = World::serving(60.0, setting).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    let early = world
        .codedeploy
        .continue_deployment()
        .deployment_id(&id)
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&early), "DeploymentIsNotInReadyStateException");
    world.until_status(&id, DeploymentStatus::Ready).await;
    assert_eq!(world.get("/").await.1, "blue");
    assert_eq!(world.get_test("/").await.1, "green");
    world
        .codedeploy
        .continue_deployment()
        .deployment_id(&id)
        .deployment_wait_type(cd::DeploymentWaitType::ReadyWait)
        .send()
        .await
        .unwrap();
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    assert_eq!(world.get("/").await.1, "green");
    let late = world
        .codedeploy
        .continue_deployment()
        .deployment_id(&id)
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&late), "DeploymentAlreadyCompletedException");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ready_wait_expires() {
    let setting = Setting {
        ready_wait: Some(5),
        ..quick()
    };
    let world = World::serving(120.0, setting).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    let info = world.until_status(&id, DeploymentStatus::Stopped).await;
    let text = info
        .error_information()
        .unwrap()
        .message()
        .unwrap()
        .to_owned();
    assert!(
        text.contains("waiting for a notification to continue"),
        "{text}"
    );
    assert!(text.contains("5 minutes"), "{text}");
    assert!(
        info.rollback_info().is_some(),
        "DEPLOYMENT_STOP_ON_REQUEST covers it"
    );
    assert_eq!(world.get("/").await.1, "blue");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn green_that_exits_at_once_never_gets_traffic() {
    let world = World::serving(600.0, Setting::default()).await;
    let id = world.deploy(&[("EXIT_AT_ONCE", "7")]).await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    let error = info.error_information().unwrap();
    assert!(
        error
            .message()
            .unwrap()
            .contains("replacement task set to become healthy"),
        "{error:?}"
    );
    assert_eq!(
        world
            .events_that_are(&id, LifecycleEventStatus::Failed)
            .await,
        ["Install"]
    );
    assert_eq!(world.get("/").await.1, "blue");
    let stopped = tasks(&world, "STOPPED").await;
    assert!(
        stopped
            .iter()
            .all(|task| *task == ("STOPPED".to_owned(), Some(7))),
        "{stopped:?}"
    );
    // An hour of crashes, and not a fork bomb.
    assert!((2..40).contains(&stopped.len()), "{} tasks", stopped.len());
    let events = world.service_events().await;
    assert!(
        events
            .iter()
            .any(|event| event.contains("unable to consistently start tasks")),
        "{events:#?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn green_that_is_never_healthy_times_out_in_install() {
    let world = World::serving(600.0, Setting::default()).await;
    let id = world.deploy(&[("NEVER_HEALTHY", "1")]).await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    let text = info
        .error_information()
        .unwrap()
        .message()
        .unwrap()
        .to_owned();
    assert!(text.contains("60 minutes"), "{text}");
    let events = world.service_events().await;
    assert!(
        events.iter().any(|event| event.contains("is unhealthy in (target-group")
            && event.contains("[503]")),
        "{events:#?}"
    );
    world.until_alone().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_ignores_sigterm_is_killed_after_its_stop_timeout() {
    let world = World::serving(120.0, quick()).await;
    let container = world.container(&[("IGNORE_SIGTERM", "1")]).stop_timeout(1);
    let deaf = world.register_container("app", container).await;
    let id = world
        .deployment_of(&world.appspec(&deaf, &[]))
        .send()
        .await
        .unwrap();
    let id = id.deployment_id.unwrap();
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    world.until_alone().await;
    let next = world.deploy(&[]).await;
    world.until_status(&next, DeploymentStatus::Succeeded).await;
    world.until_alone().await;
    let stopped = tasks(&world, "STOPPED").await;
    assert!(
        stopped.contains(&("STOPPED".to_owned(), Some(137))),
        "{stopped:?}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_leads_elsewhere_fails_the_deployment() {
    let world = World::serving(120.0, quick()).await;
    let listener = stage::elb::Listener::Production;
    world
        .stage
        .load_balancer()
        .set_weights(listener, &[("demo-b".into(), 1)])
        .unwrap();
    let id = world.deploy(&[]).await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    let error = info.error_information().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::EcsUpdateError));
    assert!(
        error
            .message()
            .unwrap()
            .ends_with("Primary taskset target group must be behind listener"),
        "{error:?}"
    );
    assert_eq!(world.service().await.task_sets().len(), 1);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_appspec_fails_the_deployment() {
    let world = World::serving(120.0, quick()).await;
    let definition = world.register(&[]).await;
    let good = world.appspec(&definition, &[]);
    let cases = [
        (
            "version: [",
            ErrorCode::InvalidRevision,
            "AppSpec file is either missing or invalid",
        ),
        (
            &good.replace("\"app\"", "\"web\""),
            ErrorCode::EcsUpdateError,
            "The container web does not exist in the task definition.",
        ),
        (
            &good.replace("8080", "81"),
            ErrorCode::EcsUpdateError,
            "The container app did not have a container port 81 defined.",
        ),
        (
            &good.replace("task-definition/app:2", "task-definition/app:99"),
            ErrorCode::EcsUpdateError,
            "TaskDefinition not found.",
        ),
    ];
    for (appspec, code, text) in cases {
        let id = world
            .deployment_of(appspec)
            .send()
            .await
            .unwrap()
            .deployment_id
            .unwrap();
        let info = world.until_status(&id, DeploymentStatus::Failed).await;
        let error = info.error_information().unwrap();
        assert_eq!(error.code(), Some(&code), "{error:?}");
        assert!(error.message().unwrap().contains(text), "{error:?}");
    }
    assert_eq!(world.get("/").await.1, "blue");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_not_there_is_seen_in_the_stopped_reason() {
    let world = World::serving(600.0, quick()).await;
    let nowhere = format!("{}/task@sha256:{}", world.stage.registry(), "0".repeat(64));
    let container = world.container(&[]).image(nowhere);
    let definition = world.register_container("app", container).await;
    let id = world
        .deployment_of(&world.appspec(&definition, &[]))
        .send()
        .await
        .unwrap();
    let id = id.deployment_id.unwrap();
    world
        .until("a stopped task", async || {
            !tasks(&world, "STOPPED").await.is_empty()
        })
        .await;
    let list = world
        .ecs
        .list_tasks()
        .cluster("demo")
        .desired_status("STOPPED".into());
    let arns = list.send().await.unwrap().task_arns.unwrap();
    let described = world
        .ecs
        .describe_tasks()
        .cluster("demo")
        .tasks(&arns[0])
        .send()
        .await
        .unwrap();
    let task = &described.tasks()[0];
    assert_eq!(task.stop_code().unwrap().as_str(), "TaskFailedToStart");
    assert!(
        task.stopped_reason()
            .unwrap()
            .starts_with("CannotPullContainerError: ")
    );
    assert_eq!(task.containers()[0].exit_code(), None);
    world
        .codedeploy
        .stop_deployment()
        .deployment_id(&id)
        .send()
        .await
        .unwrap();
    world.until_status(&id, DeploymentStatus::Stopped).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_in_s3_is_read_when_the_deployment_is_created() {
    let world = World::serving(120.0, quick()).await;
    let definition = world.register(&[("MESSAGE", "green")]).await;
    let appspec = world.appspec(&definition, &[]);
    let put = world
        .s3
        .put_object()
        .bucket("demo-releases")
        .key("appspec.json");
    let put = put.body(appspec.into_bytes().into()).send().await.unwrap();
    let etag = put.e_tag().unwrap();
    let deploy = |key: &str, etag: &str| {
        let location = cd::S3Location::builder()
            .bucket("demo-releases")
            .key(key)
            .bundle_type(cd::BundleType::Json)
            .e_tag(etag)
            .build();
        let revision = cd::RevisionLocation::builder()
            .revision_type(cd::RevisionLocationType::S3)
            .s3_location(location)
            .build();
        let request = world
            .codedeploy
            .create_deployment()
            .application_name("demo")
            .deployment_group_name("demo")
            .revision(revision);
        async move { request.send().await.unwrap().deployment_id.unwrap() }
    };
    for (key, etag) in [("missing.json", etag), ("appspec.json", "other")] {
        let id = deploy(key, etag).await;
        let info = world.until_status(&id, DeploymentStatus::Failed).await;
        assert_eq!(
            info.error_information().unwrap().code(),
            Some(&ErrorCode::RevisionMissing)
        );
    }
    let id = deploy("appspec.json", etag).await;
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    assert_eq!(world.get("/").await.1, "green");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tasks_a_task_set() {
    let world = World::empty(120.0).await;
    world.serve(&quick(), 2).await;
    let id = world.deploy(&[("MESSAGE", "green")]).await;
    world.until_weight("demo-b", 100).await;
    let service = world.service().await;
    assert_eq!(service.desired_count(), 2);
    world.until_status(&id, DeploymentStatus::Succeeded).await;
    world.until_alone().await;
    assert_eq!(world.service().await.running_count(), 2);
    world.stop().await;
}

/// An alarm on a target group's 5xx, in OK by its data: none.
fn put_alarm(world: &World, name: &str, group: &str) {
    use rollout::alarm::{Comparison, Definition, Metric, MissingData, Statistic};
    let stack = world.stage.stack();
    let dimensions = [
        ("LoadBalancer".to_owned(), stack.load_balancer_dimension()),
        (
            "TargetGroup".to_owned(),
            stack.target_group_dimension(group),
        ),
    ];
    let alarm = Definition {
        name: name.to_owned(),
        metric: Metric {
            namespace: "AWS/ApplicationELB".into(),
            name: "HTTPCode_Target_5XX_Count".into(),
            dimensions: dimensions.into(),
        },
        statistic: Statistic::Sum,
        period: Duration::from_secs(60),
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 10.0,
        comparison: Comparison::GreaterThanThreshold,
        treat_missing_data: MissingData::Ignore,
    };
    world.stage.alarms().put(alarm).unwrap();
}

/// A hook function that gives one answer through the API, as a Lambda function does; and its calls.
fn answer_hooks(
    world: &World,
    name: &str,
    status: cd::LifecycleEventStatus,
) -> std::sync::Arc<std::sync::Mutex<Vec<serde_json::Value>>> {
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (client, log) = (world.codedeploy.clone(), calls.clone());
    world
        .stage
        .functions()
        .put(name, move |payload: serde_json::Value| {
            log.lock().unwrap().push(payload.clone());
            let request = client
                .put_lifecycle_event_hook_execution_status()
                .deployment_id(payload["DeploymentId"].as_str().unwrap())
                .lifecycle_event_hook_execution_id(
                    payload["LifecycleEventHookExecutionId"].as_str().unwrap(),
                )
                .status(status.clone());
            async move {
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| format!("{error:?}"))
            }
        });
    calls
}

/// The last status and the exit code of every task with a desired status.
async fn tasks(world: &World, desired: &str) -> Vec<(String, Option<i32>)> {
    let list = world
        .ecs
        .list_tasks()
        .cluster("demo")
        .desired_status(desired.into());
    let arns = list.send().await.unwrap().task_arns.unwrap();
    if arns.is_empty() {
        return Vec::new();
    }
    let describe = world
        .ecs
        .describe_tasks()
        .cluster("demo")
        .set_tasks(Some(arns));
    let described = describe.send().await.unwrap();
    described
        .tasks()
        .iter()
        .map(|task| {
            (
                task.last_status().unwrap().to_owned(),
                task.containers()[0].exit_code(),
            )
        })
        .collect()
}
