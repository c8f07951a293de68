//! The account of a rehearsal: what Terraform makes at AWS, made on a stage.
//!
//! The load balancer, its target groups, the alarms, the bucket, the database and the secret are
//! there when the stage starts. Cluster, service, application and deployment group are created
//! through the APIs, with the same SDKs that deploy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_sdk_codedeploy::types as cd;
use aws_sdk_ecs::types as ecs;
use rollout::alarm::{Definition, Metric};
use stage::{HealthCheck, Options, Stack, Stage};

use super::{Rehearsal, Setting, logs};
use crate::announce::{Announcer, StageClock};
use crate::aws::{AwsError, failed};
use crate::config::{Alarm, Config, Hooks, Per};
use crate::error::Error;
use crate::package::Package;
use crate::steps::{Release, short};
use crate::target::{Database, MetricNames, StageInfo, Target, Task, Urls, secrets};

/// How long the baseline may take to become healthy, in real time.
const PATIENCE: Duration = Duration::from_mins(1);

/// The stage's options.
pub fn options(config: &Config, setting: &Setting) -> Options {
    let mut stack = Stack::named(&config.application.name);
    stack.health_check = HealthCheck {
        path: config.application.health_check.clone(),
        ..HealthCheck::default()
    };
    stack.metric_delay = config.stage.metric_delay;
    stack.deregistration_delay = config.stage.deregistration_delay;
    stack.alarms = alarms(config, &stack);
    Options {
        dir: setting.directory.clone(),
        speed: setting.speed,
        ports: setting.ports,
        runtime: setting.runtime,
        postgres_bin: setting.postgres_bin.clone(),
        stack,
        ..Options::default()
    }
}

/// The application's database, and the secret with its password.
pub async fn database(config: &Config, stage: &Stage) -> Result<Database, Error> {
    let stack = stage.stack();
    let name = &config.application.name;
    let database_name = name.replace('-', "_");
    let database = stage
        .postgres()
        .create_database(&database_name, &database_name, &password())
        .await
        .map_err(|error| Error::Stage(error.to_string()))?;
    let secret_arn = stack.arn("secretsmanager", &format!("secret:{name}-database-serein"));
    stage.secrets().put(&secret_arn, &database.password);
    Ok(Database {
        host: database.address.ip().to_string(),
        port: database.address.port(),
        name: database.name,
        user: database.user,
        sslmode: "disable".to_owned(),
        secret_arn,
    })
}

/// A secret that nobody needs to know.
fn password() -> String {
    use sha2::{Digest as _, Sha256};
    use std::hash::{BuildHasher as _, RandomState};
    // Two random keys of the standard library: enough for a database on loopback.
    let seed = [
        RandomState::new().hash_one(1),
        RandomState::new().hash_one(2),
    ];
    hex::encode(&Sha256::digest(format!("{seed:?}"))[..16])
}

/// The configured alarms: those per target group twice, because the groups swap their roles.
pub fn alarms(config: &Config, stack: &Stack) -> Vec<Definition> {
    let name = &config.application.name;
    config
        .stage
        .alarms
        .iter()
        .flat_map(|alarm| match alarm.per {
            Per::LoadBalancer => {
                vec![definition(
                    alarm,
                    format!("{name}-{}", alarm.name),
                    stack,
                    None,
                )]
            }
            Per::TargetGroup => stack
                .target_groups
                .iter()
                .map(|group| {
                    definition(alarm, format!("{group}-{}", alarm.name), stack, Some(group))
                })
                .collect(),
        })
        .collect()
}

fn definition(alarm: &Alarm, name: String, stack: &Stack, group: Option<&str>) -> Definition {
    let mut dimensions = vec![("LoadBalancer".to_owned(), stack.load_balancer_dimension())];
    dimensions.extend(group.map(|group| {
        (
            "TargetGroup".to_owned(),
            stack.target_group_dimension(group),
        )
    }));
    Definition {
        name,
        metric: Metric {
            namespace: "AWS/ApplicationELB".to_owned(),
            name: alarm.metric.clone(),
            dimensions: dimensions.into_iter().collect(),
        },
        statistic: alarm.statistic,
        period: alarm.period,
        evaluation_periods: alarm.evaluation_periods,
        datapoints_to_alarm: alarm
            .datapoints_to_alarm
            .unwrap_or(alarm.evaluation_periods),
        threshold: alarm.threshold,
        comparison: alarm.comparison,
        treat_missing_data: alarm.treat_missing_data,
    }
}

