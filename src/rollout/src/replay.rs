//! The state of a deployment as anybody may see it, and how events make it.
//!
//! A [`View`] holds what `GetDeployment` and `GetDeploymentTarget` answer from. It changes only
//! by [`View::apply`], in the running state machine as well as here: a record, replayed, gives
//! the state that the deployment had, at any line of it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::deployment::{Diagnostics, ErrorInformation, Side, StopReason, TaskSetState, Weights};
use crate::event::{Entry, Event};
use crate::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus, TargetStatus};
use crate::traffic::TrafficRouting;

/// The public state of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The deployment's id.
    pub deployment_id: String,
    /// How traffic moves.
    pub routing: TrafficRouting,
    /// The deployment that this one rolls back.
    pub rollback_of: Option<String>,
    /// The deployment's status.
    pub status: DeploymentStatus,
    /// All its lifecycle events, in order.
    pub lifecycle_events: Vec<LifecycleEventState>,
    /// How production traffic was last divided. In a deployment that rolls another one back,
    /// blue is that one's blue.
    pub weights: Weights,
    /// Where the test listener was pointed; `None` until the deployment has pointed it anywhere.
    pub test_traffic: Option<Side>,
    /// Which task set is PRIMARY.
    pub primary: Side,
    /// What became of blue. It is there and stable when the deployment begins.
    pub blue: TaskSetState,
    /// What became of green; `None` until it is created.
    pub green: Option<TaskSetState>,
    /// Why the deployment ended, unless it succeeded (`errorInformation`).
    pub error: Option<ErrorInformation>,
    /// What made it be rolled back.
    pub rollback_reason: Option<StopReason>,
    /// Its tie to a rollback or to what it rolls back (`rollbackInfo`).
    pub rollback: Option<RollbackInfo>,
    /// When it was created (`createTime`).
    pub created: Timestamp,
    /// When it began (`startTime`).
    pub started: Option<Timestamp>,
    /// When it ended (`completeTime`).
    pub completed: Option<Timestamp>,
    /// When it is stopped unless somebody continues it; set once the ready wait began.
    pub ready_until: Option<Timestamp>,
    /// When blue is terminated; set once the termination wait began
    /// (`instanceTerminationWaitTimeStarted`).
    pub termination_until: Option<Timestamp>,
    /// When anything of this changed (`lastUpdatedAt`).
    pub updated: Timestamp,
}

/// One lifecycle event of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LifecycleEventState {
    /// Which.
    pub event: LifecycleEvent,
    /// Its status.
    pub status: LifecycleStatus,
    /// When it began.
    pub start: Option<Timestamp>,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// Why it failed.
    pub diagnostics: Option<Diagnostics>,
}

/// How a deployment is tied to a rollback (`rollbackInfo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackInfo {
    /// Of a deployment that is rolled back: what rolls it back.
    pub rollback_deployment_id: Option<String>,
    /// Of a rollback: what it rolls back.
    pub rollback_triggering_deployment_id: Option<String>,
    /// CodeDeploy's sentence about it.
    pub rollback_message: String,
}

impl View {
    /// The state after [`Event::DeploymentCreated`]; `None` for any other event.
    pub fn created(entry: &Entry) -> Option<View> {
        let Event::DeploymentCreated {
            deployment_id,
            rollback_of,
            routing,
            lifecycle_events,
        } = &entry.event
        else {
            return None;
        };
        let id = deployment_id.clone();
        Some(View::new(
            entry.at,
            id,
            rollback_of.clone(),
            *routing,
            lifecycle_events,
        ))
    }

    /// The state of a deployment that has just been created.
    pub(crate) fn new(
        at: Timestamp,
        deployment_id: String,
        rollback_of: Option<String>,
        routing: TrafficRouting,
        lifecycle_events: &[LifecycleEvent],
    ) -> View {
        let rollback = rollback_of.as_ref().map(|of| RollbackInfo {
            rollback_deployment_id: None,
            rollback_triggering_deployment_id: Some(of.clone()),
            rollback_message: format!(
                "Deployment {deployment_id} is triggered to roll back deployment {of}."
            ),
        });
        let pending = |event: &LifecycleEvent| LifecycleEventState {
            event: *event,
            status: LifecycleStatus::Pending,
            start: None,
            end: None,
            diagnostics: None,
        };
        View {
            deployment_id,
            routing,
            rollback_of,
            status: DeploymentStatus::Created,
            lifecycle_events: lifecycle_events.iter().map(pending).collect(),
            weights: Weights::BLUE,
            test_traffic: None,
            primary: Side::Blue,
            blue: TaskSetState::Stable,
            green: None,
            error: None,
            rollback_reason: None,
            rollback,
            created: at,
            started: None,
            completed: None,
            ready_until: None,
            termination_until: None,
            updated: at,
        }
    }

