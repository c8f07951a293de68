//! Step 1: look at everything, change nothing.

use aws_sdk_codedeploy::types as cd;
use aws_sdk_ecs::types as ecs;
use rollout::event::Event;
use rollout::timeline::{Traffic, findings};
use rollout::traffic::TrafficRouting;
use std::time::Duration;

use super::watch::{Plan, Running};
use super::{Done, Release, count, deploy, short};
use crate::definition;
use crate::error::Error;
use crate::forecast;
use crate::package::foreseen_arn;

/// What preflight found, for the steps after it.
#[derive(Debug)]
pub struct Ground {
    /// The revision that already equals the one to be registered.
    pub registered: Option<String>,
    /// The task definition that has the traffic now.
    pub serving: String,
    /// How the deployment will go.
    pub plan: Plan,
    /// A running deployment of exactly this revision.
    pub running: Option<Running>,
}

pub async fn run(release: &Release<'_>) -> Result<Done<Ground>, Error> {
    // What the bundle says, before anybody is asked.
    let wanted = release.package.definition(release.target)?;
    let foreseen = foreseen_arn(release.target);
    release
        .package
        .appspec(release.target, release.hooks, &wanted, &foreseen)?;

    // What the target says. All questions at once: they do not depend on each other.
    let clients = release.clients;
    let answers = tokio::try_join!(
        clients.codedeploy.group(),
        clients.codedeploy.configuration(release.deployment_config),
        clients.codedeploy.active(),
        clients.ecs.service(),
        clients.ecs.latest(wanted.family().unwrap_or_default()),
        clients.s3.check(),
    );
    let (group, configuration, active, service, latest, ()) = answers.map_err(|error| {
        if error.transient {
            Error::Aws(error)
        } else {
            Error::Refused(error.to_string())
        }
    })?;
    let service = usable_service(release, service)?;
    check_group(release, &group)?;
    let serving = service.task_definition.clone().unwrap_or_default();
    let registered = latest
        .filter(|latest| definition::equal(latest, &wanted))
        .and_then(|latest| latest.task_definition_arn);
    let plan = plan(&group, &configuration);
    tell_findings(release, &plan);

    let running = match active {
        None => None,
        Some(active) => {
            let key = match &registered {
                Some(arn) => Some(deploy::key(
                    release,
                    &release
                        .package
                        .appspec(release.target, release.hooks, &wanted, arn)?,
                )),
                None => None,
            };
            Some(same_or_refused(
                release,
                &active,
                key.as_deref(),
                registered.as_ref(),
                &plan,
            )?)
        }
    };
    let migrations = release.package.bundle.migrations();
    let detail = match &running {
        Some(running) => format!(
            "deployment {} of the same revision is running: it is watched, not doubled",
            running.deployment_id
        ),
        None => format!(
            "bundle verified, {}, service {} serves {}, nothing else runs{}",
            count(migrations.len(), "migration"),
            release.target.service,
            short(&serving),
            foreign_configuration(release),
        ),
    };
    Done::new(
        Ground {
            registered,
            serving,
            plan,
            running,
        },
        detail,
    )
}

/// Says what in the plan will not work as it is meant. At AWS the alarms are the account's, and are not
/// looked at here.
fn tell_findings(release: &Release<'_>, plan: &Plan) {
    let Some(stage) = &release.target.stage else {
        return;
    };
    let config = &release.package.config;
    let traffic = Traffic::of(config.stage.traffic / stage.speed);
    let foreseen = forecast::plan(config, plan.routing, traffic);
    for finding in findings(&foreseen).unwrap_or_default() {
        release.announcer.event(Event::PlanFinding {
            severity: finding.severity(),
            says: finding.to_string(),
            mend: finding.mend(),
        });
    }
}

/// Says so, when what is deployed is not all in the bundle.
fn foreign_configuration(release: &Release<'_>) -> String {
    let package = release.package;
    if package.config_path == package.bundle.release_toml() {
        return String::new();
    }
    format!(
        "; configuration and templates from {}, not from the bundle",
        package.config_path.display()
    )
}