/// The target that the stage is.
pub fn target(config: &Config, stage: &Stage, database: Database) -> Target {
    let stack = stage.stack();
    let name = &config.application.name;
    let role = |role: &str| format!("arn:aws:iam::{}:role/{name}-{role}", stack.account_id);
    Target {
        name: "stage".to_owned(),
        region: stack.region.clone(),
        account_id: stack.account_id.clone(),
        endpoint_url: Some(stage.endpoint_url()),
        stage: Some(info(stage)),
        cluster: stack.cluster.clone(),
        service: stack.service.clone(),
        application: name.clone(),
        deployment_group: name.clone(),
        bucket: stack.buckets.first().cloned().unwrap_or_default(),
        static_bucket: None,
        repository: format!("{}/{name}", stage.registry()),
        task: Task {
            family: name.clone(),
            execution_role_arn: role("execution"),
            task_role_arn: role("task"),
            subnets: vec!["subnet-00000000000000001".to_owned()],
            security_groups: vec!["sg-00000000000000001".to_owned()],
            assign_public_ip: false,
            log_group: format!("/ecs/{name}"),
        },
        database,
        secrets: secrets(&config.stage.secrets, |secret| {
            let arn = stack.arn("secretsmanager", &format!("secret:{name}/{secret}-serein"));
            stage.secrets().put(&arn, password());
            arn
        }),
        target_groups: stack.target_groups.to_vec(),
        metrics: Some(MetricNames {
            load_balancer: stack.load_balancer_dimension(),
            target_groups: stack
                .target_groups
                .iter()
                .map(|group| (group.clone(), stack.target_group_dimension(group)))
                .collect(),
        }),
        alarms: stack
            .alarms
            .iter()
            .map(|alarm| alarm.name.clone())
            .collect(),
        hooks: BTreeMap::new(),
        strategies: BTreeMap::new(),
        urls: Urls {
            production: stage.production_url(),
            test: Some(stage.test_url()),
            assets: None,
        },
    }
}

/// The stage's time and place.
fn info(stage: &Stage) -> StageInfo {
    let clock = StageClock::now(stage.clock().speed(), stage.clock().now());
    StageInfo {
        speed: clock.speed,
        origin_ms: clock.origin.as_millis(),
        directory: stage.dir().to_owned(),
    }
}

/// What was started, in one line.
pub fn description(stage: &Stage, took: Duration) -> String {
    let isolation = stage.isolation();
    format!(
        "PostgreSQL, load balancer, APIs and {} in {:.1} s",
        match isolation.kind {
            stage::runtime::Kind::Process => "tasks WITHOUT isolation",
            stage::runtime::Kind::Runc => "tasks in runc",
            _ => "tasks in own namespaces",
        },
        took.as_secs_f64()
    )
}

/// Deploys the baseline to an empty stack and waits until it is healthy.
pub async fn baseline(
    rehearsal: &Rehearsal,
    package: &Package,
    announcer: &Announcer,
) -> Result<String, Error> {
    let begun = Instant::now();
    create_cluster(rehearsal).await?;
    let release = Release {
        package,
        target: &rehearsal.target,
        clients: &rehearsal.clients,
        announcer,
        deployment_config: "",
        hooks: &Hooks::new(),
        judge: None,
        timeout: None,
        follow: String::new(),
        deployment: std::sync::OnceLock::new(),
    };
    let definition = release.prepare().await.map_err(|error| {
        // Whatever it is, it is not the new version's failure.
        Error::Stage(format!(
            "the baseline {} cannot be brought up: {error}",
            package.bundle.version()
        ))
    })?;
    create_service(rehearsal, package, &definition).await?;
    let (group, healthy) = tokio::join!(
        create_group(rehearsal, package),
        wait_until_steady(rehearsal, package, &definition)
    );
    group?;
    healthy?;
    Ok(format!(
        "{} serves at {} after {:.1} s",
        package.bundle.version(),
        rehearsal.target.urls.production,
        begun.elapsed().as_secs_f64()
    ))
}

async fn create_cluster(rehearsal: &Rehearsal) -> Result<(), AwsError> {
    rehearsal
        .clients
        .ecs
        .client()
        .create_cluster()
        .cluster_name(&rehearsal.target.cluster)
        .send()
        .await
        .map(drop)
        .map_err(failed("ECS", "CreateCluster"))
}

async fn create_service(
    rehearsal: &Rehearsal,
    package: &Package,
    definition: &str,
) -> Result<(), AwsError> {
    let target = &rehearsal.target;
    let application = &package.config.application;
    let network = ecs::AwsVpcConfiguration::builder()
        .set_subnets(Some(target.task.subnets.clone()))
        .set_security_groups(Some(target.task.security_groups.clone()))
        .build()
        .map_err(|error| AwsError::answered("ECS", "CreateService", error.to_string()))?;
    let controller = ecs::DeploymentController::builder()
        .r#type(ecs::DeploymentControllerType::CodeDeploy)
        .build()
        .map_err(|error| AwsError::answered("ECS", "CreateService", error.to_string()))?;
    let stack = rehearsal.stage().stack();
    rehearsal
        .clients
        .ecs
        .client()
        .create_service()
        .cluster(&target.cluster)
        .service_name(&target.service)
        .task_definition(definition)
        .desired_count(i32::try_from(package.config.stage.desired_count).unwrap_or(1))
        .launch_type(ecs::LaunchType::Fargate)
        .deployment_controller(controller)
        .network_configuration(
            ecs::NetworkConfiguration::builder()
                .awsvpc_configuration(network)
                .build(),
        )
        .load_balancers(
            ecs::LoadBalancer::builder()
                .target_group_arn(stack.target_group_arn(&stack.target_groups[0]))
                .container_name(&application.container)
                .container_port(i32::from(application.port))
                .build(),
        )
        .send()
        .await
        .map(drop)
        .map_err(failed("ECS", "CreateService"))
}

