//! Deployment groups.

use aws_sdk_codedeploy::types as cd;

use crate::world::{self, Setting, World, code};

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
async fn groups_for_a_load_balancer_elsewhere_where_that_is_wanted() {
    let mut stack = stage::Stack::named("other");
    stack.foreign_target_groups = true;
    let options = stage::Options {
        stack,
        ..stage::Options::default()
    };
    let world = World::of(options).await;
    world.create_application().await;
    // The groups demo-a and demo-b are not this stage's.
    world.group(&Setting::default()).send().await.unwrap();
    let appspec = world::appspec(
        "arn:aws:ecs:eu-west-1:000000000000:task-definition/x:1",
        &[],
    );
    let id = world.deployment_of(&appspec).send().await.unwrap();
    let id = id.deployment_id.unwrap();
    let info = world.until_status(&id, cd::DeploymentStatus::Failed).await;
    let code = info.error_information().unwrap().code().unwrap();
    assert_eq!(*code, cd::ErrorCode::InvalidEcsService);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    clippy::large_stack_arrays,
    reason = "a table of cases"
)]
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
