//! ECS's services and task definitions.

use aws_sdk_ecs::types as ecs;

use super::signed;
use crate::world::{Setting, World, code, message, network};

#[tokio::test(flavor = "multi_thread")]
async fn checklist_7_what_a_service_of_codedeploy_s_refuses() {
    let world = World::empty(60.0).await;
    world.serve(&Setting::default(), 1).await;
    let other = world.register(&[]).await;
    let update = || world.ecs.update_service().cluster("demo").service("demo");
    let tail = " on services with a CODE_DEPLOY deployment controller. Use AWS CodeDeploy to trigger a new deployment.";
    let balancer = ecs::LoadBalancer::builder().target_group_arn("x").build();
    let cases = [
        (
            update().task_definition(&other),
            "Unable to update task definition",
        ),
        (
            update().load_balancers(balancer),
            "Unable to update load balancers",
        ),
        (
            update().network_configuration(network()),
            "Unable to update network parameters",
        ),
        (
            update().platform_version("1.4.0"),
            "Unable to update platform version",
        ),
        (
            update().force_new_deployment(true),
            "Cannot force a new deployment",
        ),
    ];
    for (request, beginning) in cases {
        let error = request.send().await.unwrap_err();
        assert_eq!(code(&error), "InvalidParameterException");
        assert_eq!(message(&error), format!("{beginning}{tail}"));
    }
    update()
        .desired_count(2)
        .health_check_grace_period_seconds(5)
        .send()
        .await
        .unwrap();
    world
        .until("two tasks", async || {
            world.service().await.running_count() == 2
        })
        .await;

    let primary = world.service().await.task_sets()[0]
        .id()
        .unwrap()
        .to_owned();
    let create = world
        .ecs
        .create_task_set()
        .cluster("demo")
        .service("demo")
        .task_definition(&other);
    let error = create.send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidParameterException");
    assert!(
        message(&error).contains("CODE_DEPLOY"),
        "{}",
        message(&error)
    );
    let delete = world
        .ecs
        .delete_task_set()
        .cluster("demo")
        .service("demo")
        .task_set(&primary);
    assert_eq!(
        code(&delete.send().await.unwrap_err()),
        "InvalidParameterException"
    );

    let delete = || world.ecs.delete_service().cluster("demo").service("demo");
    let error = delete().send().await.unwrap_err();
    assert_eq!(
        message(&error),
        "The service cannot be stopped while it is scaled above 0."
    );
    let error = world
        .ecs
        .delete_cluster()
        .cluster("demo")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "ClusterContainsServicesException");
    delete().force(true).send().await.unwrap();
    world
        .until("INACTIVE", async || {
            world.service().await.status() == Some("INACTIVE")
        })
        .await;
    world
        .ecs
        .delete_cluster()
        .cluster("demo")
        .send()
        .await
        .unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ecs_does_not_find() {
    let world = World::empty(10.0).await;
    let describe = |cluster: &str| {
        world
            .ecs
            .describe_services()
            .cluster(cluster)
            .services("x")
            .send()
    };
    assert_eq!(
        code(&describe("demo").await.unwrap_err()),
        "ClusterNotFoundException"
    );
    world
        .ecs
        .create_cluster()
        .cluster_name("demo")
        .send()
        .await
        .unwrap();
    let answer = describe("demo").await.unwrap();
    assert!(answer.services().is_empty());
    assert_eq!(answer.failures()[0].reason(), Some("MISSING"));
    assert_eq!(
        answer.failures()[0].arn(),
        Some("arn:aws:ecs:eu-west-1:000000000000:service/demo/x")
    );
    let tasks = world
        .ecs
        .describe_tasks()
        .cluster("demo")
        .tasks("0123")
        .send()
        .await
        .unwrap();
    assert_eq!(tasks.failures()[0].reason(), Some("MISSING"));
    let clusters = world
        .ecs
        .describe_clusters()
        .clusters("nowhere")
        .send()
        .await
        .unwrap();
    assert_eq!(clusters.failures()[0].reason(), Some("MISSING"));
    let error = world
        .ecs
        .describe_task_definition()
        .task_definition("x")
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (code(&error).as_str(), message(&error).as_str()),
        ("ClientException", "Unable to describe task definition.")
    );
    let update = world
        .ecs
        .update_service()
        .cluster("demo")
        .service("x")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&update), "ServiceNotFoundException");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_definitions_have_revisions_that_only_grow() {
    let world = World::empty(10.0).await;
    let one = world.register(&[("A", "1")]).await;
    let two = world.register(&[("A", "1")]).await;
    assert!(one.ends_with(":task-definition/app:1") && two.ends_with("app:2"));
    let describe = |name: &str| {
        world
            .ecs
            .describe_task_definition()
            .task_definition(name)
            .send()
    };
    let latest = describe("app").await.unwrap().task_definition.unwrap();
    assert_eq!(latest.revision(), 2);
    let container = &latest.container_definitions()[0];
    assert_eq!(container.port_mappings()[0].host_port(), Some(8080));
    world
        .ecs
        .deregister_task_definition()
        .task_definition("app:2")
        .send()
        .await
        .unwrap();
    assert_eq!(
        describe("app")
            .await
            .unwrap()
            .task_definition
            .unwrap()
            .revision(),
        1
    );
    let gone = describe("app:2").await.unwrap().task_definition.unwrap();
    assert_eq!(gone.status(), Some(&ecs::TaskDefinitionStatus::Inactive));
    let three = world.register(&[("A", "1")]).await;
    assert!(three.ends_with("app:3"));
    let list = world
        .ecs
        .list_task_definitions()
        .family_prefix("app")
        .send()
        .await
        .unwrap();
    assert_eq!(list.task_definition_arns(), [one, three]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_task_definition_is_refused() {
    let world = World::empty(10.0).await;
    let register = |cpu: &str, memory: &str| {
        world
            .ecs
            .register_task_definition()
            .family("app")
            .network_mode(ecs::NetworkMode::Awsvpc)
            .requires_compatibilities(ecs::Compatibility::Fargate)
            .cpu(cpu)
            .memory(memory)
            .container_definitions(
                ecs::ContainerDefinition::builder()
                    .name("a")
                    .image("b")
                    .build(),
            )
            .send()
    };
    let error = register("256", "4096").await.unwrap_err();
    assert_eq!(code(&error), "ClientException");
    assert!(message(&error).starts_with("No Fargate configuration exists for given values"));
    register("256", "1024").await.unwrap();
    let (status, _, body) = signed(
        &world,
        "AmazonEC2ContainerServiceV20141113.RegisterTaskDefinition",
        r#"{"family":"app","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"cpu":"256",
            "memory":"512","containerDefinitions":[{"name":"a","image":"b","enviroment":[]}]}"#,
    );
    assert_eq!(
        (status, &body["__type"]),
        (400, &"SerializationException".into())
    );
    assert!(
        body["message"].as_str().unwrap().contains("enviroment"),
        "{body}"
    );
    world.stop().await;
}
