//! Deployments from the first request to the last event, with real tasks and real traffic.

mod checklist;
mod faults;
mod ways;

use std::time::Duration;

use aws_sdk_codedeploy::types as cd;

use crate::world::{ALL_AT_ONCE, Setting, World};

const EIGHT: [&str; 8] = [
    "BeforeInstall",
    "Install",
    "AfterInstall",
    "AllowTestTraffic",
    "AfterAllowTestTraffic",
    "BeforeAllowTraffic",
    "AllowTraffic",
    "AfterAllowTraffic",
];

fn quick() -> Setting {
    Setting {
        config: ALL_AT_ONCE,
        termination_wait: 0,
        ..Setting::default()
    }
}

/// An alarm on a target group's 5xx, in OK by its data: none.
fn put_alarm(world: &World, name: &str, group: &str) {
    use rollout::alarm::{Comparison, Definition, Metric, MissingData, Statistic};
    let stack = world.stage.stack();
    let dimensions = [
        ("LoadBalancer".to_owned(), stack.load_balancer_dimension()),
        (
            "TargetGroup".to_owned(),
            stack.target_group_dimension(group),
        ),
    ];
    let alarm = Definition {
        name: name.to_owned(),
        metric: Metric {
            namespace: "AWS/ApplicationELB".into(),
            name: "HTTPCode_Target_5XX_Count".into(),
            dimensions: dimensions.into(),
        },
        statistic: Statistic::Sum,
        period: Duration::from_mins(1),
        evaluation_periods: 1,
        datapoints_to_alarm: 1,
        threshold: 10.0,
        comparison: Comparison::GreaterThanThreshold,
        treat_missing_data: MissingData::Ignore,
    };
    world.stage.alarms().put(alarm).unwrap();
}

/// A hook function that gives one answer through the API, as a Lambda function does; and its calls.
fn answer_hooks(
    world: &World,
    name: &str,
    status: cd::LifecycleEventStatus,
) -> std::sync::Arc<std::sync::Mutex<Vec<serde_json::Value>>> {
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (client, log) = (world.codedeploy.clone(), calls.clone());
    world
        .stage
        .functions()
        .put(name, move |payload: serde_json::Value| {
            log.lock().unwrap().push(payload.clone());
            let request = client
                .put_lifecycle_event_hook_execution_status()
                .deployment_id(payload["DeploymentId"].as_str().unwrap())
                .lifecycle_event_hook_execution_id(
                    payload["LifecycleEventHookExecutionId"].as_str().unwrap(),
                )
                .status(status.clone());
            async move {
                request
                    .send()
                    .await
                    .map(drop)
                    .map_err(|error| format!("{error:?}"))
            }
        });
    calls
}

/// The last status and the exit code of every task with a desired status.
async fn tasks(world: &World, desired: &str) -> Vec<(String, Option<i32>)> {
    let list = world
        .ecs
        .list_tasks()
        .cluster("demo")
        .desired_status(desired.into());
    let arns = list.send().await.unwrap().task_arns.unwrap();
    if arns.is_empty() {
        return Vec::new();
    }
    let describe = world
        .ecs
        .describe_tasks()
        .cluster("demo")
        .set_tasks(Some(arns));
    let described = describe.send().await.unwrap();
    described
        .tasks()
        .iter()
        .map(|task| {
            (
                task.last_status().unwrap().to_owned(),
                task.containers()[0].exit_code(),
            )
        })
        .collect()
}
