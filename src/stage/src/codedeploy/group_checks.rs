//! What CodeDeploy refuses of a deployment group for ECS, and what a deployment reads from one.
//!
//! Sources: "`CreateDeploymentGroup`", "Create a deployment group for an Amazon ECS deployment".

use std::time::Duration;

use rollout::deployment::{Alarms, AutoRollback};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{names, refuse, state::State};
use crate::{Stack, front::Balancer, wire::ApiError};

type Check = Result<(), ApiError>;

/// The most alarms of a group, as the API's model has it (the quota page says 50, adjustable).
const ALARMS: usize = 10;
/// The longest termination wait, in minutes ("`BlueInstanceTerminationOption`").
const LONGEST_WAIT: i64 = 2880;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BlueGreen {
    terminate_blue_instances_on_deployment_success: Option<Termination>,
    deployment_ready_option: Option<Ready>,
    green_fleet_provisioning_option: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Termination {
    action: Option<String>,
    termination_wait_time_in_minutes: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ready {
    action_on_timeout: Option<String>,
    wait_time_in_minutes: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AlarmConfiguration {
    enabled: bool,
    ignore_poll_alarm_failure: bool,
    alarms: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named {
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AutoRollbackConfiguration {
    enabled: bool,
    events: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
struct LoadBalancerInfo {
    elb_info_list: Vec<Value>,
    target_group_info_list: Vec<Value>,
    target_group_pair_info_list: Vec<Pair>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Pair {
    target_groups: Vec<Named>,
    prod_traffic_route: Option<Route>,
    test_traffic_route: Option<Route>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Route {
    listener_arns: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EcsService {
    service_name: String,
    cluster_name: String,
}

/// What a deployment needs to know of its group.
#[derive(Debug)]
pub(super) struct GroupPlan {
    pub cluster: String,
    pub service: String,
    pub target_groups: [String; 2],
    pub production_listener: String,
    pub test_listener: bool,
    pub ready_wait: Option<Duration>,
    pub termination_wait: Duration,
}

/// Reads a member that may be absent.
fn member<T: Default + serde::de::DeserializeOwned>(
    settings: &Map<String, Value>,
    name: &str,
) -> Result<T, ApiError> {
    match settings.get(name) {
        None => Ok(T::default()),
        Some(value) => crate::wire::json::read(value.clone()),
    }
}

/// Checks the settings of a group, new or changed.
pub(super) fn check(
    state: &State,
    stack: &Stack,
    front: &Balancer,
    application: &str,
    group: &str,
    settings: &Map<String, Value>,
) -> Check {
    let platform = &state
        .application(application, &stack.account_id)?
        .compute_platform;
    if platform != "ECS" {
        // AWS's own text for an application that was not made for ECS, misleading as it is.
        return Err(refuse(
            "InvalidLoadBalancerInfoException",
            format!(
                "For BLUE_GREEN deployments with WITH_TRAFFIC_CONTROL, elbInfoList must be \
                 specified: the application's compute platform is {platform}, not ECS."
            ),
        ));
    }
    let list = |name: &str| {
        settings
            .get(name)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    if list("autoScalingGroups") > 0 {
        return Err(refuse(
            "InvalidAutoScalingGroupException",
            "Auto Scaling groups cannot be used with the compute platform ECS.",
        ));
    }
    if list("ec2TagFilters") > 0 || settings.contains_key("ec2TagSet") {
        return Err(refuse(
            "InvalidEC2TagException",
            "EC2 tags cannot be used with the compute platform ECS.",
        ));
    }
    check_config(state, settings)?;
    check_role(settings)?;
    check_style(settings)?;
    blue_green(settings)?;
    alarms(settings.get("alarmConfiguration"))?;
    auto_rollback(settings.get("autoRollbackConfiguration"))?;
    let (service, cluster) = check_service(settings)?;
    pair(stack, front, settings)?;
    for other_application in state.applications.values() {
        for other in other_application.groups.values() {
            if other_application.name == application && other.name == group {
                continue;
            }
            let same = check_service(&other.settings)
                .is_ok_and(|(s, c)| short(&s) == short(&service) && short(&c) == short(&cluster));
            if same {
                return Err(refuse(
                    "ECSServiceMappingLimitExceededException",
                    format!(
                        "The Amazon ECS service {cluster}:{service} is already associated with the \
                         deployment group {}:{}",
                        other_application.name, other.name
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn short(name_or_arn: &str) -> &str {
    name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
}

fn check_config(state: &State, settings: &Map<String, Value>) -> Check {
    let Some(name) = settings.get("deploymentConfigName").and_then(Value::as_str) else {
        return Ok(());
    };
    names::config(Some(name))?;
    if state.routing(name).is_none() {
        return Err(names::no_config(name));
    }
    Ok(())
}

fn check_role(settings: &Map<String, Value>) -> Check {
    let role = settings
        .get("serviceRoleArn")
        .and_then(Value::as_str)
        .filter(|role| !role.is_empty())
        .ok_or_else(|| refuse("RoleRequiredException", "The role ID was not specified."))?;
    let valid = role.starts_with("arn:aws") && role.contains(":iam::") && role.contains(":role/");
    if valid {
        return Ok(());
    }
    Err(refuse(
        "InvalidRoleException",
        format!("The role '{role}' is not a valid ARN of a role"),
    ))
}

fn check_style(settings: &Map<String, Value>) -> Check {
    let style = settings.get("deploymentStyle");
    let text = |name| {
        style
            .and_then(|style| style.get(name))
            .and_then(Value::as_str)
    };
    if text("deploymentType") == Some("BLUE_GREEN")
        && text("deploymentOption") == Some("WITH_TRAFFIC_CONTROL")
    {
        return Ok(());
    }
    Err(refuse(
        "InvalidDeploymentStyleException",
        "ECS deployment groups must have the deployment style BLUE_GREEN and WITH_TRAFFIC_CONTROL.",
    ))
}

/// The waits: how long for a `ContinueDeployment`, if at all, and before blue is terminated.
pub(super) fn blue_green(
    settings: &Map<String, Value>,
) -> Result<(Option<Duration>, Duration), ApiError> {
    let invalid =
        |message: &str| refuse("InvalidBlueGreenDeploymentConfigurationException", message);
    let given: BlueGreen = member(settings, "blueGreenDeploymentConfiguration")?;
    if given.green_fleet_provisioning_option.is_some() {
        return Err(invalid(
            "greenFleetProvisioningOption cannot be used with ECS.",
        ));
    }
    let ready = given.deployment_ready_option.unwrap_or_default();
    let minutes = |value: i64| {
        u64::try_from(value)
            .map(|minutes| Duration::from_secs(minutes * 60))
            .unwrap_or_default()
    };
    let ready_wait = match ready.action_on_timeout.as_deref() {
        None | Some("CONTINUE_DEPLOYMENT") if ready.wait_time_in_minutes == 0 => None,
        None | Some("CONTINUE_DEPLOYMENT") => {
            return Err(invalid(
                "waitTimeInMinutes must not be set when actionOnTimeout is CONTINUE_DEPLOYMENT.",
            ));
        }
        Some("STOP_DEPLOYMENT") if (1..=LONGEST_WAIT).contains(&ready.wait_time_in_minutes) => {
            Some(minutes(ready.wait_time_in_minutes))
        }
        Some("STOP_DEPLOYMENT") => {
            return Err(invalid(
                "waitTimeInMinutes must be between 1 and 2880 when actionOnTimeout is STOP_DEPLOYMENT.",
            ));
        }
        Some(_) => {
            return Err(invalid(
                "actionOnTimeout must be CONTINUE_DEPLOYMENT or STOP_DEPLOYMENT.",
            ));
        }
    };
    let termination = given
        .terminate_blue_instances_on_deployment_success
        .unwrap_or_default();
    match termination.action.as_deref() {
        None | Some("TERMINATE") => {}
        Some("KEEP_ALIVE") => {
            return Err(invalid(
                "KEEP_ALIVE cannot be used with ECS: use TERMINATE.",
            ));
        }
        Some(_) => return Err(invalid("action must be TERMINATE.")),
    }
    if !(0..=LONGEST_WAIT).contains(&termination.termination_wait_time_in_minutes) {
        return Err(invalid(
            "terminationWaitTimeInMinutes must be between 0 and 2880.",
        ));
    }
    Ok((
        ready_wait,
        minutes(termination.termination_wait_time_in_minutes),
    ))
}

/// The alarms of an `alarmConfiguration` or `overrideAlarmConfiguration`.
pub(super) fn alarms(given: Option<&Value>) -> Result<Alarms, ApiError> {
    let Some(given) = given else {
        return Ok(Alarms::default());
    };
    let invalid = |message: &str| refuse("InvalidAlarmConfigException", message);
    let given: AlarmConfiguration = crate::wire::json::read(given.clone())?;
    if given.alarms.len() > ALARMS {
        return Err(refuse(
            "AlarmsLimitExceededException",
            format!("The maximum number of alarms for a deployment group ({ALARMS}) was exceeded."),
        ));
    }
    let mut names = Vec::new();
    for alarm in given.alarms {
        let name = alarm
            .name
            .filter(|name| !name.is_empty() && name.chars().count() <= 255);
        let name = name.ok_or_else(|| {
            invalid("The format of the alarm configuration is invalid: an alarm's name must have 1 to 255 characters.")
        })?;
        if names.contains(&name) {
            return Err(invalid(
                "The format of the alarm configuration is invalid: the same alarm is listed twice.",
            ));
        }
        names.push(name);
    }
    if given.enabled && names.is_empty() {
        return Err(invalid(
            "The format of the alarm configuration is invalid: it is enabled, but the alarm list is empty.",
        ));
    }
    if !given.enabled {
        names.clear();
    }
    Ok(Alarms {
        names,
        ignore_poll_failure: given.ignore_poll_alarm_failure,
    })
}

/// The endings after which an `autoRollbackConfiguration` rolls back.
pub(super) fn auto_rollback(given: Option<&Value>) -> Result<AutoRollback, ApiError> {
    let Some(given) = given else {
        return Ok(AutoRollback::NONE);
    };
    let given: AutoRollbackConfiguration = crate::wire::json::read(given.clone())?;
    let mut rollback = AutoRollback::NONE;
    for event in &given.events {
        match event.as_str() {
            "DEPLOYMENT_FAILURE" => rollback.on_failure = true,
            "DEPLOYMENT_STOP_ON_ALARM" => rollback.on_alarm = true,
            "DEPLOYMENT_STOP_ON_REQUEST" => rollback.on_request = true,
            other => {
                return Err(refuse(
                    "InvalidAutoRollbackConfigException",
                    format!("'{other}' is not an event for automatic rollback"),
                ));
            }
        }
    }
    if !given.enabled {
        return Ok(AutoRollback::NONE);
    }
    if given.events.is_empty() {
        return Err(refuse(
            "InvalidAutoRollbackConfigException",
            "Automatic rollback is enabled, but an invalid triggering event type or no event types were listed.",
        ));
    }
    Ok(rollback)
}

/// The one service: name and cluster, as they were given.
fn check_service(settings: &Map<String, Value>) -> Result<(String, String), ApiError> {
    let invalid = |message: &str| refuse("InvalidECSServiceException", message);
    let services: Vec<EcsService> = member(settings, "ecsServices")?;
    let [service] = services.as_slice() else {
        return Err(invalid(
            "ECS deployment groups must have exactly one entry in ecsServices.",
        ));
    };
    let valid = |name: &str| {
        !short(name).is_empty()
            && short(name)
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !valid(&service.service_name) || !valid(&service.cluster_name) {
        return Err(invalid("The Amazon ECS service identifier is not valid."));
    }
    Ok((service.service_name.clone(), service.cluster_name.clone()))
}

/// The pair of target groups, and the listeners.
fn pair(
    stack: &Stack,
    front: &Balancer,
    settings: &Map<String, Value>,
) -> Result<([String; 2], String, bool), ApiError> {
    let invalid_info = |message: &str| refuse("InvalidLoadBalancerInfoException", message);
    let info: LoadBalancerInfo = member(settings, "loadBalancerInfo")?;
    if !info.elb_info_list.is_empty() || !info.target_group_info_list.is_empty() {
        return Err(invalid_info(
            "ECS deployment groups use targetGroupPairInfoList, not elbInfoList or targetGroupInfoList.",
        ));
    }
    let [pair] = info.target_group_pair_info_list.as_slice() else {
        return Err(invalid_info(
            "ECS deployment groups must have exactly one entry in targetGroupPairInfoList.",
        ));
    };
    let invalid_pair = |message: String| refuse("InvalidTargetGroupPairException", message);
    let names: Vec<&str> = pair
        .target_groups
        .iter()
        .map(|group| group.name.as_deref().unwrap_or_default())
        .collect();
    let [first, second] = names.as_slice() else {
        return Err(invalid_pair(
            "A target group pair must have exactly two target groups.".into(),
        ));
    };
    if first == second {
        return Err(invalid_pair(
            "The two target groups of a pair must differ.".into(),
        ));
    }
    for name in [first, second] {
        let known = front.group_arn(name).is_some();
        if !(known || stack.foreign_target_groups && !name.is_empty()) {
            return Err(invalid_pair(format!(
                "The target group '{name}' does not exist, or is not associated with the load balancer."
            )));
        }
    }
    let listener = |route: &Option<Route>| -> Result<Option<String>, ApiError> {
        let Some(route) = route else { return Ok(None) };
        let [arn] = route.listener_arns.as_slice() else {
            return Err(invalid_info(
                "A traffic route must have exactly one listener.",
            ));
        };
        let known = front.listener(arn).is_some();
        if !(known || stack.foreign_target_groups && arn.starts_with("arn:")) {
            return Err(invalid_info(&format!(
                "The listener {arn} could not be found."
            )));
        }
        Ok(Some(arn.clone()))
    };
    let production = listener(&pair.prod_traffic_route)?
        .ok_or_else(|| invalid_info("The production traffic route is missing."))?;
    let test = listener(&pair.test_traffic_route)?;
    if test.as_ref() == Some(&production) {
        return Err(invalid_info(
            "The production and the test listener must differ.",
        ));
    }
    Ok((
        [(*first).to_owned(), (*second).to_owned()],
        production,
        test.is_some(),
    ))
}

/// What a deployment needs to know of a group that has been checked.
pub(super) fn plan(
    stack: &Stack,
    front: &Balancer,
    settings: &Map<String, Value>,
) -> Result<GroupPlan, ApiError> {
    let (service, cluster) = check_service(settings)?;
    let (target_groups, production_listener, test_listener) = pair(stack, front, settings)?;
    let (ready_wait, termination_wait) = blue_green(settings)?;
    Ok(GroupPlan {
        cluster,
        service,
        target_groups,
        production_listener,
        test_listener,
        ready_wait,
        termination_wait,
    })
}
