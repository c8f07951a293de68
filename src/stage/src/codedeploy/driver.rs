//! A deployment's driver: tells the state machine what it sees, and carries out what it answers.
//!
//! Commands stand in a queue, in the order in which the state machine gave them, whoever made the
//! observation (the driver, or a request of the API). Only the driver takes them out, one after the
//! other, so a request that comes in the middle of a step is carried out after it. When a command
//! fails, the rest of its step is dropped and the state machine is told; except in the step that ends
//! a deployment. An ended one listens to nothing any more, so what is left of its end, such as
//! terminating green after traffic could not be restored, is carried out all the same.

use rollout::{
    deployment::{Command, ErrorInformation, Observation, Refusal, Step},
    lifecycle::DeploymentStatus,
};

use super::{
    CodeDeploy,
    state::{DeploymentRecord, State},
};

/// Starts the driver of a deployment that has been entered into the state.
pub(super) fn start(codedeploy: &CodeDeploy, id: String) {
    let codedeploy = codedeploy.clone();
    tokio::spawn(async move { codedeploy.drive(&id).await });
}

impl CodeDeploy {
    async fn drive(&self, id: &str) {
        let Some(wake) = self.state().deployments.get(id).map(|one| one.wake.clone()) else {
            return;
        };
        let mut changes = self.ecs.changes();
        let mut prepared = false;
        let mut stable = false;
        loop {
            while let Some((step, command)) = self.next_command(id) {
                if let Err(error) = self.carry_out(id, command) {
                    self.command_failed(id, step, error);
                }
            }
            if !std::mem::replace(&mut prepared, true) {
                if let Err(error) = self.prepare(id) {
                    self.observe(id, Observation::CommandFailed(error));
                }
                continue;
            }
            let steady = self.look_at_task_sets(id);
            if steady != stable {
                stable = steady;
                let observation = if steady {
                    Observation::TaskSetStable
                } else {
                    Observation::TaskSetUnstable
                };
                self.observe(id, observation);
                continue;
            }
            let wake_at = {
                let mut state = self.state();
                if state.shut_down || !self.settle(&mut state, id) {
                    return;
                }
                state
                    .deployments
                    .get(id)
                    .and_then(|one| one.machine.wake_at())
            };
            let Some(wake_at) = wake_at else { continue };
            tokio::select! {
                () = wake.notified() => {}
                _ = changes.changed() => {}
                () = self.clock.sleep_until(wake_at) => self.observe(id, Observation::Tick),
            }
        }
    }

    /// Enters a deployment into the state, with its first step.
    pub(super) fn begin(&self, state: &mut State, mut record: DeploymentRecord, step: Step) {
        let id = record.id.clone();
        self.take(&mut record, step);
        state.deployments.insert(id.clone(), record);
        state.order.push(id);
    }

    /// Makes an observation; what the driver sees itself is never refused.
    fn observe(&self, id: &str, observation: Observation) {
        let refused = self.request(&mut self.state(), id, observation);
        if let Err(refusal) = refused {
            tracing::debug!(%id, %refusal, "an observation was refused");
        }
    }

    /// Makes an observation for a request.
    ///
    /// # Errors
    /// What the state machine refuses.
    pub(super) fn request(
        &self,
        state: &mut State,
        id: &str,
        observation: Observation,
    ) -> Result<(), Refusal> {
        let now = self.clock.now();
        let Some(record) = state.deployments.get_mut(id) else {
            return Ok(());
        };
        let mut step = record.machine.observe(now, observation);
        let refused = step.refused.take();
        self.take(record, step);
        refused.map_or(Ok(()), Err)
    }

    /// Queues a step's commands, and shows and tells what happened. An end is held back until its
    /// commands have been carried out.
    fn take(&self, record: &mut DeploymentRecord, step: Step) {
        record.steps += 1;
        let number = record.steps;
        record
            .commands
            .extend(step.commands.into_iter().map(|command| (number, command)));
        if record.machine.view().status.is_terminal() {
            record.held.extend(step.events);
        } else {
            record.view = record.machine.view().clone();
            for entry in step.events {
                self.events.emit_entry(entry);
            }
        }
        record.wake.notify_one();
    }

    fn next_command(&self, id: &str) -> Option<(u64, Command)> {
        self.state().deployments.get_mut(id)?.commands.pop_front()
    }

    fn command_failed(&self, id: &str, step: u64, error: ErrorInformation) {
        tracing::info!(%id, %error, "a command of a deployment failed");
        if let Some(record) = self.state().deployments.get_mut(id) {
            if record.machine.view().status.is_terminal() {
                return;
            }
            record.commands.retain(|(number, _)| *number != step);
        }
        self.observe(id, Observation::CommandFailed(error));
    }

    /// Shows an end whose commands have been carried out. `false`: the deployment has ended.
    fn settle(&self, state: &mut State, id: &str) -> bool {
        let Some(record) = state.deployments.get_mut(id) else {
            return false;
        };
        if !record.machine.view().status.is_terminal() || !record.commands.is_empty() {
            return true;
        }
        record.view = record.machine.view().clone();
        let succeeded = record.view.status == DeploymentStatus::Succeeded;
        let (application, group) = (record.application.clone(), record.group.clone());
        let revision = record.revision.clone();
        let held = std::mem::take(&mut record.held);
        if succeeded
            && let Some(application) = state.applications.get_mut(&application)
            && let Some(group) = application.groups.get_mut(&group)
        {
            group.last_successful = Some(id.to_owned());
            group.target_revision = revision;
        }
        for entry in held {
            self.events.emit_entry(entry);
        }
        false
    }
}