    /// Takes in an event. Events of other deployments, and of none, change nothing; neither does
    /// who plays which role, which the driver adds for readers.
    pub fn apply(&mut self, entry: &Entry) {
        if entry.event.deployment_id() != Some(&self.deployment_id) {
            return;
        }
        let at = entry.at;
        match &entry.event {
            // Told by the driver for readers, not by the deployment.
            Event::RolesAssigned { .. } => return,
            Event::DeploymentStatusChanged { status, .. } => {
                if *status == DeploymentStatus::InProgress {
                    self.started.get_or_insert(at);
                }
                self.status = *status;
            }
            Event::LifecycleEventChanged {
                lifecycle_event,
                status,
                diagnostics,
                ..
            } => {
                let state = self
                    .lifecycle_events
                    .iter_mut()
                    .find(|e| e.event == *lifecycle_event);
                if let Some(state) = state {
                    state.change(at, *status, diagnostics.as_ref());
                }
            }
            Event::TaskSetChanged {
                task_set: Side::Blue,
                state,
                ..
            } => self.blue = *state,
            Event::TaskSetChanged {
                task_set: Side::Green,
                state,
                ..
            } => self.green = Some(*state),
            Event::TestTrafficChanged { task_set, .. } => self.test_traffic = Some(*task_set),
            Event::WeightsChanged { green, .. } => self.weights = Weights::with_green(*green),
            Event::PrimaryChanged { task_set, .. } => self.primary = *task_set,
            Event::ReadyWaitStarted { until, .. } => self.ready_until = Some(*until),
            Event::TerminationWaitStarted { until, .. } => self.termination_until = Some(*until),
            Event::RollbackStarted {
                rollback_deployment_id,
                reason,
                ..
            } => {
                self.rollback_reason = Some(*reason);
                self.rollback = Some(RollbackInfo {
                    rollback_deployment_id: Some(rollback_deployment_id.clone()),
                    rollback_triggering_deployment_id: None,
                    rollback_message: format!(
                        "Deployment {} terminated. Automatic rollback is triggered with a DeploymentId {rollback_deployment_id}.",
                        self.deployment_id
                    ),
                });
            }
            Event::DeploymentEnded { status, error, .. } => {
                self.status = *status;
                self.error.clone_from(error);
                self.completed = Some(at);
            }
            _ => {}
        }
        self.updated = at;
    }

    /// The state of one lifecycle event; `None` if the deployment does not go through it.
    pub fn lifecycle_event(&self, event: LifecycleEvent) -> Option<&LifecycleEventState> {
        self.lifecycle_events
            .iter()
            .find(|state| state.event == event)
    }

    /// Whether the wait before blue's termination has begun.
    pub const fn termination_wait_started(&self) -> bool {
        self.termination_until.is_some()
    }

    /// The status of the deployment's one target.
    ///
    /// A stopped deployment's target is counted as failed once an event has begun, and as
    /// skipped before: a choice, since no record shows it.
    pub fn target_status(&self) -> TargetStatus {
        match self.status {
            DeploymentStatus::Created | DeploymentStatus::Queued => TargetStatus::Pending,
            DeploymentStatus::InProgress | DeploymentStatus::Baking => TargetStatus::InProgress,
            DeploymentStatus::Ready => TargetStatus::Ready,
            DeploymentStatus::Succeeded => TargetStatus::Succeeded,
            DeploymentStatus::Failed | DeploymentStatus::Stopped if self.started.is_some() => {
                TargetStatus::Failed
            }
            DeploymentStatus::Failed | DeploymentStatus::Stopped => TargetStatus::Skipped,
        }
    }
}

impl LifecycleEventState {
    fn change(&mut self, at: Timestamp, status: LifecycleStatus, why: Option<&Diagnostics>) {
        self.status = status;
        self.diagnostics = why.cloned();
        match status {
            LifecycleStatus::InProgress => self.start = Some(at),
            LifecycleStatus::Succeeded | LifecycleStatus::Failed => self.end = Some(at),
            LifecycleStatus::Pending | LifecycleStatus::Skipped | LifecycleStatus::Unknown => {}
        }
    }
}

/// Rebuilds every deployment that a record tells of, in the order in which they were created.
/// Events of deployments whose creation is not in the record are passed over.
pub fn replay<'a>(record: impl IntoIterator<Item = &'a Entry>) -> Vec<View> {
    let mut views: Vec<View> = Vec::new();
    for entry in record {
        if let Some(view) = View::created(entry) {
            views.push(view);
        } else {
            for view in &mut views {
                view.apply(entry);
            }
        }
    }
    views
}
