//! CodeDeploy's names for what happens: lifecycle events and the statuses of events,
//! deployments and targets.
//!
//! Source: CodeDeploy user guide, "Deployments on an Amazon ECS compute platform" for the order
//! and the meaning; the CodeDeploy service model (2014-10-06) for the spelling, which is also
//! how the values are serialized here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lifecycle event of an ECS deployment, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LifecycleEvent {
    /// Hook only: before the replacement task set is created.
    BeforeInstall,
    /// The replacement task set is created and becomes stable.
    Install,
    /// Hook only: green runs, no listener leads to it.
    AfterInstall,
    /// The test listener is pointed at green. Absent without a test listener.
    AllowTestTraffic,
    /// Hook only: green answers on the test listener. Absent without a test listener.
    AfterAllowTestTraffic,
    /// Hook only: the last gate before users see green.
    BeforeAllowTraffic,
    /// Production traffic moves to green, along the whole canary or linear schedule.
    AllowTraffic,
    /// Hook only: green has all production traffic.
    AfterAllowTraffic,
}

impl LifecycleEvent {
    /// All eight, in order.
    pub const ALL: [LifecycleEvent; 8] = [
        LifecycleEvent::BeforeInstall,
        LifecycleEvent::Install,
        LifecycleEvent::AfterInstall,
        LifecycleEvent::AllowTestTraffic,
        LifecycleEvent::AfterAllowTestTraffic,
        LifecycleEvent::BeforeAllowTraffic,
        LifecycleEvent::AllowTraffic,
        LifecycleEvent::AfterAllowTraffic,
    ];

    /// The events of one deployment, in order: eight with a test listener, six without
    /// (CodeDeploy user guide, the ECS tutorial's sample output).
    pub fn of_deployment(test_listener: bool) -> impl Iterator<Item = LifecycleEvent> {
        LifecycleEvent::ALL
            .into_iter()
            .filter(move |event| test_listener || !event.needs_test_listener())
    }

    /// Whether a Lambda function can be hooked to it: the five events that CodeDeploy itself
    /// does nothing in (CodeDeploy user guide, AppSpec "hooks" section).
    pub const fn is_hook(self) -> bool {
        !matches!(
            self,
            LifecycleEvent::Install
                | LifecycleEvent::AllowTestTraffic
                | LifecycleEvent::AllowTraffic
        )
    }

    /// Whether the event exists only where the deployment group has a test listener.
    pub const fn needs_test_listener(self) -> bool {
        matches!(
            self,
            LifecycleEvent::AllowTestTraffic | LifecycleEvent::AfterAllowTestTraffic
        )
    }

    /// The event's name as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            LifecycleEvent::BeforeInstall => "BeforeInstall",
            LifecycleEvent::Install => "Install",
            LifecycleEvent::AfterInstall => "AfterInstall",
            LifecycleEvent::AllowTestTraffic => "AllowTestTraffic",
            LifecycleEvent::AfterAllowTestTraffic => "AfterAllowTestTraffic",
            LifecycleEvent::BeforeAllowTraffic => "BeforeAllowTraffic",
            LifecycleEvent::AllowTraffic => "AllowTraffic",
            LifecycleEvent::AfterAllowTraffic => "AfterAllowTraffic",
        }
    }
}

impl fmt::Display for LifecycleEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not the name of a lifecycle event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a lifecycle event of an ECS deployment")]
pub struct UnknownLifecycleEvent(pub String);

impl FromStr for LifecycleEvent {
    type Err = UnknownLifecycleEvent;

    /// Reads a name without regard to case, as AppSpec keys are read.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        LifecycleEvent::ALL
            .into_iter()
            .find(|event| event.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownLifecycleEvent(text.to_owned()))
    }
}

/// The status of one lifecycle event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LifecycleStatus {
    /// Not begun. Every event is listed so from the deployment's first moment.
    Pending,
    /// Begun.
    InProgress,
    /// Ended well; also what an event without a hook function becomes.
    Succeeded,
    /// Ended badly, or was running when the deployment was stopped.
    Failed,
    /// Never begun, because the deployment ended before.
    Skipped,
    /// In the API's model; never produced here.
    Unknown,
}

