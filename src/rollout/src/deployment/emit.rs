//! Events, and the commands that go with them.

use super::machine::Deployment;
use super::spec::{Side, Weights};
use super::step::{Command, Diagnostics, Step, TaskSetState};
use crate::event::{Entry, Event};
use crate::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};

impl Deployment {
    /// Records an event, and lets it change the public state.
    pub(super) fn emit(&mut self, event: Event, step: &mut Step) {
        let entry = Entry::new(self.now, event);
        self.view.apply(&entry);
        step.events.push(entry);
    }

    pub(super) fn id(&self) -> String {
        self.spec.deployment_id.clone()
    }

    pub(super) fn status_is(&mut self, status: DeploymentStatus, step: &mut Step) {
        let changed = Event::DeploymentStatusChanged {
            deployment_id: self.id(),
            status,
        };
        self.emit(changed, step);
    }

    pub(super) fn lifecycle(
        &mut self,
        lifecycle_event: LifecycleEvent,
        status: LifecycleStatus,
        diagnostics: Option<Diagnostics>,
        step: &mut Step,
    ) {
        let deployment_id = self.id();
        let changed = Event::LifecycleEventChanged {
            deployment_id,
            lifecycle_event,
            status,
            diagnostics,
        };
        self.emit(changed, step);
    }

    pub(super) fn task_set(&mut self, task_set: Side, state: TaskSetState, step: &mut Step) {
        let changed = Event::TaskSetChanged {
            deployment_id: self.id(),
            task_set,
            state,
        };
        self.emit(changed, step);
    }

    pub(super) fn test_traffic(&mut self, task_set: Side, step: &mut Step) {
        let changed = Event::TestTrafficChanged {
            deployment_id: self.id(),
            task_set,
        };
        self.emit(changed, step);
    }

    pub(super) fn primary(&mut self, task_set: Side, step: &mut Step) {
        let changed = Event::PrimaryChanged {
            deployment_id: self.id(),
            task_set,
        };
        self.emit(changed, step);
    }

    pub(super) fn set_weights(&mut self, weights: Weights, step: &mut Step) {
        let (blue, green) = (weights.blue(), weights.green());
        step.commands.push(Command::SetWeights { blue, green });
        let changed = Event::WeightsChanged {
            deployment_id: self.id(),
            blue,
            green,
        };
        self.emit(changed, step);
    }
}
