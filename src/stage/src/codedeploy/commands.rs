//! The commands of a deployment, carried out on ECS, the load balancer and the hook functions.

use std::{collections::BTreeMap, sync::Arc};

use rollout::{
    appspec::{AppSpec, NetworkConfiguration},
    deployment::{Command, Deployment, ErrorCode, ErrorInformation, Observation, Roles, Spec},
    event::{Event, TaskSetDescription},
};
use serde_json::{Map, Value, json};

use super::{
    CodeDeploy, driver,
    state::{DeploymentRecord, TaskSetShown, TaskSets},
};
use crate::{
    ecs::{LoadBalancerBinding, NewTaskSet, ServiceKey, TaskSetStatus, TaskSetView},
    elb::Listener,
};

type Done = Result<(), ErrorInformation>;

fn error(code: ErrorCode, message: impl Into<String>) -> ErrorInformation {
    ErrorInformation {
        code,
        message: message.into(),
    }
}

impl From<&TaskSetView> for TaskSetShown {
    fn from(set: &TaskSetView) -> Self {
        Self {
            id: set.id.clone(),
            status: set.status.as_str(),
            desired: set.desired,
            pending: set.pending,
            running: set.running,
            steady: set.steady,
        }
    }
}

impl CodeDeploy {
    /// What must be true before a deployment begins: an AppSpec that can be read, a service whose
    /// PRIMARY task set uses one of the two target groups, and a production listener that
    /// forwards to that group and to nobody else's tasks.
    pub(super) fn prepare(&self, id: &str) -> Done {
        let (plan, known) = {
            let state = self.state();
            let Some(record) = state.deployments.get(id) else {
                return Ok(());
            };
            (Arc::clone(&record.plan), record.task_sets.is_some())
        };
        if known {
            return Ok(()); // A rollback: the task sets are those of what it rolls back.
        }
        if let Err(problem) = &plan.appspec {
            return Err(problem.clone());
        }
        let (key, service) =
            self.ecs.service_view(&plan.cluster, &plan.service).ok_or_else(|| {
                error(
                    ErrorCode::InvalidEcsService,
                    format!(
                        "The Amazon ECS service {} in the cluster {} was not found, or is not active.",
                        plan.service, plan.cluster
                    ),
                )
            })?;
        let primary = service
            .task_sets
            .iter()
            .find(|set| set.status == TaskSetStatus::Primary)
            .ok_or_else(|| {
                error(
                    ErrorCode::InvalidEcsService,
                    "The Amazon ECS service has no PRIMARY task set.",
                )
            })?;
        let group = self
            .ecs
            .target_group(&primary.load_balancer.target_group_arn)
            .unwrap_or_default();
        let groups = Roles::assign(plan.target_groups.clone(), &group).ok_or_else(|| {
            error(
                ErrorCode::InvalidEcsService,
                format!(
                    "The target service must be configured using one of the two target groups of \
                     the deployment group; its PRIMARY task set uses '{group}'."
                ),
            )
        })?;
        let weights = self
            .front
            .get()
            .load_balancer
            .weights(self.production(&plan.production_listener));
        let weight = |group: &str| {
            weights
                .iter()
                .find(|(name, _)| name == group)
                .map_or(0, |(_, weight)| *weight)
        };
        if weight(&groups.blue) == 0 {
            return Err(error(
                ErrorCode::EcsUpdateError,
                "The ELB could not be updated due to the following error: Primary taskset target \
                 group must be behind listener",
            ));
        }
        let other = service.task_sets.iter().find(|set| {
            set.id != primary.id
                && (weight(&groups.green) > 0 || set.status != TaskSetStatus::Draining)
        });
        if let Some(other) = other {
            return Err(error(
                ErrorCode::EcsUpdateError,
                format!(
                    "The ECS service could not be updated due to the following error: TaskSet {} \
                     is behind prod listener {}. Verify that the TaskSet is still serving \
                     production traffic.",
                    other.id, plan.production_listener
                ),
            ));
        }
        let sets = TaskSets {
            service: key,
            service_arn: service.arn,
            groups,
            blue: primary.into(),
            green: None,
        };
        if let Some(record) = self.state().deployments.get_mut(id) {
            record.task_sets = Some(sets);
        }
        Ok(())
    }

