//! CodeDeploy's applications, configurations, deployments and targets.

use aws_sdk_codedeploy::types as cd;

use super::signed;
use crate::world::{self, Setting, World, code, message};

#[tokio::test(flavor = "multi_thread")]
async fn applications() {
    let world = World::empty(10.0).await;
    let client = &world.codedeploy;
    let tag = cd::Tag::builder().key("team").value("web").build();
    let create = |name: &str| {
        client
            .create_application()
            .application_name(name)
            .compute_platform(cd::ComputePlatform::Ecs)
    };
    create("one").tags(tag.clone()).send().await.unwrap();
    create("two").send().await.unwrap();
    let error = create("one").send().await.unwrap_err();
    assert_eq!(code(&error), "ApplicationAlreadyExistsException");
    let error = create("a b").send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidApplicationNameException");
    let error = client.create_application().send().await.unwrap_err();
    assert_eq!(code(&error), "ApplicationNameRequiredException");
    let error = create("x")
        .compute_platform(cd::ComputePlatform::from("Moon"))
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidComputePlatformException");

    let got = client
        .get_application()
        .application_name("one")
        .send()
        .await
        .unwrap();
    let got = got.application().unwrap();
    assert_eq!(got.compute_platform(), Some(&cd::ComputePlatform::Ecs));
    let error = client
        .get_application()
        .application_name("none")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "ApplicationDoesNotExistException");
    let batch = client
        .batch_get_applications()
        .application_names("one")
        .application_names("two");
    assert_eq!(batch.send().await.unwrap().applications_info().len(), 2);

    // Tags by ARN, as Terraform reads them back.
    let arn = "arn:aws:codedeploy:eu-west-1:000000000000:application:one";
    let tags = || async {
        let answer = client
            .list_tags_for_resource()
            .resource_arn(arn)
            .send()
            .await
            .unwrap();
        answer.tags().to_vec()
    };
    assert_eq!(tags().await, [tag]);
    let more = cd::Tag::builder().key("stage").value("yes").build();
    client
        .tag_resource()
        .resource_arn(arn)
        .tags(more.clone())
        .send()
        .await
        .unwrap();
    client
        .untag_resource()
        .resource_arn(arn)
        .tag_keys("team")
        .send()
        .await
        .unwrap();
    assert_eq!(tags().await, [more]);
    let error = client
        .list_tags_for_resource()
        .resource_arn("arn:x")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidArnException");

    let rename = client
        .update_application()
        .application_name("two")
        .new_application_name("three");
    rename.send().await.unwrap();
    let list = client.list_applications().send().await.unwrap();
    assert_eq!(list.applications(), ["one", "three"]);
    client
        .delete_application()
        .application_name("three")
        .send()
        .await
        .unwrap();
    client
        .delete_application()
        .application_name("three")
        .send()
        .await
        .unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployment_configurations() {
    let world = World::empty(10.0).await;
    let client = &world.codedeploy;
    let list = client.list_deployment_configs().send().await.unwrap();
    let names = list.deployment_configs_list();
    assert_eq!(names.len(), 5);
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("CodeDeployDefault.ECS"))
    );
    let get = |name: &str| {
        client
            .get_deployment_config()
            .deployment_config_name(name)
            .send()
    };
    let canary = get("CodeDeployDefault.ECSCanary10Percent15Minutes")
        .await
        .unwrap();
    let routing = canary
        .deployment_config_info()
        .unwrap()
        .traffic_routing_config()
        .unwrap();
    let canary = routing.time_based_canary().unwrap();
    assert_eq!(
        (canary.canary_percentage(), canary.canary_interval()),
        (10, 15)
    );
    for unknown in ["CodeDeployDefault.AllAtOnce", "mine"] {
        let error = get(unknown).await.unwrap_err();
        assert_eq!(code(&error), "DeploymentConfigDoesNotExistException");
    }

    let linear = |percentage, minutes| {
        cd::TrafficRoutingConfig::builder()
            .r#type(cd::TrafficRoutingType::TimeBasedLinear)
            .time_based_linear(
                cd::TimeBasedLinear::builder()
                    .linear_percentage(percentage)
                    .linear_interval(minutes)
                    .build(),
            )
            .build()
    };
    let create = |name: &str, routing| {
        client
            .create_deployment_config()
            .deployment_config_name(name)
            .compute_platform(cd::ComputePlatform::Ecs)
            .traffic_routing_config(routing)
    };
    create("mine", linear(25, 2)).send().await.unwrap();
    let mine = get("mine").await.unwrap();
    let routing = mine
        .deployment_config_info()
        .unwrap()
        .traffic_routing_config()
        .unwrap();
    assert_eq!(routing.time_based_linear().unwrap().linear_percentage(), 25);
    let refusals = [
        (
            create("mine", linear(25, 2)),
            "DeploymentConfigAlreadyExistsException",
        ),
        (
            create("CodeDeployDefault.Mine", linear(25, 2)),
            "InvalidDeploymentConfigNameException",
        ),
        (
            create("x", linear(100, 2)),
            "InvalidTrafficRoutingConfigurationException",
        ),
        (
            create("x", linear(10, 0)),
            "InvalidTrafficRoutingConfigurationException",
        ),
        (
            create("x", linear(1, 60)),
            "InvalidTrafficRoutingConfigurationException",
        ),
    ];
    for (request, expected) in refusals {
        assert_eq!(code(&request.send().await.unwrap_err()), expected);
    }
    let delete = |name: &str| {
        client
            .delete_deployment_config()
            .deployment_config_name(name)
            .send()
    };
    let error = delete("CodeDeployDefault.ECSAllAtOnce").await.unwrap_err();
    assert_eq!(code(&error), "InvalidOperationException");
    delete("mine").await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_create_deployment_refuses_before_it_begins() {
    let world = World::empty(10.0).await;
    world.create_application().await;
    world.group(&Setting::default()).send().await.unwrap();
    let appspec = world::appspec("arn", &[]);
    let good = || world.deployment_of(&appspec);
    let content = |sha256: &str| {
        let content = cd::AppSpecContent::builder()
            .content(&appspec)
            .sha256(sha256)
            .build();
        cd::RevisionLocation::builder()
            .revision_type(cd::RevisionLocationType::AppSpecContent)
            .app_spec_content(content)
            .build()
    };
    let s3 = cd::S3Location::builder()
        .bucket("b")
        .key("k")
        .bundle_type(cd::BundleType::Tar);
    let s3 = cd::RevisionLocation::builder()
        .revision_type(cd::RevisionLocationType::S3)
        .s3_location(s3.build())
        .build();
    let github = cd::RevisionLocation::builder()
        .revision_type(cd::RevisionLocationType::GitHub)
        .build();
    let bad_alarms = cd::AlarmConfiguration::builder().enabled(true).build();
    let cases = [
        (
            good().application_name("none"),
            "ApplicationDoesNotExistException",
        ),
        (
            good().set_deployment_group_name(None),
            "DeploymentGroupNameRequiredException",
        ),
        (
            good().deployment_group_name("none"),
            "DeploymentGroupDoesNotExistException",
        ),
        (good().set_revision(None), "RevisionRequiredException"),
        (
            good().revision(content(&"0".repeat(64))),
            "InvalidRevisionException",
        ),
        (good().revision(s3), "InvalidRevisionException"),
        (good().revision(github), "InvalidRevisionException"),
        (
            good().deployment_config_name("none"),
            "DeploymentConfigDoesNotExistException",
        ),
        (
            good().deployment_config_name("a b"),
            "InvalidDeploymentConfigNameException",
        ),
        (
            good().description("x".repeat(257)),
            "DescriptionTooLongException",
        ),
        (
            good().override_alarm_configuration(bad_alarms),
            "InvalidAlarmConfigException",
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(code(&request.send().await.unwrap_err()), expected);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checklist_6_the_shapes_of_answers() {
    let setting = Setting {
        termination_wait: 0,
        ..Setting::default()
    };
    let world = World::serving(120.0, setting).await;
    let definition = world.register(&[("MESSAGE", "green")]).await;
    let appspec = world::appspec(&definition, &[]);
    let id = world
        .deployment_of(&appspec)
        .description("why")
        .send()
        .await
        .unwrap();
    let id = id.deployment_id.unwrap();
    let ask = |operation: &str, body: serde_json::Value| {
        let (status, _, answer) = signed(
            &world,
            &format!("CodeDeploy_20141006.{operation}"),
            &body.to_string(),
        );
        assert_eq!(status, 200, "{answer}");
        answer
    };
    world.until_weight("demo-b", 10).await;
    let info = ask("GetDeployment", serde_json::json!({ "deploymentId": id }));
    let info = &info["deploymentInfo"];
    assert!(info["deploymentOverview"].is_null(), "null while it runs");
    let content = &info["revision"]["appSpecContent"];
    assert!(content["content"].is_null());
    let sha256 = content["sha256"].as_str().unwrap().to_owned();
    assert!(info["createTime"].is_number());
    assert_eq!(info["deploymentStatusMessages"], serde_json::json!([]));

    // The text is to be had by its sha256.
    let revision = ask(
        "GetApplicationRevision",
        serde_json::json!({ "applicationName": "demo", "revision": {
            "revisionType": "AppSpecContent", "appSpecContent": { "sha256": sha256 },
        } }),
    );
    assert_eq!(
        revision["revision"]["appSpecContent"]["content"],
        appspec.as_str()
    );

    let target = serde_json::json!({ "deploymentId": id, "targetId": "demo:demo" });
    let target = ask("GetDeploymentTarget", target);
    let target = &target["deploymentTarget"];
    assert_eq!(target["deploymentTargetType"], "ECSTarget");
    let sets = target["ecsTarget"]["taskSetsInfo"].as_array().unwrap();
    for (set, label, weight) in [(&sets[0], "Blue", 90.0), (&sets[1], "Green", 10.0)] {
        assert!(
            set["identifer"].as_str().unwrap().starts_with("ecs-svc/"),
            "{set}"
        );
        assert_eq!(set["taskSetLabel"], label);
        assert_eq!(set["trafficWeight"], weight);
        assert!(set["targetGroup"]["name"].is_string());
    }
    let service = serde_json::json!({ "cluster": "demo", "services": ["demo"] });
    let (_, _, service) = signed(
        &world,
        "AmazonEC2ContainerServiceV20141113.DescribeServices",
        &service.to_string(),
    );
    assert_eq!(service["services"][0]["deployments"], serde_json::json!([]));
    assert_eq!(service["services"][0]["runningCount"], 2);
    assert_eq!(service["services"][0]["desiredCount"], 1);

    world
        .until_status(&id, cd::DeploymentStatus::Succeeded)
        .await;
    let info = ask("GetDeployment", serde_json::json!({ "deploymentId": id }));
    assert_eq!(
        info["deploymentInfo"]["deploymentOverview"],
        serde_json::json!({
            "Pending": 0, "InProgress": 0, "Succeeded": 1, "Failed": 0, "Skipped": 0, "Ready": 0,
        })
    );
    let events = ask(
        "BatchGetDeploymentTargets",
        serde_json::json!({
            "deploymentId": id, "targetIds": ["demo:demo"],
        }),
    );
    assert_eq!(
        events["deploymentTargets"][0]["ecsTarget"]["status"],
        "Succeeded"
    );
    targets_of_wrong_form(&world, &id).await;
    lists_of_deployments(&world, &id).await;
    world.stop().await;
}

async fn targets_of_wrong_form(world: &World, id: &str) {
    let get = |target: &str| {
        let get = world.codedeploy.get_deployment_target().deployment_id(id);
        get.target_id(target).send()
    };
    let error = get("i-123").await.unwrap_err();
    assert_eq!(code(&error), "InvalidDeploymentTargetIdException");
    assert!(message(&error).contains("<clustername>:<servicename>"));
    let error = get("demo:other").await.unwrap_err();
    assert_eq!(code(&error), "DeploymentTargetDoesNotExistException");
    let two = world
        .codedeploy
        .batch_get_deployment_targets()
        .deployment_id(id);
    let two = two
        .target_ids("demo:demo")
        .target_ids("demo:demo")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&two), "DeploymentTargetListSizeExceededException");
    let list = world
        .codedeploy
        .list_deployment_targets()
        .deployment_id(id)
        .send()
        .await
        .unwrap();
    assert_eq!(list.target_ids(), ["demo:demo"]);
    #[expect(deprecated, reason = "its refusal is what is tested")]
    let error = world
        .codedeploy
        .get_deployment_instance()
        .deployment_id(id)
        .instance_id("i-1")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidComputePlatformException");
}

async fn lists_of_deployments(world: &World, id: &str) {
    let client = &world.codedeploy;
    let list = || {
        client
            .list_deployments()
            .application_name("demo")
            .deployment_group_name("demo")
    };
    assert_eq!(list().send().await.unwrap().deployments(), [id]);
    let failed = list()
        .include_only_statuses(cd::DeploymentStatus::Failed)
        .send()
        .await
        .unwrap();
    assert!(failed.deployments().is_empty());
    let error = client
        .list_deployments()
        .application_name("demo")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "DeploymentGroupNameRequiredException");
    let batch = client
        .batch_get_deployments()
        .deployment_ids(id)
        .deployment_ids("d-NOBODY0000");
    assert_eq!(batch.send().await.unwrap().deployments_info().len(), 1);
    let error = client
        .get_deployment()
        .deployment_id("d-NOBODY000")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "DeploymentDoesNotExistException");
    let error = client
        .get_deployment()
        .deployment_id("nobody")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "InvalidDeploymentIdException");
    let group = client
        .get_deployment_group()
        .application_name("demo")
        .deployment_group_name("demo");
    let group = group.send().await.unwrap().deployment_group_info.unwrap();
    assert_eq!(
        group.last_successful_deployment().unwrap().deployment_id(),
        Some(id)
    );
}