async fn create_group(rehearsal: &Rehearsal, package: &Package) -> Result<(), AwsError> {
    let target = &rehearsal.target;
    let stack = rehearsal.stage().stack();
    let client = rehearsal.clients.codedeploy.client();
    client
        .create_application()
        .application_name(&target.application)
        .compute_platform(cd::ComputePlatform::Ecs)
        .send()
        .await
        .map_err(failed("CodeDeploy", "CreateApplication"))?;
    let route = |listener: String| cd::TrafficRoute::builder().listener_arns(listener).build();
    let groups = target
        .target_groups
        .iter()
        .map(|group| cd::TargetGroupInfo::builder().name(group).build())
        .collect();
    let pair = cd::TargetGroupPairInfo::builder()
        .set_target_groups(Some(groups))
        .prod_traffic_route(route(stack.production_listener_arn()))
        .test_traffic_route(route(stack.test_listener_arn()))
        .build();
    let minutes = package.config.stage.termination_wait.as_secs() / 60;
    let blue_green = cd::BlueGreenDeploymentConfiguration::builder()
        .deployment_ready_option(
            cd::DeploymentReadyOption::builder()
                .action_on_timeout(cd::DeploymentReadyAction::ContinueDeployment)
                .build(),
        )
        .terminate_blue_instances_on_deployment_success(
            cd::BlueInstanceTerminationOption::builder()
                .action(cd::InstanceAction::Terminate)
                .termination_wait_time_in_minutes(i32::try_from(minutes).unwrap_or(5))
                .build(),
        )
        .build();
    let alarms: Vec<cd::Alarm> = target
        .alarms
        .iter()
        .map(|name| cd::Alarm::builder().name(name).build())
        .collect();
    client
        .create_deployment_group()
        .application_name(&target.application)
        .deployment_group_name(&target.deployment_group)
        .service_role_arn(format!(
            "arn:aws:iam::{}:role/{}-codedeploy",
            target.account_id, target.application
        ))
        .deployment_style(
            cd::DeploymentStyle::builder()
                .deployment_type(cd::DeploymentType::BlueGreen)
                .deployment_option(cd::DeploymentOption::WithTrafficControl)
                .build(),
        )
        .ecs_services(
            cd::EcsService::builder()
                .cluster_name(&target.cluster)
                .service_name(&target.service)
                .build(),
        )
        .load_balancer_info(
            cd::LoadBalancerInfo::builder()
                .target_group_pair_info_list(pair)
                .build(),
        )
        .blue_green_deployment_configuration(blue_green)
        .alarm_configuration(
            cd::AlarmConfiguration::builder()
                .enabled(!alarms.is_empty())
                .set_alarms(Some(alarms))
                .build(),
        )
        .auto_rollback_configuration(
            cd::AutoRollbackConfiguration::builder()
                .enabled(true)
                .events(cd::AutoRollbackEvent::DeploymentFailure)
                .events(cd::AutoRollbackEvent::DeploymentStopOnAlarm)
                .events(cd::AutoRollbackEvent::DeploymentStopOnRequest)
                .build(),
        )
        .send()
        .await
        .map(drop)
        .map_err(failed("CodeDeploy", "CreateDeploymentGroup"))
}

/// Polls until the service's first task set is steady: running, and healthy for the load balancer.
async fn wait_until_steady(
    rehearsal: &Rehearsal,
    package: &Package,
    definition: &str,
) -> Result<(), Error> {
    const PAUSE: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    loop {
        let service = rehearsal.clients.ecs.service().await?;
        let steady = service.is_some_and(|service| {
            service
                .task_sets()
                .iter()
                .any(|set| set.stability_status() == Some(&ecs::StabilityStatus::SteadyState))
        });
        if steady {
            return Ok(());
        }
        let stopped = rehearsal.clients.ecs.stopped_tasks(definition).await?;
        if begun.elapsed() > PATIENCE || stopped.len() > 2 {
            let reason = stopped.last().map_or_else(
                || "its tasks run, but the load balancer does not find them healthy".to_owned(),
                crate::aws::ecs::stopped_because,
            );
            let task = stopped
                .last()
                .and_then(|task| task.task_arn())
                .unwrap_or_default();
            let lines = logs::tail(rehearsal.stage().dir(), short(task), 20);
            return Err(Error::Stage(format!(
                "the baseline {} does not become healthy: {reason}{}",
                package.bundle.version(),
                lines
                    .iter()
                    .fold(String::new(), |text, line| format!("{text}\n    {line}"))
            )));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
