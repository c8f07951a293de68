//! A stage with a service on it, and the unmodified SDKs to talk to it.
//!
//! The tests wait for conditions with a limit; their waits are short because the stage's clock is
//! fast. What a test needs otherwise than usual it says in [`Setting`].

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_sdk_codedeploy::{
    error::{ProvideErrorMetadata, SdkError},
    types::{self as cd, DeploymentInfo, DeploymentStatus, EcsTarget, LifecycleEventStatus},
};
use aws_sdk_ecs::types as ecs;
use oci::archive::Archive;
use stage::{Options, Stack, Stage};

use crate::support::test_image;

/// Longer than anything takes here, also on a busy machine.
pub const LIMIT: Duration = Duration::from_mins(1);

pub const CANARY: &str = "CodeDeployDefault.ECSCanary10Percent5Minutes";
pub const LINEAR: &str = "CodeDeployDefault.ECSLinear10PercentEvery1Minutes";
pub const ALL_AT_ONCE: &str = "CodeDeployDefault.ECSAllAtOnce";

/// A stage, its clients, and the names that they use.
pub struct World {
    pub stage: Stage,
    pub codedeploy: aws_sdk_codedeploy::Client,
    pub ecs: aws_sdk_ecs::Client,
    pub s3: aws_sdk_s3::Client,
    /// The pushed test image, by digest.
    pub image: String,
}

/// How a deployment group is to be.
#[derive(Clone)]
pub struct Setting {
    pub config: &'static str,
    pub test_listener: bool,
    pub ready_wait: Option<i32>,
    pub termination_wait: i32,
    pub alarms: Vec<&'static str>,
    pub rollback: Vec<cd::AutoRollbackEvent>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            config: CANARY,
            test_listener: true,
            ready_wait: None,
            termination_wait: 5,
            alarms: Vec::new(),
            rollback: vec![
                cd::AutoRollbackEvent::DeploymentFailure,
                cd::AutoRollbackEvent::DeploymentStopOnAlarm,
                cd::AutoRollbackEvent::DeploymentStopOnRequest,
            ],
        }
    }
}

impl World {
    /// An empty stage.
    pub async fn empty(speed: f64) -> Self {
        let mut stack = Stack::named("demo");
        stack.deregistration_delay = Duration::from_secs(30);
        Self::of(Options {
            speed,
            stack,
            ..Options::default()
        })
        .await
    }

    pub async fn of(options: Options) -> Self {
        let stage = Stage::start(options).await.unwrap();
        let config = sdk_config(&stage, "stage", "stage").await;
        let s3 = aws_sdk_s3::config::Builder::from(&config)
            .force_path_style(true)
            .build();
        let mut world = Self {
            codedeploy: aws_sdk_codedeploy::Client::new(&config),
            ecs: aws_sdk_ecs::Client::new(&config),
            s3: aws_sdk_s3::Client::from_conf(s3),
            stage,
            image: String::new(),
        };
        world.image = world.push().await;
        world
    }

    /// A stage on which the test program serves: cluster, service, application and group.
    pub async fn serving(speed: f64, setting: Setting) -> Self {
        let world = Self::empty(speed).await;
        world.serve(&setting, 1).await;
        world
    }

    async fn push(&self) -> String {
        let archive = Archive::open(test_image()).unwrap();
        let repository = format!("{}/task", self.stage.registry());
        let reference = format!("{repository}:1");
        let pushed =
            oci::push::push(&archive, &reference, &oci::push::Credentials::Anonymous).await;
        format!("{repository}@{}", pushed.unwrap().digest)
    }

    pub async fn serve(&self, setting: &Setting, desired_count: i32) {
        self.ecs
            .create_cluster()
            .cluster_name("demo")
            .send()
            .await
            .unwrap();
        let first = self.register(&[("MESSAGE", "blue")]).await;
        self.create_service(&first, desired_count).await;
        self.create_application().await;
        self.group(setting).send().await.unwrap();
        self.until("the first task set is steady", async || {
            self.primary_is_steady().await
        })
        .await;
    }

    pub async fn create_service(&self, task_definition: &str, desired_count: i32) {
        let request = self.service_request(task_definition, desired_count);
        request.send().await.unwrap();
    }

    /// A request for a service, to be changed and sent.
    pub fn service_request(
        &self,
        task_definition: &str,
        desired_count: i32,
    ) -> aws_sdk_ecs::operation::create_service::builders::CreateServiceFluentBuilder {
        let stack = self.stage.stack();
        self.ecs
            .create_service()
            .cluster("demo")
            .service_name("demo")
            .task_definition(task_definition)
            .desired_count(desired_count)
            .launch_type(ecs::LaunchType::Fargate)
            .deployment_controller(
                ecs::DeploymentController::builder()
                    .r#type(ecs::DeploymentControllerType::CodeDeploy)
                    .build()
                    .unwrap(),
            )
            .network_configuration(network())
            .load_balancers(
                ecs::LoadBalancer::builder()
                    .target_group_arn(stack.target_group_arn(&stack.target_groups[0]))
                    .container_name("app")
                    .container_port(8080)
                    .build(),
            )
    }

