//! ECS on Fargate: clusters, task definitions, services with task sets, tasks.
//!
//! A service with the deployment controller `CODE_DEPLOY` is a set of *task sets*, of which one is
//! PRIMARY; CodeDeploy makes and removes them, and ECS does what it always does: it keeps each at
//! its scale, restarts what dies, replaces what the load balancer finds unhealthy, and says when a
//! task set is steady. So here too: [`scheduler`] looks at one service at a time and makes the
//! tasks of each task set what they should be, [`task`] is the life of one task from PROVISIONING
//! to STOPPED, and the operations only change what should be.
//!
//! Everything is in one state behind one lock that is never held across an `await`. Whoever waits
//! for a change (the schedulers, CodeDeploy's drivers) subscribes to [`Ecs::changes`].

mod clusters;
mod prepare;
mod scheduler;
mod services;
mod services_update;
mod state;
mod tags;
mod task;
mod task_definition;
mod task_definitions;
mod task_sets;
mod tasks;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::watch;

use self::state::State;
use crate::{
    Stack,
    account::Account,
    clock::Clock,
    events::Events,
    front::Front,
    registry::Registry,
    runtime::{ImageStore, Runtime},
    secrets::Secrets,
    wire::{ApiError, JsonService},
};

pub(crate) use self::state::{LoadBalancerBinding, ServiceKey, TaskSetStatus};
pub(crate) use self::task_sets::{NewTaskSet, TaskSetView};

/// What ECS is made of.
pub(crate) struct Parts {
    pub clock: Clock,
    pub events: Events,
    pub stack: Stack,
    pub runtime: Runtime,
    pub images: ImageStore,
    pub registry: Registry,
    /// `127.0.0.1:PORT`, as it stands in images' names.
    pub registry_host: String,
    pub secrets: Secrets,
    pub front: Front,
    /// Where load balancers and secrets are asked for, if not here.
    pub account: Option<Account>,
    /// Where logs and image archives are written.
    pub dir: PathBuf,
    /// The loopback services that every task may reach.
    pub reach: Vec<SocketAddr>,
}

/// ECS. Clones share everything.
#[derive(Clone)]
pub(crate) struct Ecs(Arc<Inner>);

pub(crate) struct Inner {
    parts: Parts,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// Images are exported to the runtime one at a time, so that none is exported twice.
    importing: tokio::sync::Mutex<()>,
}

impl std::ops::Deref for Ecs {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl std::fmt::Debug for Ecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ecs").finish_non_exhaustive()
    }
}

/// An operation's answer.
type Answer = Result<Value, ApiError>;

impl Ecs {
    /// Without clusters, task definitions or services.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            importing: tokio::sync::Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes whenever anything has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    fn arn(&self, resource: &str) -> String {
        self.stack.arn("ecs", resource)
    }

    /// Starts no more tasks.
    pub fn close(&self) {
        let mut state = self.state();
        state.shut_down = true;
        state.services.clear();
        drop(state);
        self.changed();
    }

    /// Ends every task at once and starts no more.
    pub async fn shutdown(&self) {
        self.close();
        // A task that is between two steps of its start may still bring up a container.
        loop {
            self.runtime.shutdown().await;
            let alive: Vec<_> = {
                let mut state = self.state();
                let alive = state
                    .tasks
                    .values_mut()
                    .filter(|task| task.last_status != "STOPPED");
                alive
                    .map(|task| {
                        task.ask_to_stop(state::Stop {
                            code: "ServiceSchedulerInitiated",
                            reason: "The stage ends.".into(),
                        });
                        task.ended.clone()
                    })
                    .collect()
            };
            if alive.is_empty() {
                return;
            }
            for mut ended in alive {
                // Those that drain are not waited for; the load balancer ends with the stage.
                let wait = ended.wait_for(|ended| *ended);
                let _ = tokio::time::timeout(std::time::Duration::from_millis(100), wait).await;
            }
        }
    }
}

