//! Versions, files and listeners that are broken.

use aws_sdk_codedeploy::types::{DeploymentStatus, ErrorCode, LifecycleEventStatus};

use super::{quick, tasks};
use crate::world::{self, Setting, World};

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
        .deployment_of(&world::appspec(&deaf, &[]))
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
    let good = world::appspec(&definition, &[]);
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
        world.until_idle().await;
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
        .deployment_of(&world::appspec(&definition, &[]))
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
