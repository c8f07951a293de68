//! One line of a record.
//!
//! Whatever shows, stores or judges a rehearsal or a deployment consumes these events and
//! nothing else: the terminal, the JSON lines, the report, the dashboard. They are written one
//! JSON object a line, so a record can be followed while it grows and read with the tools
//! everybody has. Events about a deployment carry its id and come out of
//! [`crate::deployment::Deployment`]; the others are emitted by whoever sees them happen.
//!
//! A reader meets a record of its own version or an older one. An event it does not know is an
//! error when it is read ([`serde`] names the unknown tag): what to make of it, skipping the
//! line or refusing the file, is the reader's decision, not this type's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::alarm;
use crate::deployment::{
    Diagnostics, ErrorInformation, HookStatus, Roles, Side, StopReason, TaskSetState,
};
use crate::judge;
use crate::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use crate::timeline::Severity;
use crate::traffic::TrafficRouting;

/// What happened, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Virtual time on the stage, real time on AWS.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Entry {
    /// An event at a time.
    pub fn new(at: Timestamp, event: Event) -> Entry {
        Entry { at, event }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    // ---- a deployment, as its state machine tells it ----
    /// A deployment was accepted. Its status is `Created`, its lifecycle events are `Pending`.
    DeploymentCreated {
        /// The deployment.
        deployment_id: String,
        /// The deployment that this one rolls back; absent for a new version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollback_of: Option<String>,
        /// How traffic will move.
        routing: TrafficRouting,
        /// The lifecycle events it will go through, in order.
        lifecycle_events: Vec<LifecycleEvent>,
    },
    /// Who is blue and who is green in a deployment: the versions behind the two colours, and the
    /// target groups by which requests are counted.
    RolesAssigned {
        /// The deployment.
        deployment_id: String,
        /// The two task sets.
        #[serde(flatten)]
        roles: Roles<TaskSetDescription>,
    },
    /// A deployment changed to a status that is not terminal.
    DeploymentStatusChanged {
        /// The deployment.
        deployment_id: String,
        /// The new status.
        status: DeploymentStatus,
    },
    /// A lifecycle event began or ended.
    LifecycleEventChanged {
        /// The deployment.
        deployment_id: String,
        /// The lifecycle event.
        lifecycle_event: LifecycleEvent,
        /// Its new status.
        status: LifecycleStatus,
        /// Why, when it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        diagnostics: Option<Diagnostics>,
    },
    /// A task set was created, became stable or unstable, or is being terminated.
    TaskSetChanged {
        /// The deployment.
        deployment_id: String,
        /// Which of the two.
        task_set: Side,
        /// What became of it.
        state: TaskSetState,
    },
    /// The test listener leads to another task set.
    TestTrafficChanged {
        /// The deployment.
        deployment_id: String,
        /// Where it leads now.
        task_set: Side,
    },
    /// Production traffic is divided anew. The two add up to 100.
    WeightsChanged {
        /// The deployment.
        deployment_id: String,
        /// Blue's share in percent.
        blue: u8,
        /// Green's share in percent.
        green: u8,
    },
    /// Another task set became the service's PRIMARY one.
    PrimaryChanged {
        /// The deployment.
        deployment_id: String,
        /// Which.
        task_set: Side,
    },
    /// The deployment waits for `ContinueDeployment` before it moves production traffic.
    ReadyWaitStarted {
        /// The deployment.
        deployment_id: String,
        /// When it is stopped if nobody continues it.
        until: Timestamp,
    },
    /// Green has all traffic; blue still stands, at full scale.
    TerminationWaitStarted {
        /// The deployment.
        deployment_id: String,
        /// When blue will be terminated.
        until: Timestamp,
    },
    /// A hook function is called.
    HookInvoked {
        /// The deployment.
        deployment_id: String,
        /// The lifecycle event it is hooked to.
        lifecycle_event: LifecycleEvent,
        /// Name or ARN, as in the AppSpec.
        function: String,
        /// What the function must answer with.
        execution_id: String,
    },
    /// A hook function answered.
    HookAnswered {
        /// The deployment.
        deployment_id: String,
        /// The lifecycle event it is hooked to.
        lifecycle_event: LifecycleEvent,
        /// The call that is answered.
        execution_id: String,
        /// Its verdict.
        status: HookStatus,
    },
    /// A deployment ended badly and another one puts things back.
    RollbackStarted {
        /// The deployment that ended.
        deployment_id: String,
        /// The deployment that puts things back.
        rollback_deployment_id: String,
        /// What made it end.
        reason: StopReason,
    },
    /// A deployment reached a terminal status. Nothing follows for it.
    DeploymentEnded {
        /// The deployment.
        deployment_id: String,
        /// `Succeeded`, `Failed` or `Stopped`.
        status: DeploymentStatus,
        /// Why, unless it succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<ErrorInformation>,
    },

    // ---- what is around a deployment ----
    /// An alarm changed its state.
    AlarmStateChanged {
        /// The alarm's name.
        alarm: String,
        /// Name of the metric that it stands on.
        metric: String,
        /// Its new state.
        state: alarm::State,
        /// The state before.
        previous: alarm::State,
        /// CloudWatch's sentence about it.
        reason: String,
        /// The newest data point that was looked at, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<f64>,
        /// What data points are compared to.
        threshold: f64,
    },
    /// A task's containers run.
    TaskStarted {
        /// The task's id or ARN.
        task: String,
        /// `service:…` or `family:…`, as ECS writes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        /// ARN of its task definition.
        task_definition: String,
    },
    /// A task is at its end.
    TaskStopped {
        /// The task's id or ARN.
        task: String,
        /// ECS's `stopCode`.
        stop_code: String,
        /// ECS's `stoppedReason`.
        reason: String,
        /// Exit code of the essential container that ended it; none if it never ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    },
    /// A target's health changed in the load balancer's eyes.
    TargetHealthChanged {
        /// Name of the target group.
        target_group: String,
        /// The target's id.
        target: String,
        /// ELB's state: `initial`, `healthy`, `unhealthy`, `draining`, `unused`.
        state: String,
        /// ELB's reason code, such as `Target.ResponseCodeMismatch`; empty when healthy.
        reason: String,
    },
    /// What the load balancer counted for one target group in one period.
    TargetGroupPeriod {
        /// Name of the target group.
        target_group: String,
        /// Length of the period in seconds.
        period_s: u64,
        /// Requests answered by its targets.
        requests: u64,
        /// 5xx made by its targets.
        target_5xx: u64,
        /// 5xx made by the load balancer for requests it had sent this way.
        elb_5xx: u64,
    },
    /// What generated traffic saw in one period.
    Traffic {
        /// Length of the period in seconds.
        period_s: u64,
        /// Outcomes by the target group that took the request.
        groups: BTreeMap<String, RequestCounts>,
        /// Outcomes of requests that reached no target group.
        #[serde(default, skip_serializing_if = "RequestCounts::is_empty")]
        unattributed: RequestCounts,
    },
    /// The judge compared green with blue over one more batch.
    Judged {
        /// The deployment.
        deployment_id: String,
        /// Which batch, from 1.
        batch: u64,
        /// Blue's requests since the judge began.
        baseline: judge::Total,
        /// Green's requests since the judge began.
        candidate: judge::Total,
        /// The evidence of every test, as a natural logarithm.
        log_e: judge::LogE,
    },
    /// The judge decided, or at the end of the deployment did not.
    JudgeDecided {
        /// The deployment.
        deployment_id: String,
        /// ABORT, PASS, or CONTINUE for no evidence of harm.
        decision: judge::Decision,
        /// The evidence in plain words.
        evidence: String,
        /// Whether the deployment is stopped for it.
        enforced: bool,
    },
    /// Something in the plan that will not work as it is meant ([`crate::timeline::findings`]).
    PlanFinding {
        /// How bad it is.
        severity: Severity,
        /// What is wrong.
        says: String,
        /// The change that mends it.
        mend: String,
    },
    /// What was to be expected of a version that fails as this one did ([`crate::simulate`]).
    Predicted {
        /// Requests a second of both sides.
        rate: f64,
        /// The share of green's requests that failed.
        error_rate: f64,
        /// What each set of detectors would have come to.
        watches: Vec<Prediction>,
    },
    /// The release program begins a step.
    StepStarted {
        /// The step's name, such as `preflight` or `migrate`.
        step: String,
    },
    /// The release program ended a step.
    StepFinished {
        /// The step's name.
        step: String,
        /// What was done, in words: "pushed sha256:…", "nothing to do".
        detail: String,
    },
    /// The first line of every record.
    RecordOpened {
        /// Version of the record's format: [`RECORD_FORMAT`].
        format: u32,
        /// The version that is released.
        version: String,
        /// sha256 of `bundle.json`, as `sha256:<hex>`.
        bundle: String,
        /// Name of the target.
        target: String,
        /// How traffic is to move, as the user said it.
        strategy: String,
        /// Virtual seconds in a real one; 1 on AWS.
        speed: f64,
    },
    /// The last line of a record that was closed in order.
    Summary {
        /// The exit code the program ends with.
        exit_code: u8,
        /// What it means, in one sentence.
        outcome: String,
        /// Real seconds from the first event to the last.
        real_seconds: f64,
        /// Outcomes of all generated requests.
        requests: RequestCounts,
        /// When the first request was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_loss: Option<Timestamp>,
        /// When the last request was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_loss: Option<Timestamp>,
        /// Where the record is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        record: Option<String>,
        /// What a person would do next: commands, or a sentence.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        next: Vec<String>,
    },
}

/// One of the two task sets of a deployment, as people and metrics name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSetDescription {
    /// The version it runs; absent when its task definition does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// ARN of its task definition.
    pub task_definition: String,
    /// Name of its target group.
    pub target_group: String,
}