impl LifecycleStatus {
    /// The status as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            LifecycleStatus::Pending => "Pending",
            LifecycleStatus::InProgress => "InProgress",
            LifecycleStatus::Succeeded => "Succeeded",
            LifecycleStatus::Failed => "Failed",
            LifecycleStatus::Skipped => "Skipped",
            LifecycleStatus::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for LifecycleStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The status of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeploymentStatus {
    /// Accepted; nothing has begun.
    Created,
    /// In the API's model; not seen in any record of an ECS deployment and never produced here.
    Queued,
    /// From the first lifecycle event to the end, the termination wait included.
    InProgress,
    /// In the API's model, undocumented; never produced here.
    Baking,
    /// Green has all traffic and the termination of blue has begun. Terminal.
    Succeeded,
    /// A hook, a time limit or an AWS call failed. Terminal.
    Failed,
    /// An alarm, a request or the expiry of the ready wait ended it. Terminal.
    Stopped,
    /// Green is up and test traffic is allowed; waits for `ContinueDeployment`.
    Ready,
}

impl DeploymentStatus {
    /// Whether nothing will happen any more.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            DeploymentStatus::Succeeded | DeploymentStatus::Failed | DeploymentStatus::Stopped
        )
    }

    /// The status as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeploymentStatus::Created => "Created",
            DeploymentStatus::Queued => "Queued",
            DeploymentStatus::InProgress => "InProgress",
            DeploymentStatus::Baking => "Baking",
            DeploymentStatus::Succeeded => "Succeeded",
            DeploymentStatus::Failed => "Failed",
            DeploymentStatus::Stopped => "Stopped",
            DeploymentStatus::Ready => "Ready",
        }
    }
}

impl fmt::Display for DeploymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The status of a deployment's one target (`ecsTarget.status`), which also decides where the
/// target is counted in `deploymentOverview`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TargetStatus {
    /// The deployment has not begun.
    Pending,
    /// The deployment runs.
    InProgress,
    /// The deployment succeeded.
    Succeeded,
    /// The deployment failed, or was stopped after it had begun.
    Failed,
    /// The deployment ended before its first lifecycle event.
    Skipped,
    /// In the API's model; never produced here.
    Unknown,
    /// The deployment waits for `ContinueDeployment`.
    Ready,
}

impl TargetStatus {
    /// The status as the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            TargetStatus::Pending => "Pending",
            TargetStatus::InProgress => "InProgress",
            TargetStatus::Succeeded => "Succeeded",
            TargetStatus::Failed => "Failed",
            TargetStatus::Skipped => "Skipped",
            TargetStatus::Unknown => "Unknown",
            TargetStatus::Ready => "Ready",
        }
    }
}

impl fmt::Display for TargetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_has_eight_events_with_a_test_listener_and_six_without() {
        let names = |test_listener| {
            LifecycleEvent::of_deployment(test_listener)
                .map(LifecycleEvent::as_str)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(true),
            [
                "BeforeInstall",
                "Install",
                "AfterInstall",
                "AllowTestTraffic",
                "AfterAllowTestTraffic",
                "BeforeAllowTraffic",
                "AllowTraffic",
                "AfterAllowTraffic"
            ]
        );
        assert_eq!(
            names(false),
            [
                "BeforeInstall",
                "Install",
                "AfterInstall",
                "BeforeAllowTraffic",
                "AllowTraffic",
                "AfterAllowTraffic"
            ]
        );
    }

    #[test]
    fn five_events_take_hooks() {
        let hooks: Vec<_> = LifecycleEvent::ALL
            .into_iter()
            .filter(|e| e.is_hook())
            .collect();
        assert_eq!(
            hooks,
            [
                LifecycleEvent::BeforeInstall,
                LifecycleEvent::AfterInstall,
                LifecycleEvent::AfterAllowTestTraffic,
                LifecycleEvent::BeforeAllowTraffic,
                LifecycleEvent::AfterAllowTraffic
            ]
        );
    }

    #[test]
    fn names_are_serialized_as_the_api_spells_them() {
        for event in LifecycleEvent::ALL {
            let json = serde_json::to_string(&event).expect("writes");
            assert_eq!(json, format!("{:?}", event.as_str()));
            assert_eq!(event.as_str().to_uppercase().parse(), Ok(event));
        }
        assert_eq!(
            "Start".parse::<LifecycleEvent>(),
            Err(UnknownLifecycleEvent("Start".to_owned()))
        );
    }

    #[test]
    fn exactly_three_statuses_are_terminal() {
        use DeploymentStatus as S;
        for status in [S::Created, S::Queued, S::InProgress, S::Baking, S::Ready] {
            assert!(!status.is_terminal(), "{status}");
        }
        for status in [S::Succeeded, S::Failed, S::Stopped] {
            assert!(status.is_terminal(), "{status}");
        }
    }
}