/// A service that CodeDeploy may deploy to.
fn usable_service(
    release: &Release<'_>,
    service: Option<ecs::Service>,
) -> Result<ecs::Service, Error> {
    let name = &release.target.service;
    let cluster = &release.target.cluster;
    let refused = |message: String| Err(Error::Refused(message));
    let Some(service) = service else {
        return refused(format!(
            "cluster {cluster} has no service {name}; check the target, or create the stack first"
        ));
    };
    if service.status() != Some("ACTIVE") {
        return refused(format!(
            "service {name} of cluster {cluster} is {}; it must be ACTIVE",
            service.status().unwrap_or("in no state")
        ));
    }
    let controller = service
        .deployment_controller()
        .map(|controller| &controller.r#type);
    if controller != Some(&ecs::DeploymentControllerType::CodeDeploy) {
        return refused(format!(
            "service {name} of cluster {cluster} has the deployment controller {}; it must be created with CODE_DEPLOY",
            controller.map_or("ECS", |controller| controller.as_str())
        ));
    }
    Ok(service)
}

/// The group must deploy this service, and nothing else.
fn check_group(release: &Release<'_>, group: &cd::DeploymentGroupInfo) -> Result<(), Error> {
    let target = release.target;
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let serves = group.ecs_services().iter().any(|service| {
        service.cluster_name().map(last).as_deref() == Some(&target.cluster)
            && service.service_name().map(last).as_deref() == Some(&target.service)
    });
    if !serves {
        return Err(Error::Refused(format!(
            "deployment group {}/{} does not deploy service {}/{}; check the target's names",
            target.application, target.deployment_group, target.cluster, target.service
        )));
    }
    Ok(())
}

/// An active deployment is either the one we would start, or a reason to refuse.
fn same_or_refused(
    release: &Release<'_>,
    active: &cd::DeploymentInfo,
    key: Option<&str>,
    registered: Option<&String>,
    plan: &Plan,
) -> Result<Running, Error> {
    let deployment_id = active.deployment_id.clone().unwrap_or_default();
    let same = key.is_some_and(|key| deploy::is_of(release, active, key));
    if let (true, Some(definition)) = (same, registered) {
        return Ok(Running {
            deployment_id,
            definition: definition.clone(),
            plan: plan.clone(),
        });
    }
    Err(another(release, active))
}

/// The refusal of a release while `active` runs.
pub fn another(release: &Release<'_>, active: &cd::DeploymentInfo) -> Error {
    let about = match active.description() {
        Some(description) if !description.is_empty() => format!(" ({description})"),
        _ if active.creator() == Some(&cd::DeploymentCreator::CodeDeployRollback) => {
            " (a rollback)".to_owned()
        }
        _ => String::new(),
    };
    Error::AnotherDeployment {
        deployment_id: active.deployment_id().unwrap_or("?").to_owned(),
        application: release.target.application.clone(),
        group: release.target.deployment_group.clone(),
        status: active
            .status()
            .map_or("active", |status| status.as_str())
            .to_owned(),
        about,
    }
}

/// How the deployment will go, as group and configuration have it.
fn plan(group: &cd::DeploymentGroupInfo, configuration: &cd::DeploymentConfigInfo) -> Plan {
    let minutes = |minutes: i32| Duration::from_secs(60 * u64::try_from(minutes).unwrap_or(0));
    let options = group.blue_green_deployment_configuration();
    let termination_wait = options
        .and_then(|options| options.terminate_blue_instances_on_deployment_success())
        .map_or(0, aws_sdk_codedeploy::types::BlueInstanceTerminationOption::termination_wait_time_in_minutes);
    let ready_wait = options
        .and_then(|options| options.deployment_ready_option())
        .map_or(
            0,
            aws_sdk_codedeploy::types::DeploymentReadyOption::wait_time_in_minutes,
        );
    let routing = configuration
        .traffic_routing_config()
        .map_or(TrafficRouting::AllAtOnce, routing);
    let rollback = group
        .auto_rollback_configuration()
        .filter(|rollback| rollback.enabled())
        .map(|rollback| rollback.events().to_vec())
        .unwrap_or_default();
    Plan {
        routing,
        ready_wait: minutes(ready_wait),
        termination_wait: minutes(termination_wait),
        rollback,
    }
}

fn routing(config: &cd::TrafficRoutingConfig) -> TrafficRouting {
    let percent = |percent: i32| u8::try_from(percent).unwrap_or(100);
    let wait = |minutes: i32| u64::try_from(minutes).unwrap_or(0);
    if let Some(canary) = config.time_based_canary() {
        return TrafficRouting::canary(
            percent(canary.canary_percentage()),
            wait(canary.canary_interval()),
        );
    }
    if let Some(linear) = config.time_based_linear() {
        return TrafficRouting::linear(
            percent(linear.linear_percentage()),
            wait(linear.linear_interval()),
        );
    }
    TrafficRouting::AllAtOnce
}