/// What a strategy comes to under some detectors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The detectors: `alarm`, `alarm and judge`.
    pub watch: String,
    /// Failed requests, on average.
    pub lost_mean: f64,
    /// Failed requests that 95 % of such releases stay below.
    pub lost_q95: f64,
    /// Seconds from green's first users until it is found, on average; `None` for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_after_s: Option<f64>,
}

/// The version of the record's format that this crate writes.
pub const RECORD_FORMAT: u32 = 1;

/// Outcomes of requests, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Answered with less than 500.
    pub ok: u64,
    /// Answered with a 5xx.
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// The connection was refused, reset or closed.
    pub connection_error: u64,
    /// No answer in time.
    pub timed_out: u64,
}

impl RequestCounts {
    /// All requests.
    pub const fn total(&self) -> u64 {
        self.ok + self.lost()
    }

    /// Requests that a user would say were lost.
    pub const fn lost(&self) -> u64 {
        self.server_error + self.connection_error + self.timed_out
    }

    /// Whether nothing was counted.
    pub const fn is_empty(&self) -> bool {
        self.total() == 0
    }
}

impl std::ops::AddAssign for RequestCounts {
    fn add_assign(&mut self, other: RequestCounts) {
        self.ok += other.ok;
        self.server_error += other.server_error;
        self.connection_error += other.connection_error;
        self.timed_out += other.timed_out;
    }
}

impl Event {
    /// The deployment an event is about, if it is about one.
    pub fn deployment_id(&self) -> Option<&str> {
        match self {
            Event::DeploymentCreated { deployment_id, .. }
            | Event::RolesAssigned { deployment_id, .. }
            | Event::DeploymentStatusChanged { deployment_id, .. }
            | Event::LifecycleEventChanged { deployment_id, .. }
            | Event::TaskSetChanged { deployment_id, .. }
            | Event::TestTrafficChanged { deployment_id, .. }
            | Event::WeightsChanged { deployment_id, .. }
            | Event::PrimaryChanged { deployment_id, .. }
            | Event::ReadyWaitStarted { deployment_id, .. }
            | Event::TerminationWaitStarted { deployment_id, .. }
            | Event::HookInvoked { deployment_id, .. }
            | Event::HookAnswered { deployment_id, .. }
            | Event::RollbackStarted { deployment_id, .. }
            | Event::DeploymentEnded { deployment_id, .. } => Some(deployment_id),
            _ => None,
        }
    }
}
