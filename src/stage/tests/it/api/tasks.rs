//! One-off tasks.

use aws_sdk_ecs::types as ecs;

use crate::world::{World, code, network};

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one stage for all of it")]
async fn run_task_runs_once() {
    let world = World::empty(60.0).await;
    world
        .ecs
        .create_cluster()
        .cluster_name("demo")
        .send()
        .await
        .unwrap();
    world.stage.secrets().put(
        "arn:aws:secretsmanager:eu-west-1:000000000000:secret:x",
        "hidden",
    );
    let secret = ecs::Secret::builder()
        .name("PASSWORD")
        .value_from("arn:aws:secretsmanager:eu-west-1:000000000000:secret:x")
        .build()
        .unwrap();
    let container = world
        .container(&[("A", "definition"), ("B", "definition")])
        .secrets(secret);
    let definition = world.register_container("job", container).await;
    let run = |command: &[&str]| {
        let mut one = ecs::ContainerOverride::builder().name("app").environment(
            ecs::KeyValuePair::builder()
                .name("B")
                .value("override")
                .build(),
        );
        for word in command {
            one = one.command(*word);
        }
        world
            .ecs
            .run_task()
            .cluster("demo")
            .task_definition(&definition)
            .launch_type(ecs::LaunchType::Fargate)
            .network_configuration(network())
            .started_by("a test")
            .overrides(
                ecs::TaskOverride::builder()
                    .container_overrides(one.build())
                    .build(),
            )
    };
    let ended = |answer: aws_sdk_ecs::operation::run_task::RunTaskOutput| {
        let world = &world;
        async move {
            assert!(answer.failures().is_empty());
            let arn = answer.tasks()[0].task_arn().unwrap().to_owned();
            let describe = || async { describe_task(world, &arn).await };
            world
                .until("STOPPED", async || {
                    describe().await.last_status() == Some("STOPPED")
                })
                .await;
            describe().await
        }
    };
    let task = ended(run(&["env"]).send().await.unwrap()).await;
    assert_eq!(
        task.stop_code().unwrap().as_str(),
        "EssentialContainerExited"
    );
    assert_eq!(
        task.stopped_reason(),
        Some("Essential container in task exited")
    );
    assert_eq!(task.containers()[0].exit_code(), Some(0));
    assert_eq!(task.group(), Some("family:job"));
    assert!(
        world
            .image
            .ends_with(task.containers()[0].image_digest().unwrap())
    );
    let log = log_of(&world, "job");
    for line in [
        "A=definition",
        "B=override",
        "PASSWORD=hidden",
        "AWS_EXECUTION_ENV=AWS_ECS_FARGATE",
    ] {
        assert!(
            log.lines().any(|one| one.ends_with(line)),
            "{line} in {log}"
        );
    }
    let task = ended(run(&["exit", "3"]).send().await.unwrap()).await;
    assert_eq!(task.containers()[0].exit_code(), Some(3));

    // The same token is the same task; with other parameters it is a conflict.
    let first = run(&["exit", "0"]).client_token("t").send().await.unwrap();
    let again = run(&["exit", "0"]).client_token("t").send().await.unwrap();
    assert_eq!(first.tasks()[0].task_arn(), again.tasks()[0].task_arn());
    let error = run(&["exit", "1"])
        .client_token("t")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "ConflictException");

    // Stopped by hand.
    let asleep = run(&["sleep"]).send().await.unwrap();
    let arn = asleep.tasks()[0].task_arn().unwrap().to_owned();
    world
        .until("RUNNING", async || {
            describe_task(&world, &arn).await.last_status() == Some("RUNNING")
        })
        .await;
    world
        .ecs
        .stop_task()
        .cluster("demo")
        .task(&arn)
        .reason("enough")
        .send()
        .await
        .unwrap();
    let refused = run(&[]).count(11).send().await.unwrap_err();
    assert_eq!(code(&refused), "InvalidParameterException");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_secret_is_missing_does_not_start() {
    let world = World::empty(60.0).await;
    world
        .ecs
        .create_cluster()
        .cluster_name("demo")
        .send()
        .await
        .unwrap();
    let secret = ecs::Secret::builder()
        .name("X")
        .value_from("nowhere")
        .build()
        .unwrap();
    let definition = world
        .register_container("job", world.container(&[]).secrets(secret))
        .await;
    let run = world
        .ecs
        .run_task()
        .cluster("demo")
        .task_definition(&definition)
        .launch_type(ecs::LaunchType::Fargate)
        .network_configuration(network());
    let answer = run.send().await.unwrap();
    let arn = answer.tasks()[0].task_arn().unwrap().to_owned();
    world
        .until("STOPPED", async || {
            describe_task(&world, &arn).await.last_status() == Some("STOPPED")
        })
        .await;
    let task = describe_task(&world, &arn).await;
    assert_eq!(task.stop_code().unwrap().as_str(), "TaskFailedToStart");
    assert!(
        task.stopped_reason()
            .unwrap()
            .starts_with("ResourceInitializationError")
    );
    assert_eq!(task.containers()[0].exit_code(), None);
    world.stop().await;
}

async fn describe_task(world: &World, arn: &str) -> ecs::Task {
    let answer = world
        .ecs
        .describe_tasks()
        .cluster("demo")
        .tasks(arn)
        .send()
        .await
        .unwrap();
    answer.tasks.unwrap().remove(0)
}

fn log_of(world: &World, family: &str) -> String {
    let logs = std::fs::read_dir(world.stage.dir().join("logs"))
        .unwrap()
        .flatten();
    let mut paths: Vec<_> = logs.map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(family)
    });
    assert_eq!(paths.len(), 1, "{paths:?}");
    std::fs::read_to_string(&paths[0]).unwrap()
}
