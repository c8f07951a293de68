//! What is known about a deployment before it begins.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lifecycle::LifecycleEvent;
use crate::time::{millis, optional_millis};
use crate::traffic::TrafficRouting;

/// CodeDeploy's fixed times.
pub mod limits {
    use std::time::Duration;

    /// Green must be stable this long after `Install` began (CodeDeploy user guide,
    /// "Troubleshoot Amazon ECS deployment issues").
    pub const INSTALL: Duration = Duration::from_hours(1);

    /// A hook must be answered this long after it was called (user guide, "Quotas").
    pub const HOOK: Duration = Duration::from_hours(1);

    /// Green that scales before the shift is given this long to settle (ECS developer guide,
    /// "CodeDeploy blue/green deployments for Amazon ECS", on Auto Scaling).
    pub const SETTLE: Duration = Duration::from_hours(1);

    /// While traffic shifts, green may be unsteady for this long (the same page).
    pub const UNSTABLE_IN_SHIFT: Duration = Duration::from_mins(5);

    /// A deployment must begin this long after it was created (user guide, "Quotas": a lifecycle
    /// event that does not start within 5 minutes fails).
    pub const START: Duration = Duration::from_mins(5);

    /// How long a deployment stays `Created`. A choice: records show `Created` 2 to 3 seconds
    /// after the call.
    pub const CREATED: Duration = Duration::from_secs(2);

    /// How long an event that commands the load balancer lasts at least. A choice within what
    /// records show, 0.2 to 0.6 s; it gives a failing command time to be reported while its
    /// event is still in progress.
    pub const COMMAND: Duration = Duration::from_millis(500);

    /// Between two looks at the alarms. A choice: CodeDeploy's interval is undocumented; records
    /// show reactions within 23 s.
    pub const ALARM_POLL: Duration = Duration::from_secs(10);
}

/// One of the two task sets of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The original, which serves users when the deployment begins.
    Blue,
    /// The replacement.
    Green,
}

/// What belongs to blue and what to green.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roles<T> {
    /// Blue's.
    pub blue: T,
    /// Green's.
    pub green: T,
}

impl<T> Roles<T> {
    /// Gives a pair of target groups their roles: blue is the one that the PRIMARY task set
    /// uses, whatever the two are called and however they are ordered. `None` when the primary
    /// uses neither or when the two are the same: the deployment cannot begin
    /// (`INVALID_ECS_SERVICE`).
    ///
    /// ```
    /// use rollout::deployment::Roles;
    ///
    /// let roles = Roles::assign(["a", "b"], &"b").expect("one of the two");
    /// assert_eq!((roles.blue, roles.green), ("b", "a"));
    /// assert_eq!(roles.swap(), Roles { blue: "a", green: "b" });
    /// assert_eq!(Roles::assign(["a", "b"], &"c"), None);
    /// ```
    pub fn assign(pair: [T; 2], primary: &T) -> Option<Roles<T>>
    where
        T: PartialEq,
    {
        let [first, second] = pair;
        match (first == *primary, second == *primary) {
            (true, false) => Some(Roles {
                blue: first,
                green: second,
            }),
            (false, true) => Some(Roles {
                blue: second,
                green: first,
            }),
            _ => None,
        }
    }

    /// The roles of the next deployment, after a success of this one.
    #[must_use]
    pub fn swap(self) -> Roles<T> {
        Roles {
            blue: self.green,
            green: self.blue,
        }
    }

    /// What belongs to a side.
    pub fn get(&self, side: Side) -> &T {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

/// How production traffic is divided, in percent. The two add up to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Weights {
    blue: u8,
    green: u8,
}

impl Weights {
    /// All traffic on blue.
    pub const BLUE: Weights = Weights {
        blue: 100,
        green: 0,
    };
    /// All traffic on green.
    pub const GREEN: Weights = Weights {
        blue: 0,
        green: 100,
    };

    /// Gives green `percent` (at most 100) and blue the rest.
    pub const fn with_green(percent: u8) -> Weights {
        let green = if percent > 100 { 100 } else { percent };
        Weights {
            blue: 100 - green,
            green,
        }
    }

    /// Blue's share in percent.
    pub const fn blue(self) -> u8 {
        self.blue
    }