    pub async fn create_application(&self) {
        self.codedeploy
            .create_application()
            .application_name("demo")
            .compute_platform(cd::ComputePlatform::Ecs)
            .send()
            .await
            .unwrap();
    }

    /// A request for a deployment group, to be changed and sent.
    pub fn group(
        &self,
        setting: &Setting,
    ) -> aws_sdk_codedeploy::operation::create_deployment_group::builders::CreateDeploymentGroupFluentBuilder
    {
        let stack = self.stage.stack();
        let route = |arn: String| cd::TrafficRoute::builder().listener_arns(arn).build();
        let mut pair = cd::TargetGroupPairInfo::builder()
            .target_groups(cd::TargetGroupInfo::builder().name("demo-b").build())
            .target_groups(cd::TargetGroupInfo::builder().name("demo-a").build())
            .prod_traffic_route(route(stack.production_listener_arn()));
        if setting.test_listener {
            pair = pair.test_traffic_route(route(stack.test_listener_arn()));
        }
        let ready = match setting.ready_wait {
            None => cd::DeploymentReadyOption::builder()
                .action_on_timeout(cd::DeploymentReadyAction::ContinueDeployment),
            Some(minutes) => cd::DeploymentReadyOption::builder()
                .action_on_timeout(cd::DeploymentReadyAction::StopDeployment)
                .wait_time_in_minutes(minutes),
        };
        let alarms: Vec<_> = setting
            .alarms
            .iter()
            .map(|name| cd::Alarm::builder().name(*name).build())
            .collect();
        let mut rollback =
            cd::AutoRollbackConfiguration::builder().enabled(!setting.rollback.is_empty());
        for event in &setting.rollback {
            rollback = rollback.events(event.clone());
        }
        self.codedeploy
            .create_deployment_group()
            .application_name("demo")
            .deployment_group_name("demo")
            .deployment_config_name(setting.config)
            .service_role_arn("arn:aws:iam::000000000000:role/codedeploy")
            .deployment_style(
                cd::DeploymentStyle::builder()
                    .deployment_type(cd::DeploymentType::BlueGreen)
                    .deployment_option(cd::DeploymentOption::WithTrafficControl)
                    .build(),
            )
            .ecs_services(
                cd::EcsService::builder()
                    .cluster_name("demo")
                    .service_name("demo")
                    .build(),
            )
            .load_balancer_info(
                cd::LoadBalancerInfo::builder()
                    .target_group_pair_info_list(pair.build())
                    .build(),
            )
            .blue_green_deployment_configuration(
                cd::BlueGreenDeploymentConfiguration::builder()
                    .deployment_ready_option(ready.build())
                    .terminate_blue_instances_on_deployment_success(
                        cd::BlueInstanceTerminationOption::builder()
                            .action(cd::InstanceAction::Terminate)
                            .termination_wait_time_in_minutes(setting.termination_wait)
                            .build(),
                    )
                    .build(),
            )
            .alarm_configuration(
                cd::AlarmConfiguration::builder()
                    .enabled(!alarms.is_empty())
                    .set_alarms(Some(alarms))
                    .build(),
            )
            .auto_rollback_configuration(rollback.build())
    }

    /// The ARN of a new revision of the test program with this environment.
    pub async fn register(&self, environment: &[(&str, &str)]) -> String {
        self.register_as("app", environment, &[]).await
    }

    pub async fn register_as(
        &self,
        family: &str,
        environment: &[(&str, &str)],
        command: &[&str],
    ) -> String {
        let mut container = self.container(environment);
        for word in command {
            container = container.command(*word);
        }
        self.register_container(family, container).await
    }

    /// The container `app` of the test image, listening on 8080, to be changed and registered.
    pub fn container(
        &self,
        environment: &[(&str, &str)],
    ) -> ecs::builders::ContainerDefinitionBuilder {
        let mut container = ecs::ContainerDefinition::builder()
            .name("app")
            .image(&self.image)
            .readonly_root_filesystem(true)
            .port_mappings(ecs::PortMapping::builder().container_port(8080).build());
        for (name, value) in environment {
            let pair = ecs::KeyValuePair::builder()
                .name(*name)
                .value(*value)
                .build();
            container = container.environment(pair);
        }
        container
    }