    /// Carries out one command.
    pub(super) fn carry_out(&self, id: &str, command: Command) -> Done {
        match command {
            Command::PollAlarms { names } => {
                let states = names
                    .into_iter()
                    .filter_map(|name| Some((name.clone(), self.alarms.state(&name)?)))
                    .collect::<BTreeMap<_, _>>();
                let _ = self.request(&mut self.state(), id, Observation::Alarms(states));
                Ok(())
            }
            Command::CreateGreen => self.create_green(id),
            Command::AllowTestTraffic => self.forward(id, Listener::Test, 0, 100),
            Command::RestoreTestTraffic => self.forward(id, Listener::Test, 100, 0),
            Command::SetWeights { blue, green } => {
                self.forward(id, Listener::Production, blue.into(), green.into())
            }
            Command::InvokeHook {
                event: _,
                function,
                execution_id,
            } => {
                let payload = json!({
                    "DeploymentId": id,
                    "LifecycleEventHookExecutionId": execution_id,
                });
                if self.functions.invoke(&function, payload) {
                    return Ok(());
                }
                Err(error(
                    ErrorCode::HookExecutionFailure,
                    format!("The hook function {function} could not be invoked: it was not found."),
                ))
            }
            Command::MakeGreenPrimary => self.with_task_set(id, false, |service, set| {
                if self.ecs.make_primary(service, set) {
                    return Ok(());
                }
                Err(error(
                    ErrorCode::EcsUpdateError,
                    format!("The TaskSet {set} was not found."),
                ))
            }),
            Command::MakeBluePrimary => self.with_task_set(id, true, |service, set| {
                if self.ecs.make_primary(service, set) {
                    return Ok(());
                }
                Err(error(
                    ErrorCode::EcsUpdateError,
                    format!("The TaskSet {set} was not found."),
                ))
            }),
            Command::TerminateBlue => self.with_task_set(id, true, |service, set| {
                self.ecs.delete_task_set(service, set);
                Ok(())
            }),
            Command::TerminateGreen => self.with_task_set(id, false, |service, set| {
                self.ecs.delete_task_set(service, set);
                Ok(())
            }),
            Command::CreateRollbackDeployment { spec } => {
                self.create_rollback(id, *spec);
                Ok(())
            }
        }
    }

    fn with_task_set(
        &self,
        id: &str,
        blue: bool,
        act: impl FnOnce(&ServiceKey, &str) -> Done,
    ) -> Done {
        let sets = self
            .state()
            .deployments
            .get(id)
            .and_then(|record| record.task_sets.clone());
        let Some(sets) = sets else { return Ok(()) };
        let set = if blue { Some(sets.blue) } else { sets.green };
        match set {
            Some(set) => act(&sets.service, &set.id),
            // Green was never created: there is nothing to terminate.
            None => Ok(()),
        }
    }

    /// Makes a listener forward to blue and green with these weights. Both groups stay in the
    /// rule, also with weight 0, so that ELB goes on checking their targets.
    fn forward(&self, id: &str, listener: Listener, blue: u32, green: u32) -> Done {
        let (groups, plan) = {
            let state = self.state();
            let Some(record) = state.deployments.get(id) else {
                return Ok(());
            };
            let Some(sets) = &record.task_sets else {
                return Ok(());
            };
            (sets.groups.clone(), Arc::clone(&record.plan))
        };
        let listener = match listener {
            Listener::Production => self.production(&plan.production_listener),
            Listener::Test => self.other(&plan.production_listener),
        };
        let front = self.front.get();
        let weights = [(groups.blue, blue), (groups.green, green)];
        front
            .load_balancer
            .set_weights(listener, &weights)
            .map_err(|problem| {
                error(
                    ErrorCode::EcsUpdateError,
                    format!("The ELB could not be updated due to the following error: {problem}"),
                )
            })?;
        if let Some(account) = &self.account {
            let arn = |name: &str| front.group_arn(name).unwrap_or_default().to_owned();
            let weights = weights.iter().map(|(name, weight)| (arn(name), *weight));
            account.set_weights(front.listener_arn(listener), weights.collect());
        }
        Ok(())
    }

    /// Which of the two listeners a group calls its production listener.
    fn production(&self, arn: &str) -> Listener {
        self.front
            .get()
            .listener(arn)
            .unwrap_or(Listener::Production)
    }

    fn other(&self, production: &str) -> Listener {
        match self.production(production) {
            Listener::Production => Listener::Test,
            Listener::Test => Listener::Production,
        }
    }