impl JsonService for Ecs {
    fn target_prefix(&self) -> &'static str {
        "AmazonEC2ContainerServiceV20141113"
    }

    fn signing_name(&self) -> &'static str {
        "ecs"
    }

    fn call<'a>(&'a self, operation: &'a str, input: Value) -> BoxFuture<'a, Option<Answer>> {
        Box::pin(async move {
            Some(match operation {
                "CreateCluster" => self.create_cluster(input),
                "DeleteCluster" => self.delete_cluster(input),
                "DescribeClusters" => self.describe_clusters(input),
                "ListClusters" => self.list_clusters(input),
                "RegisterTaskDefinition" => self.register_task_definition(input),
                "DescribeTaskDefinition" => self.describe_task_definition(input),
                "DeregisterTaskDefinition" => self.deregister_task_definition(input),
                "ListTaskDefinitions" => self.list_task_definitions(input),
                "ListTaskDefinitionFamilies" => self.list_task_definition_families(input),
                "CreateService" => match self.take_over(&input).await {
                    Ok(()) => self.create_service(input),
                    Err(error) => Err(error),
                },
                "DescribeServices" => self.describe_services(input),
                "ListServices" => self.list_services(input),
                "UpdateService" => self.update_service(input),
                "DeleteService" => self.delete_service(input),
                "RunTask" => self.run_task(input),
                "DescribeTasks" => self.describe_tasks(input),
                "ListTasks" => self.list_tasks(input),
                "StopTask" => self.stop_task(input),
                "CreateTaskSet" => self.create_task_set_refused(input),
                "UpdateTaskSet" | "DeleteTaskSet" | "UpdateServicePrimaryTaskSet" => {
                    self.task_set_refused(input)
                }
                "DescribeTaskSets" => self.describe_task_sets(input),
                "TagResource" => self.tag_resource(input),
                "UntagResource" => self.untag_resource(input),
                "ListTagsForResource" => self.list_tags_for_resource(input),
                _ => return None,
            })
        })
    }
}

/// `InvalidParameterException`
fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterException", message)
}

/// `ClientException`
fn client(message: impl Into<String>) -> ApiError {
    ApiError::client("ClientException", message)
}

fn cluster_not_found() -> ApiError {
    ApiError::client("ClusterNotFoundException", "Cluster not found.")
}

/// The last part of an ARN, or the name as it is.
fn short_name(name_or_arn: &str) -> &str {
    if name_or_arn.starts_with("arn:") {
        name_or_arn.rsplit('/').next().unwrap_or(name_or_arn)
    } else {
        name_or_arn
    }
}

/// A cluster's name from a name or ARN; ECS's default is the cluster `default`.
fn cluster_name(given: Option<&str>) -> &str {
    given
        .filter(|name| !name.is_empty())
        .map_or("default", short_name)
}

/// Cuts a page out of a list: `nextToken` is the index where the next page begins.
fn page<T>(
    items: Vec<T>,
    next_token: Option<&str>,
    max_results: Option<usize>,
    limit: usize,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let first: usize = match next_token {
        None => 0,
        Some(token) => token.parse().map_err(|_| invalid("Invalid token."))?,
    };
    let size = max_results.unwrap_or(limit);
    if size == 0 || size > limit {
        return Err(invalid(format!(
            "maxResults must be between 1 and {limit}."
        )));
    }
    let rest = items.len().saturating_sub(first);
    let next = (rest > size).then(|| (first + size).to_string());
    Ok((items.into_iter().skip(first).take(size).collect(), next))
}

/// `{ "<name>": items, "nextToken": … }`
fn list_answer(name: &str, items: &[String], next: Option<String>) -> Value {
    let mut answer = BTreeMap::from([(name, json!(items))]);
    if let Some(next) = next {
        answer.insert("nextToken", json!(next));
    }
    json!(answer)
}

fn failure(arn: impl Into<String>) -> Value {
    json!({ "arn": arn.into(), "reason": "MISSING" })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_may_be_arns() {
        assert_eq!(cluster_name(None), "default");
        assert_eq!(cluster_name(Some("arn:aws:ecs:eu-west-1:0:cluster/a")), "a");
        assert_eq!(short_name("arn:aws:ecs:eu-west-1:0:service/a/b"), "b");
        assert_eq!(short_name("b"), "b");
    }

    #[test]
    fn pages_end_without_a_token() {
        let (first, next) = page((0..5).collect(), None, Some(2), 100).unwrap();
        assert_eq!((first, next.as_deref()), (vec![0, 1], Some("2")));
        let (last, next) = page((0..5).collect(), Some("4"), Some(2), 100).unwrap();
        assert_eq!((last, next), (vec![4], None));
        assert!(page(vec![1], Some("x"), None, 100).is_err());
        assert!(page(vec![1], None, Some(101), 100).is_err());
    }
}
