//! The state machine of an ECS blue/green deployment.
//!
//! A [`Deployment`] is driven from outside. It takes an [`Observation`] with the present time
//! and returns a [`Step`]: the [`Command`]s to carry out and the events that happened. It does
//! nothing itself, so what it decides can be tested, simulated and replayed. Its public state is
//! a [`View`], which changes by applying the very events it emits and in no other way: that is
//! why a record can be replayed to the same state.
//!
//! Blue is the original task set with its target group, green the replacement with the other
//! one. They are roles of one deployment and never names: after a success the former green is
//! the next deployment's blue. [`Roles::assign`] finds out who is who.
//!
//! # How a driver loops
//!
//! One deployment has one driver, which takes turns: observe, carry out the commands of the
//! step in their order, observe again. A command that fails becomes
//! [`Observation::CommandFailed`] and the rest of its step is dropped. While there is nothing to
//! observe, the driver sleeps until [`Deployment::wake_at`] and observes a
//! [`Tick`](Observation::Tick). A step that ends the deployment may carry commands (traffic back
//! to blue, the rollback deployment): they are carried out before anybody is shown the terminal
//! status, and what fails among them is the driver's to repeat, for an ended deployment listens
//! to nothing.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::time::Duration;
//! use rollout::Timestamp;
//! use rollout::deployment::{Command, Deployment, Observation, Spec};
//! use rollout::lifecycle::DeploymentStatus;
//! use rollout::traffic::TrafficRouting;
//!
//! let spec = Spec {
//!     routing: TrafficRouting::canary(10, 5),
//!     termination_wait: Duration::from_secs(300),
//!     ..Spec::new("d-AAAAAAAAA", "d-BBBBBBBBB")
//! };
//! let mut now = Timestamp::from_secs(1_800_000_000);
//! let (mut deployment, step) = Deployment::new(spec, now);
//! let mut commands = VecDeque::from(step.commands);
//! let mut weights = Vec::new();
//! while let Some(wake_at) = deployment.wake_at() {
//!     let observation = match commands.pop_front() {
//!         // Here the real driver creates a task set and watches it; this one knows at once.
//!         Some(Command::CreateGreen) => Observation::TaskSetStable,
//!         Some(Command::SetWeights { green, .. }) => {
//!             weights.push(green);
//!             continue;
//!         }
//!         Some(_) => continue,
//!         None => {
//!             now = wake_at;
//!             Observation::Tick
//!         }
//!     };
//!     commands.extend(deployment.observe(now, observation).commands);
//! }
//! assert_eq!(weights, [10, 100]);
//! assert_eq!(deployment.status(), DeploymentStatus::Succeeded);
//! ```
//!
//! A request of the API (`StopDeployment`, `ContinueDeployment`,
//! `PutLifecycleEventHookExecutionStatus`) is an observation like any other; where CodeDeploy
//! would answer it with an exception, [`Step::refused`] says which.

mod emit;
mod end;
mod forward;
mod machine;
pub mod messages;
mod observe;
mod spec;
mod step;

pub use machine::Deployment;
pub use spec::{Alarms, AutoRollback, Hooks, Kind, Roles, Side, Spec, Weights, limits};
pub use step::{
    Command, Diagnostics, ErrorCode, ErrorInformation, HookStatus, LifecycleErrorCode, Observation,
    Refusal, Step, StopReason, TaskSetState, WaitType,
};

pub use crate::replay::{LifecycleEventState, RollbackInfo, View};