    /// Green's share in percent.
    pub const fn green(self) -> u8 {
        self.green
    }
}

/// Whether a deployment brings a new version or takes one back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A new version, by `CreateDeployment` (`creator` is `user`).
    Forward {
        /// The id that a rollback deployment will get, if there will be one. Reserved by the
        /// driver beforehand, so that the end of a deployment and its rollback are one step and
        /// the state machine needs no source of ids.
        rollback_deployment_id: String,
    },
    /// The way back from a failed or stopped deployment (`creator` is `codeDeployRollback`).
    /// Traffic has been put back already by the deployment that ended; this one goes through
    /// its events without hooks, without a new task set and without a word to the load balancer.
    Rollback {
        /// The deployment that is rolled back.
        of: String,
    },
}

/// Which endings are followed by a rollback (`autoRollbackConfiguration`).
///
/// A disabled configuration is all `false`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AutoRollback {
    /// `DEPLOYMENT_FAILURE`. Alarm stops are not failures.
    pub on_failure: bool,
    /// `DEPLOYMENT_STOP_ON_ALARM`.
    pub on_alarm: bool,
    /// `DEPLOYMENT_STOP_ON_REQUEST`, which covers the expiry of the ready wait, too.
    pub on_request: bool,
}

impl AutoRollback {
    /// Every ending but success.
    pub const ALL: AutoRollback = AutoRollback {
        on_failure: true,
        on_alarm: true,
        on_request: true,
    };
    /// None.
    pub const NONE: AutoRollback = AutoRollback {
        on_failure: false,
        on_alarm: false,
        on_request: false,
    };
}

/// The alarms that stop a deployment (`alarmConfiguration`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    /// Their names. Empty where alarms are disabled.
    pub names: Vec<String>,
    /// Whether the deployment goes on when CloudWatch cannot be asked
    /// (`ignorePollAlarmFailure`).
    pub ignore_poll_failure: bool,
}

/// Hook functions (name or ARN) by the event they are hooked to.
pub type Hooks = BTreeMap<LifecycleEvent, String>;

/// Everything a deployment is decided by, besides what is observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The deployment's id.
    pub deployment_id: String,
    /// A new version, or the way back from one.
    pub kind: Kind,
    /// How production traffic moves.
    pub routing: TrafficRouting,
    /// Whether the deployment group has a test listener: eight lifecycle events, else six.
    pub test_listener: bool,
    /// The AppSpec's hooks. Functions at events that take none are never called.
    pub hooks: Hooks,
    /// `STOP_DEPLOYMENT` with its wait time; `None` for `CONTINUE_DEPLOYMENT`.
    #[serde(with = "optional_millis", rename = "ready_wait_ms")]
    pub ready_wait: Option<Duration>,
    /// How long blue stays after green has all traffic. Zero terminates it at once.
    #[serde(with = "millis", rename = "termination_wait_ms")]
    pub termination_wait: Duration,
    /// Which endings are followed by a rollback.
    pub auto_rollback: AutoRollback,
    /// The alarms that stop the deployment.
    pub alarms: Alarms,
}

impl Spec {
    /// The plainest deployment: all at once, without test listener, hooks, waits, rollback or
    /// alarms. `rollback_deployment_id` is reserved for a rollback deployment
    /// ([`Kind::Forward`]).
    pub fn new(
        deployment_id: impl Into<String>,
        rollback_deployment_id: impl Into<String>,
    ) -> Spec {
        Spec {
            deployment_id: deployment_id.into(),
            kind: Kind::Forward {
                rollback_deployment_id: rollback_deployment_id.into(),
            },
            routing: TrafficRouting::AllAtOnce,
            test_listener: false,
            hooks: Hooks::new(),
            ready_wait: None,
            termination_wait: Duration::ZERO,
            auto_rollback: AutoRollback::NONE,
            alarms: Alarms::default(),
        }
    }

    /// The deployment that rolls this one back: `CodeDeployDefault.ECSAllAtOnce`, no hooks, no
    /// waits, no alarms (a red alarm does not stop a rollback) and no rollback of its own.
    /// `None` for a rollback.
    pub fn rollback(&self) -> Option<Spec> {
        let Kind::Forward {
            rollback_deployment_id,
        } = &self.kind
        else {
            return None;
        };
        Some(Spec {
            kind: Kind::Rollback {
                of: self.deployment_id.clone(),
            },
            test_listener: self.test_listener,
            ..Spec::new(rollback_deployment_id, String::new())
        })
    }
}
