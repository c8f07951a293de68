//! The transitions.

use serde::{Deserialize, Serialize};

use super::{Observation, Spec, Step};
use crate::Timestamp;
use crate::deployment::View;
use crate::event::{Entry, Event};
use crate::lifecycle::{DeploymentStatus, LifecycleEvent};

/// A deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    spec: Spec,
    view: View,
}

impl Deployment {
    /// Creates a deployment.
    ///
    /// # Panics
    ///
    /// Never.
    pub fn new(spec: Spec, now: Timestamp) -> (Deployment, Step) {
        let entry = Entry::new(
            now,
            Event::DeploymentCreated {
                deployment_id: spec.deployment_id.clone(),
                rollback_of: None,
                routing: spec.routing,
                lifecycle_events: LifecycleEvent::of_deployment(spec.test_listener).collect(),
            },
        );
        let view = View::created(&entry).expect("the event is a creation");
        (
            Deployment { spec, view },
            Step {
                events: vec![entry],
                ..Step::default()
            },
        )
    }

    /// Takes in what was seen at `now`.
    pub fn observe(&mut self, now: Timestamp, observation: Observation) -> Step {
        let _ = (now, observation);
        Step::default()
    }

    /// When to observe a [`Observation::Tick`] if nothing else is observed before; `None` when
    /// the deployment has ended.
    pub fn wake_at(&self) -> Option<Timestamp> {
        None
    }

    /// What the deployment was created with.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The deployment's public state.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// The deployment's status.
    pub const fn status(&self) -> DeploymentStatus {
        self.view.status
    }
}
