//! What the APIs refuse and how they answer, asked with the SDKs and with raw requests.

use aws_sdk_codedeploy::types as cd;
use aws_sdk_ecs::types as ecs;

use crate::world::{Setting, World, code, message, network, sdk_config};

#[tokio::test(flavor = "multi_thread")]
async fn requests_must_be_signed_by_the_stage_s_user() {
    let world = World::empty(10.0).await;
    for (access, secret, expected) in [
        ("stage", "wrong", "InvalidSignatureException"),
        ("nobody", "stage", "UnrecognizedClientException"),
    ] {
        let config = sdk_config(&world.stage, access, secret).await;
        let client = aws_sdk_codedeploy::Client::new(&config);
        let error = client.list_applications().send().await.unwrap_err();
        assert_eq!(code(&error), expected);
        let client = aws_sdk_ecs::Client::new(&config);
        let error = client.list_clusters().send().await.unwrap_err();
        assert_eq!(code(&error), expected);
        let config = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(true)
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        client.list_buckets().send().await.unwrap_err();
    }
    let (status, _, body) = raw(&world, "CodeDeploy_20141006.ListApplications", "{}").await;
    assert_eq!(status, 400);
    assert_eq!(body["__type"], "MissingAuthenticationTokenException");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_carry_a_request_id_and_the_real_date() {
    // At this speed virtual time is hours ahead within the test.
    let world = World::empty(100_000.0).await;
    let (_, headers, _) = raw(&world, "CodeDeploy_20141006.ListApplications", "{}").await;
    assert_eq!(headers["x-amzn-requestid"].len(), 36);
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(headers["date"].to_str().unwrap())
        .unwrap();
    let off = jiff::Timestamp::now().duration_since(date).as_secs().abs();
    assert!(off < 60, "{off} s off");
    // Requests go on being signed with real time: the SDK follows the Date header.
    world.create_application().await;
    world
        .until("virtual time is ahead", async || {
            let ahead =
                world.stage.clock().now().as_secs_f64() - jiff::Timestamp::now().as_second() as f64;
            ahead > 20.0 * 60.0
        })
        .await;
    let answer = world
        .codedeploy
        .get_application()
        .application_name("demo")
        .send()
        .await
        .unwrap();
    assert!(answer.application().unwrap().create_time().is_some());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_an_operation_or_not_json() {
    let world = World::empty(10.0).await;
    for target in [
        "CodeDeploy_20141006.Nothing",
        "Other_20141006.ListApplications",
        "nonsense",
    ] {
        let (status, _, body) = signed(&world, target, "{}");
        assert_eq!(status, 400, "{target}");
        assert_eq!(body["__type"], "UnknownOperationException", "{target}");
    }
    for body in ["[1]", "{", "\"x\""] {
        let (status, _, body) = signed(&world, "CodeDeploy_20141006.ListApplications", body);
        assert_eq!(
            (status, &body["__type"]),
            (400, &"SerializationException".into())
        );
    }
    let (_, _, body) = signed(
        &world,
        "CodeDeploy_20141006.GetApplication",
        r#"{"applicationName": 7}"#,
    );
    assert_eq!(body["__type"], "SerializationException");
    let (_, _, body) = signed(&world, "CodeDeploy_20141006.ListApplications", "");
    assert_eq!(body["applications"], serde_json::json!([]));
    let large = format!(r#"{{"applicationName": "{}"}}"#, "x".repeat(2 << 20));
    let (status, _, _) = signed(&world, "CodeDeploy_20141006.GetApplication", &large);
    assert_eq!(status, 413);
    world.stop().await;
}

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
async fn deployment_groups_come_back_as_they_were_sent() {
    let world = World::empty(10.0).await;
    world.create_application().await;
    let setting = Setting {
        alarms: vec!["a", "b"],
        ready_wait: Some(7),
        ..Setting::default()
    };
    let request = world
        .group(&setting)
        .outdated_instances_strategy(cd::OutdatedInstancesStrategy::Update);
    let sent = request.as_input().clone().build().unwrap();
    request.send().await.unwrap();
    let get = || async {
        let get = world.codedeploy.get_deployment_group();
        let answer = get
            .application_name("demo")
            .deployment_group_name("demo")
            .send()
            .await;
        answer.unwrap().deployment_group_info.unwrap()
    };
    let got = get().await;
    assert_eq!(got.alarm_configuration(), sent.alarm_configuration());
    assert_eq!(
        got.auto_rollback_configuration(),
        sent.auto_rollback_configuration()
    );
    assert_eq!(got.load_balancer_info(), sent.load_balancer_info());
    assert_eq!(got.ecs_services(), sent.ecs_services());
    assert_eq!(
        got.blue_green_deployment_configuration(),
        sent.blue_green_deployment_configuration()
    );
    assert_eq!(
        got.outdated_instances_strategy(),
        sent.outdated_instances_strategy()
    );
    assert_eq!(got.compute_platform(), Some(&cd::ComputePlatform::Ecs));
    assert!(got.deployment_group_id().is_some());

    // A partial update keeps what it does not name.
    let update = || {
        let update = world.codedeploy.update_deployment_group();
        update
            .application_name("demo")
            .current_deployment_group_name("demo")
    };
    update()
        .deployment_config_name("CodeDeployDefault.ECSAllAtOnce")
        .send()
        .await
        .unwrap();
    let changed = get().await;
    assert_eq!(
        changed.deployment_config_name(),
        Some("CodeDeployDefault.ECSAllAtOnce")
    );
    assert_eq!(changed.alarm_configuration(), sent.alarm_configuration());
    let error = update()
        .deployment_config_name("none")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "DeploymentConfigDoesNotExistException");
    assert_eq!(get().await, changed);
    update()
        .new_deployment_group_name("other")
        .send()
        .await
        .unwrap();
    let list = world
        .codedeploy
        .list_deployment_groups()
        .application_name("demo")
        .send()
        .await;
    assert_eq!(list.unwrap().deployment_groups(), ["other"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deployment_group_must_not_be() {
    let world = World::empty(10.0).await;
    let error = world.group(&Setting::default()).send().await.unwrap_err();
    assert_eq!(code(&error), "ApplicationDoesNotExistException");
    world.create_application().await;
    let good = || world.group(&Setting::default());
    let pair = |names: &[&str]| {
        let groups = names
            .iter()
            .map(|name| cd::TargetGroupInfo::builder().name(*name).build());
        let route = cd::TrafficRoute::builder()
            .listener_arns(world.stage.stack().production_listener_arn())
            .build();
        let pair = cd::TargetGroupPairInfo::builder()
            .set_target_groups(Some(groups.collect()))
            .prod_traffic_route(route)
            .build();
        cd::LoadBalancerInfo::builder()
            .target_group_pair_info_list(pair)
            .build()
    };
    let style = |kind, option| {
        cd::DeploymentStyle::builder()
            .deployment_type(kind)
            .deployment_option(option)
            .build()
    };
    let blue_green = |wait| {
        let ready = cd::DeploymentReadyOption::builder()
            .action_on_timeout(cd::DeploymentReadyAction::ContinueDeployment)
            .wait_time_in_minutes(wait);
        cd::BlueGreenDeploymentConfiguration::builder()
            .deployment_ready_option(ready.build())
            .build()
    };
    let keep = cd::BlueGreenDeploymentConfiguration::builder()
        .terminate_blue_instances_on_deployment_success(
            cd::BlueInstanceTerminationOption::builder()
                .action(cd::InstanceAction::KeepAlive)
                .build(),
        )
        .build();
    let alarms = |enabled, names: &[&str]| {
        let alarms = names
            .iter()
            .map(|name| cd::Alarm::builder().name(*name).build());
        cd::AlarmConfiguration::builder()
            .enabled(enabled)
            .set_alarms(Some(alarms.collect()))
            .build()
    };
    let eleven: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let eleven: Vec<&str> = eleven.iter().map(String::as_str).collect();
    let rollback = cd::AutoRollbackConfiguration::builder()
        .enabled(true)
        .build();
    let service = cd::EcsService::builder()
        .cluster_name("c d")
        .service_name("x")
        .build();
    let cases = [
        (
            good().load_balancer_info(pair(&["demo-a"])),
            "InvalidTargetGroupPairException",
        ),
        (
            good().load_balancer_info(pair(&["demo-a", "other"])),
            "InvalidTargetGroupPairException",
        ),
        (
            good().load_balancer_info(pair(&["demo-a", "demo-a"])),
            "InvalidTargetGroupPairException",
        ),
        (
            good().load_balancer_info(cd::LoadBalancerInfo::builder().build()),
            "InvalidLoadBalancerInfoException",
        ),
        (
            good().deployment_style(style(
                cd::DeploymentType::InPlace,
                cd::DeploymentOption::WithTrafficControl,
            )),
            "InvalidDeploymentStyleException",
        ),
        (
            good().deployment_style(style(
                cd::DeploymentType::BlueGreen,
                cd::DeploymentOption::WithoutTrafficControl,
            )),
            "InvalidDeploymentStyleException",
        ),
        (
            good().blue_green_deployment_configuration(blue_green(5)),
            "InvalidBlueGreenDeploymentConfigurationException",
        ),
        (
            good().blue_green_deployment_configuration(keep),
            "InvalidBlueGreenDeploymentConfigurationException",
        ),
        (
            good().alarm_configuration(alarms(true, &[])),
            "InvalidAlarmConfigException",
        ),
        (
            good().alarm_configuration(alarms(true, &["a", "a"])),
            "InvalidAlarmConfigException",
        ),
        (
            good().alarm_configuration(alarms(true, &eleven)),
            "AlarmsLimitExceededException",
        ),
        (
            good().auto_rollback_configuration(rollback),
            "InvalidAutoRollbackConfigException",
        ),
        (
            good().auto_scaling_groups("asg"),
            "InvalidAutoScalingGroupException",
        ),
        (good().service_role_arn("role"), "InvalidRoleException"),
        (good().service_role_arn(""), "RoleRequiredException"),
        (
            good().deployment_config_name("none"),
            "DeploymentConfigDoesNotExistException",
        ),
        (
            good().set_ecs_services(Some(vec![service])),
            "InvalidECSServiceException",
        ),
        (good().set_ecs_services(None), "InvalidECSServiceException"),
    ];
    for (request, expected) in cases {
        assert_eq!(code(&request.send().await.unwrap_err()), expected);
    }
    good().send().await.unwrap();
    let error = good().send().await.unwrap_err();
    assert_eq!(code(&error), "DeploymentGroupAlreadyExistsException");
    let error = good()
        .deployment_group_name("second")
        .send()
        .await
        .unwrap_err();
    assert_eq!(code(&error), "ECSServiceMappingLimitExceededException");
    let create = world
        .codedeploy
        .create_application()
        .application_name("ec2");
    create.send().await.unwrap();
    let error = good().application_name("ec2").send().await.unwrap_err();
    assert_eq!(code(&error), "InvalidLoadBalancerInfoException");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_create_deployment_refuses_before_it_begins() {
    let world = World::empty(10.0).await;
    world.create_application().await;
    world.group(&Setting::default()).send().await.unwrap();
    let appspec = world.appspec("arn", &[]);
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
    let appspec = world.appspec(&definition, &[]);
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

#[tokio::test(flavor = "multi_thread")]
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

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_and_a_server_that_is_not_there() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for ports in [
        stage::Ports {
            api: port,
            ..Default::default()
        },
        stage::Ports {
            production: port,
            ..Default::default()
        },
        stage::Ports {
            test: port,
            ..Default::default()
        },
        stage::Ports {
            postgres: port,
            ..Default::default()
        },
    ] {
        let options = stage::Options {
            ports,
            ..Default::default()
        };
        let error = stage::Stage::start(options).await.unwrap_err().to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("choose another port"),
            "{error}"
        );
    }
    let options = stage::Options {
        postgres_bin: Some("/nowhere".into()),
        ..Default::default()
    };
    let error = stage::Stage::start(options).await.unwrap_err().to_string();
    assert!(error.contains("apt-get install postgresql"), "{error}");
}

/// A raw request without a signature: status, headers and body.
async fn raw(world: &World, target: &str, body: &str) -> (u16, http::HeaderMap, serde_json::Value) {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http();
    let request = http::Request::post(world.stage.endpoint_url())
        .header("x-amz-target", target)
        .body(http_body_util::Full::new(bytes::Bytes::from(
            body.to_owned(),
        )))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = http_body_util::BodyExt::collect(body)
        .await
        .unwrap()
        .to_bytes();
    (
        parts.status.as_u16(),
        parts.headers,
        serde_json::from_slice(&body).unwrap(),
    )
}

/// A raw request with the signature of the stage's user.
fn signed(world: &World, target: &str, body: &str) -> (u16, http::HeaderMap, serde_json::Value) {
    use sha2::Digest as _;
    let host = world.stage.registry();
    let now = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let service = if target.starts_with("AmazonEC2") {
        "ecs"
    } else {
        "codedeploy"
    };
    let names = "content-type;host;x-amz-date;x-amz-target";
    let canonical = format!(
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:{host}\nx-amz-date:{now}\n\
         x-amz-target:{target}\n\n{names}\n{}",
        hex::encode(sha2::Sha256::digest(body))
    );
    let scope = format!("{}/eu-west-1/{service}/aws4_request", &now[..8]);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{now}\n{scope}\n{}",
        hex::encode(sha2::Sha256::digest(&canonical))
    );
    let mut key = b"AWS4stage".to_vec();
    for part in scope.split('/').chain([to_sign.as_str()]) {
        use hmac::{KeyInit as _, Mac as _};
        let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=stage/{scope}, SignedHeaders={names}, Signature={}",
        hex::encode(key)
    );
    let request = http::Request::post(world.stage.endpoint_url())
        .header("content-type", "application/x-amz-json-1.1")
        .header("host", &host)
        .header("x-amz-date", &now)
        .header("x-amz-target", target)
        .header("authorization", authorization)
        .body(http_body_util::Full::new(bytes::Bytes::from(
            body.to_owned(),
        )))
        .unwrap();
    tokio::task::block_in_place(|| {
        tokio::runtime::Handle::current().block_on(async {
            let client =
                hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                    .build_http();
            let response = client.request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = http_body_util::BodyExt::collect(body)
                .await
                .unwrap()
                .to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            (parts.status.as_u16(), parts.headers, body)
        })
    })
}