    pub async fn register_container(
        &self,
        family: &str,
        container: ecs::builders::ContainerDefinitionBuilder,
    ) -> String {
        let answer = self
            .ecs
            .register_task_definition()
            .family(family)
            .network_mode(ecs::NetworkMode::Awsvpc)
            .requires_compatibilities(ecs::Compatibility::Fargate)
            .cpu("256")
            .memory("512")
            .execution_role_arn("arn:aws:iam::000000000000:role/execution")
            .container_definitions(container.build())
            .send()
            .await
            .unwrap();
        answer.task_definition.unwrap().task_definition_arn.unwrap()
    }

    /// A request for a deployment, to be changed and sent.
    pub fn deployment_of(
        &self,
        appspec: &str,
    ) -> aws_sdk_codedeploy::operation::create_deployment::builders::CreateDeploymentFluentBuilder
    {
        self.codedeploy
            .create_deployment()
            .application_name("demo")
            .deployment_group_name("demo")
            .revision(
                cd::RevisionLocation::builder()
                    .revision_type(cd::RevisionLocationType::AppSpecContent)
                    .app_spec_content(cd::AppSpecContent::builder().content(appspec).build())
                    .build(),
            )
    }

    /// Begins a deployment of the test program with this environment.
    pub async fn deploy(&self, environment: &[(&str, &str)]) -> String {
        self.deploy_with_hooks(environment, &[]).await
    }

    pub async fn deploy_with_hooks(
        &self,
        environment: &[(&str, &str)],
        hooks: &[(&str, &str)],
    ) -> String {
        let definition = self.register(environment).await;
        self.deploy_definition(&definition, hooks).await
    }

    /// Begins a deployment of a registered definition.
    pub async fn deploy_definition(&self, definition: &str, hooks: &[(&str, &str)]) -> String {
        let appspec = appspec(definition, hooks);
        self.deployment_of(&appspec)
            .send()
            .await
            .unwrap()
            .deployment_id
            .unwrap()
    }

    pub async fn info(&self, id: &str) -> DeploymentInfo {
        let answer = self
            .codedeploy
            .get_deployment()
            .deployment_id(id)
            .send()
            .await
            .unwrap();
        answer.deployment_info.unwrap()
    }

    /// The deployment's target; `None` before it has started.
    pub async fn target(&self, id: &str) -> Option<EcsTarget> {
        let answer = self
            .codedeploy
            .get_deployment_target()
            .deployment_id(id)
            .target_id("demo:demo")
            .send()
            .await;
        match answer {
            Ok(answer) => answer.deployment_target.unwrap().ecs_target,
            Err(error) => {
                assert_eq!(code(&error), "DeploymentNotStartedException");
                None
            }
        }
    }

    /// The status of each lifecycle event, in order.
    pub async fn events(&self, id: &str) -> Vec<(String, LifecycleEventStatus)> {
        let target = self.target(id).await.unwrap();
        target
            .lifecycle_events()
            .iter()
            .map(|event| {
                (
                    event.lifecycle_event_name().unwrap().to_owned(),
                    event.status.clone().unwrap(),
                )
            })
            .collect()
    }

    /// The names of the lifecycle events with one status.
    pub async fn events_that_are(&self, id: &str, status: LifecycleEventStatus) -> Vec<String> {
        let events = self.events(id).await;
        events
            .into_iter()
            .filter(|(_, is)| *is == status)
            .map(|(name, _)| name)
            .collect()
    }

    /// Production weights by target group.
    pub fn weights(&self) -> BTreeMap<String, u32> {
        self.stage
            .load_balancer()
            .weights(stage::elb::Listener::Production)
            .into_iter()
            .collect()
    }

    pub fn weight(&self, group: &str) -> u32 {
        self.weights().get(group).copied().unwrap_or(0)
    }