    /// Creates the replacement task set, and puts its target group behind the production listener
    /// with weight 0, as CodeDeploy does since 2022.
    fn create_green(&self, id: &str) -> Done {
        let (plan, sets) = {
            let state = self.state();
            let Some(record) = state.deployments.get(id) else {
                return Ok(());
            };
            (Arc::clone(&record.plan), record.task_sets.clone())
        };
        let (Some(sets), Ok(appspec)) = (sets, &plan.appspec) else {
            return Ok(());
        };
        let new = NewTaskSet {
            task_definition: appspec.task_definition.clone(),
            load_balancer: LoadBalancerBinding {
                target_group_arn: self
                    .front
                    .get()
                    .group_arn(&sets.groups.green)
                    .unwrap_or_default()
                    .to_owned(),
                container_name: appspec.container_name.clone(),
                container_port: appspec.container_port.into(),
            },
            external_id: Some(id.to_owned()),
            started_by: Some("CODE_DEPLOY".into()),
            platform_version: appspec.platform_version.clone(),
            network_configuration: appspec.network_configuration.as_ref().map(network),
            capacity_provider_strategy: strategy(appspec),
        };
        self.forward(id, Listener::Production, 100, 0)?;
        let green = self
            .ecs
            .create_task_set(&sets.service, new)
            .map_err(|problem| {
                error(
                    ErrorCode::EcsUpdateError,
                    format!(
                        "The ECS service could not be updated due to the following error: {}",
                        problem.message
                    ),
                )
            })?;
        if let Some(record) = self.state().deployments.get_mut(id)
            && let Some(sets) = &mut record.task_sets
        {
            sets.green = Some(TaskSetShown {
                id: green.clone(),
                status: "ACTIVE",
                desired: 0,
                pending: 0,
                running: 0,
                steady: false,
            });
        }
        let describe = |set: &str, group: &str| {
            let (task_definition, version) = self.ecs.task_set_version(&sets.service, set);
            TaskSetDescription {
                version,
                task_definition,
                target_group: group.to_owned(),
            }
        };
        self.events.emit(Event::RolesAssigned {
            deployment_id: id.to_owned(),
            roles: Roles {
                blue: describe(&sets.blue.id, &sets.groups.blue),
                green: describe(&green, &sets.groups.green),
            },
        });
        Ok(())
    }

    /// Takes over what ECS shows of the task sets; says whether green is steady. What is gone is
    /// shown as DRAINING without tasks.
    pub(super) fn look_at_task_sets(&self, id: &str) -> bool {
        let service = {
            let state = self.state();
            let sets = state
                .deployments
                .get(id)
                .and_then(|one| one.task_sets.as_ref());
            let Some(sets) = sets else { return false };
            sets.service.clone()
        };
        let view = self.ecs.service_view(&service.cluster, &service.service);
        let live = view.map(|(_, view)| view.task_sets).unwrap_or_default();
        let mut state = self.state();
        let sets = state
            .deployments
            .get_mut(id)
            .and_then(|one| one.task_sets.as_mut());
        let Some(sets) = sets else { return false };
        for shown in [Some(&mut sets.blue), sets.green.as_mut()]
            .into_iter()
            .flatten()
        {
            if let Some(set) = live.iter().find(|set| set.id == shown.id) {
                *shown = set.into();
            } else {
                shown.status = TaskSetStatus::Draining.as_str();
                (shown.desired, shown.pending, shown.running) = (0, 0, 0);
                shown.steady = false;
            }
        }
        sets.green.as_ref().is_some_and(|green| green.steady)
    }

    /// Enters the deployment that rolls another one back, and starts its driver.
    fn create_rollback(&self, of: &str, spec: Spec) {
        let mut state = self.state();
        let Some(parent) = state.deployments.get(of) else {
            return;
        };
        let now = self.clock.now();
        let id = spec.deployment_id.clone();
        let (machine, step) = Deployment::new(spec, now);
        let mut shown: Map<String, Value> = parent.shown.clone();
        shown.remove("overrideAlarmConfiguration");
        shown.insert(
            "autoRollbackConfiguration".into(),
            json!({ "enabled": false, "events": [] }),
        );
        let record = DeploymentRecord {
            config_name: "CodeDeployDefault.ECSAllAtOnce".into(),
            revision: parent.previous_revision.clone(),
            previous_revision: parent.previous_revision.clone(),
            creator: "codeDeployRollback",
            shown,
            task_sets: parent.task_sets.clone(),
            ..DeploymentRecord::new(
                machine,
                &parent.application,
                &parent.group,
                Arc::clone(&parent.plan),
            )
        };
        let (application, group) = (record.application.clone(), record.group.clone());
        self.begin(&mut state, record, step);
        if let Some(application) = state.applications.get_mut(&application)
            && let Some(group) = application.groups.get_mut(&group)
        {
            group.last_attempted = Some(id.clone());
        }
        drop(state);
        driver::start(self, id);
    }
}

fn network(given: &NetworkConfiguration) -> Value {
    json!({ "awsvpcConfiguration": {
        "subnets": given.subnets,
        "securityGroups": given.security_groups,
        "assignPublicIp": if given.assign_public_ip { "ENABLED" } else { "DISABLED" },
    } })
}

fn strategy(appspec: &AppSpec) -> Option<Value> {
    let entries: Vec<Value> = appspec
        .capacity_provider_strategy
        .iter()
        .map(|one| {
            json!({
                "capacityProvider": one.capacity_provider,
                "base": one.base,
                "weight": one.weight,
            })
        })
        .collect();
    (!entries.is_empty()).then(|| json!(entries))
}
