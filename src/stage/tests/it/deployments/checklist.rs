//! The fidelity checklist: section 14 of the fact sheet on CodeDeploy and ECS. The name of a test
//! begins with the number of its line; line 8 is tested with the load balancer.

use std::time::Duration;

use aws_sdk_codedeploy::types::{
    self as cd, DeploymentCreator, DeploymentStatus, ErrorCode, LifecycleEventStatus,
};
use rollout::alarm::State;

use super::{EIGHT, answer_hooks, put_alarm, quick, tasks};
use crate::world::{self, ALL_AT_ONCE, CANARY, Setting, World, code, message};

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
        .deployment_of(&world::appspec(&definition, &[]))
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
    let calls = answer_hooks(&world, "CodeDeployHook_check", LifecycleEventStatus::Failed);
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
    world.until_idle().await;

    // With the alarms overridden it goes through.
    let definition = world.register(&[("MESSAGE", "green")]).await;
    let override_alarms = cd::AlarmConfiguration::builder().enabled(false).build();
    let id = world
        .deployment_of(&world::appspec(&definition, &[]))
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
    stack.deregistration_delay = Duration::from_mins(5);
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
async fn checklist_7_five_task_sets_draining_ones_included() {
    // What drains for an hour of virtual time is still there after four more deployments.
    let mut stack = stage::Stack::named("demo");
    stack.deregistration_delay = Duration::from_hours(1);
    let options = stage::Options {
        speed: 60.0,
        stack,
        ..stage::Options::default()
    };
    let world = World::of(options).await;
    world.serve(&quick(), 1).await;
    for _ in 0..4 {
        let id = world.deploy(&[]).await;
        world.until_status(&id, DeploymentStatus::Succeeded).await;
    }
    let service = world.service().await;
    let draining = service
        .task_sets()
        .iter()
        .filter(|set| set.status() == Some("DRAINING"));
    assert_eq!((draining.count(), service.task_sets().len()), (4, 5));
    let id = world.deploy(&[]).await;
    let info = world.until_status(&id, DeploymentStatus::Failed).await;
    let error = info.error_information().unwrap();
    assert_eq!(error.code(), Some(&ErrorCode::EcsUpdateError));
    assert!(
        error.message().unwrap().contains("5 task sets"),
        "{error:?}"
    );
    assert_eq!(world.get("/").await.0, 200);
    world.stop().await;
}