    /// Waits for a deployment's status. Another end than the one waited for is shown.
    pub async fn until_status(&self, id: &str, wanted: DeploymentStatus) -> DeploymentInfo {
        let begun = Instant::now();
        loop {
            let info = self.info(id).await;
            let status = info.status.clone().unwrap();
            if status == wanted {
                return info;
            }
            let ended = matches!(
                status,
                DeploymentStatus::Succeeded | DeploymentStatus::Failed | DeploymentStatus::Stopped
            );
            assert!(
                !ended && begun.elapsed() < LIMIT,
                "{id} is {status}, not {wanted}: {:?}; {:?}",
                info.error_information,
                self.story().await,
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until a share of traffic is green's.
    pub async fn until_weight(&self, group: &str, weight: u32) {
        self.until("the weight", async || self.weight(group) == weight)
            .await;
    }

    pub async fn until(&self, what: &str, mut condition: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !condition().await {
            assert!(
                begun.elapsed() < LIMIT,
                "never: {what}; {:#?}",
                self.story().await
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn service(&self) -> ecs::Service {
        let answer = self
            .ecs
            .describe_services()
            .cluster("demo")
            .services("demo")
            .send()
            .await
            .unwrap();
        answer.services.unwrap().remove(0)
    }

    pub async fn service_events(&self) -> Vec<String> {
        let answer = self
            .ecs
            .describe_services()
            .cluster("demo")
            .services("demo")
            .send()
            .await;
        let services = answer
            .ok()
            .and_then(|answer| answer.services)
            .unwrap_or_default();
        let events = services
            .first()
            .map(|service| service.events().to_vec())
            .unwrap_or_default();
        events
            .iter()
            .map(|event| event.message().unwrap_or_default().to_owned())
            .collect()
    }

    /// What a person would look at: the service's events, and why its tasks stopped.
    async fn story(&self) -> (Vec<String>, Vec<String>) {
        let list = self
            .ecs
            .list_tasks()
            .cluster("demo")
            .desired_status("STOPPED".into());
        let arns = list
            .send()
            .await
            .ok()
            .and_then(|list| list.task_arns)
            .unwrap_or_default();
        let describe = self
            .ecs
            .describe_tasks()
            .cluster("demo")
            .set_tasks(Some(arns));
        let tasks = describe
            .send()
            .await
            .ok()
            .and_then(|tasks| tasks.tasks)
            .unwrap_or_default();
        let reasons = tasks.iter().map(|task| {
            format!(
                "{:?}: {:?}",
                task.stop_code(),
                task.stopped_reason().unwrap_or_default()
            )
        });
        (self.service_events().await, reasons.collect())
    }

    pub async fn primary_is_steady(&self) -> bool {
        self.service().await.task_sets().iter().any(|set| {
            set.status() == Some("PRIMARY")
                && set.stability_status() == Some(&ecs::StabilityStatus::SteadyState)
        })
    }

    /// Waits until no deployment runs, none that rolls another one back either.
    pub async fn until_idle(&self) {
        self.until("no deployment runs", async || {
            let answer = self
                .codedeploy
                .list_deployments()
                .include_only_statuses(DeploymentStatus::Created)
                .include_only_statuses(DeploymentStatus::InProgress)
                .include_only_statuses(DeploymentStatus::Ready)
                .send()
                .await;
            answer.unwrap().deployments().is_empty()
        })
        .await;
    }

    /// Waits until only the PRIMARY task set is left.
    pub async fn until_alone(&self) {
        self.until_idle().await;
        self.until("one task set", async || {
            self.service().await.task_sets().len() == 1
        })
        .await;
    }

    /// `GET path` at the production listener.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(&self.stage.load_balancer().production_address(), path).await
    }

    /// `GET path` at the test listener.
    pub async fn get_test(&self, path: &str) -> (u16, String) {
        get(&self.stage.load_balancer().test_address(), path).await
    }

    pub async fn stop(self) {
        self.stage.stop().await;
    }
}

/// An AppSpec for the container `app`, as JSON.
pub fn appspec(task_definition: &str, hooks: &[(&str, &str)]) -> String {
    let hooks: Vec<_> = hooks
        .iter()
        .map(|(event, function)| serde_json::json!({ *event: function }))
        .collect();
    serde_json::json!({
        "version": 0.0,
        "Resources": [{ "TargetService": {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "TaskDefinition": task_definition,
                "LoadBalancerInfo": { "ContainerName": "app", "ContainerPort": 8080 },
            },
        } }],
        "Hooks": hooks,
    })
    .to_string()
}

async fn get(address: &std::net::SocketAddr, path: &str) -> (u16, String) {
    crate::support::get(address, path).await.unwrap()
}

pub fn network() -> ecs::NetworkConfiguration {
    ecs::NetworkConfiguration::builder()
        .awsvpc_configuration(
            ecs::AwsVpcConfiguration::builder()
                .subnets("subnet-1")
                .security_groups("sg-1")
                .build()
                .unwrap(),
        )
        .build()
}

/// The configuration of SDK clients for a stage: its endpoint and a user, and nothing special.
pub async fn sdk_config(stage: &Stage, access_key: &str, secret_key: &str) -> SdkConfig {
    let credentials = Credentials::new(access_key, secret_key, None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(stage.endpoint_url())
        .retry_config(RetryConfig::disabled())
        .load()
        .await
}

/// The exception's name.
pub fn code<E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(
    error: &SdkError<E, R>,
) -> String {
    error
        .code()
        .unwrap_or_else(|| panic!("no answer of the stage: {error:?}"))
        .to_owned()
}

/// The exception's message.
pub fn message<E: ProvideErrorMetadata + std::fmt::Debug, R: std::fmt::Debug>(
    error: &SdkError<E, R>,
) -> String {
    error
        .message()
        .unwrap_or_else(|| panic!("no answer of the stage: {error:?}"))
        .to_owned()
}
