//! The ways that a deployment can take: moved, waited, continued, stopped, from S3, under load.

use aws_sdk_codedeploy::types::{self as cd, DeploymentStatus, ErrorCode, LifecycleEventStatus};
use stage::traffic::{Traffic, TrafficOptions};

use super::{answer_hooks, quick};
use crate::world::{self, ALL_AT_ONCE, LINEAR, Setting, World, code};

#[tokio::test(flavor = "multi_thread")]
async fn hooks_that_succeed_let_the_deployment_go_on() {
    let world = World::serving(120.0, quick()).await;
    let calls = answer_hooks(
        &world,
        "CodeDeployHook_check",
        LifecycleEventStatus::Succeeded,
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
    let put = |execution: &str, status: LifecycleEventStatus| {
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
async fn a_revision_in_s3_is_read_when_the_deployment_is_created() {
    let world = World::serving(120.0, quick()).await;
    let definition = world.register(&[("MESSAGE", "green")]).await;
    let appspec = world::appspec(&definition, &[]);
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
        world.until_idle().await;
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
