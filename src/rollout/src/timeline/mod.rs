//! What a release will do, known before it does it.
//!
//! A [`Plan`] is everything that decides a release beforehand: the deployment's [`Spec`], its
//! alarms, the judge, the traffic. [`Timeline::of`] drives the deployment's own state machine
//! through it in virtual time and says when each weight holds, how long it all takes, when each
//! alarm can fire at the earliest, and how many users have met green by then. [`findings`] reads
//! the same plan as a linter reads code: what in it cannot work, and the change that mends it.
//!
//! Nothing here depends on chance but the probability of a false alarm, and that is computed
//! ([`crate::simulate::exact`]).
//!
//! ```
//! use std::time::Duration;
//!
//! use rollout::deployment::Spec;
//! use rollout::timeline::{Plan, Timeline, Traffic, findings};
//! use rollout::traffic::TrafficRouting;
//!
//! let spec = Spec {
//!     routing: TrafficRouting::canary(10, 5),
//!     termination_wait: Duration::from_secs(300),
//!     ..Spec::new("d-AAAAAAAAA", "d-BBBBBBBBB")
//! };
//! let groups = ["targetgroup/shop-a/1", "targetgroup/shop-b/2"].map(str::to_owned);
//! let plan = Plan {
//!     traffic: Some(Traffic::of(20.0)),
//!     ..Plan::new(spec, groups)
//! };
//! let timeline = Timeline::of(&plan)?;
//! assert_eq!(timeline.full_at - timeline.traffic_at, Duration::from_secs(300));
//! for finding in findings(&plan)? {
//!     println!("{finding}; {}", finding.mend());
//! }
//! # Ok::<(), rollout::timeline::PlanError>(())
//! ```

mod finding;
mod lint;
mod play;
mod reach;
mod words;

use std::time::Duration;

use serde::Serialize;

pub use finding::{CannotFire, Finding, MissingDataFault, Severity, Window, WindowOf};
pub use lint::findings;
pub use reach::{AlarmOutlook, Met, Reach};

use crate::Timestamp;
use crate::alarm::{Definition, InvalidAlarm, Metric};
use crate::course::{Course, World};
use crate::deployment::{Spec, Weights, limits};
use crate::event::Event;
use crate::judge::ConfigError;
use crate::lifecycle::{LifecycleEvent, LifecycleStatus};
use crate::simulate::{Exposure, JudgeDetector};
use crate::time::millis;
use crate::traffic::{InvalidTrafficRouting, TrafficRouting};

/// A release that has not begun.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The deployment: how traffic moves, hooks, waits, which alarms stop it.
    pub spec: Spec,
    /// How long things take that no rule says.
    pub world: World,
    /// The alarms, as `CloudWatch` has them.
    pub alarms: Vec<Watched>,
    /// The pair's names as the dimension `TargetGroup` has them (`targetgroup/NAME/ID`).
    pub target_groups: [String; 2],
    /// From a period's end until its metrics can be seen.
    pub metric_delay: Duration,
    /// How much of the alarms' reaction is looking: from a red alarm until the deployment is
    /// stopped.
    pub poll_delay: Duration,
    /// The traffic that is expected; `None` where nobody knows, and plenty is assumed.
    pub traffic: Option<Traffic>,
    /// The judge, if one watches.
    pub judge: Option<JudgeDetector>,
}

/// An alarm, and what it watches besides its own metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// The alarm.
    pub definition: Definition,
    /// Further metrics that metric math adds to it; empty for a plain alarm.
    pub also: Vec<Metric>,
}

impl From<Definition> for Watched {
    fn from(definition: Definition) -> Watched {
        Watched {
            definition,
            also: Vec::new(),
        }
    }
}

/// The traffic that a release will meet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Traffic {
    /// Requests a second, more than 0.
    pub rate: f64,
    /// How many requests a user makes while the weights stay as they are, at least 1. Each is
    /// routed by itself, so a user of many requests meets green sooner.
    pub requests_per_user: f64,
    /// The share of requests that fail when all is well, 0 to 1.
    pub failing: f64,
    /// The share that fails in the version that shall be found, 0 to 1.
    pub regression: f64,
}

impl Traffic {
    /// So many requests a second; one request a user, 0.1 % of them failing, and a regression
    /// to 2 %.
    pub const fn of(rate: f64) -> Traffic {
        Traffic {
            rate,
            requests_per_user: 1.0,
            failing: 0.001,
            regression: 0.02,
        }
    }

    fn validate(&self) -> Result<(), PlanError> {
        if !(self.rate > 0.0 && self.rate <= MAX_RATE) {
            return Err(PlanError::Rate(self.rate));
        }
        if !(1.0..=MAX_RATE).contains(&self.requests_per_user) {
            return Err(PlanError::RequestsPerUser(self.requests_per_user));
        }
        for (field, value) in [("failing", self.failing), ("regression", self.regression)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(PlanError::Share { field, value });
            }
        }
        Ok(())
    }
}

const MAX_RATE: f64 = 1e7;
const LONGEST: Duration = Duration::from_hours(24 * 30);

/// Why there is no timeline.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// No traffic, or more than is plausible.
    #[error("a rate of {0} requests a second: give more than 0 and at most {MAX_RATE}")]
    Rate(f64),
    /// Users without requests.
    #[error("{0} requests a user: give 1 or more")]
    RequestsPerUser(f64),
    /// A share is not within 0 to 1.
    #[error("{field} = {value} is not a share of requests: give 0 to 1")]
    Share {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// `CodeDeploy` would refuse the strategy.
    #[error(transparent)]
    Routing(#[from] InvalidTrafficRouting),
    /// `CloudWatch` would refuse an alarm.
    #[error(transparent)]
    Alarm(#[from] InvalidAlarm),
    /// The judge's configuration is refused.
    #[error(transparent)]
    Judge(#[from] ConfigError),
    /// Something takes longer than is plausible.
    #[error("{field} of {value:?}: give at most {} days", LONGEST.as_secs() / 86_400)]
    Wait {
        /// Which.
        field: &'static str,
        /// What it is.
        value: Duration,
    },
    /// The judge's batches have no length.
    #[error("batches of {0} seconds for the judge: give more than 0")]
    Batch(f64),
    /// The delay before the judge acts is no time.
    #[error("a delay of {0} seconds for the judge: give 0 or more")]
    Delay(f64),
}

impl Plan {
    /// A plan of this deployment without alarms, judge or known traffic: green takes a minute to
    /// start, a hook ten seconds, a metric a minute to be published.
    pub fn new(spec: Spec, target_groups: [String; 2]) -> Plan {
        Plan {
            spec,
            world: World {
                install: Duration::from_mins(1),
                hook: Some(Duration::from_secs(10)),
                ready: None,
            },
            alarms: Vec::new(),
            target_groups,
            metric_delay: Duration::from_mins(1),
            poll_delay: limits::ALARM_POLL,
            traffic: None,
            judge: None,
        }
    }

    /// Checks every part.
    pub fn validate(&self) -> Result<(), PlanError> {
        self.spec.routing.validate()?;
        let waits = [
            ("a termination wait", self.spec.termination_wait),
            ("a ready wait", self.spec.ready_wait.unwrap_or_default()),
            ("an installation", self.world.install),
            ("a hook", self.world.hook.unwrap_or_default()),
            ("a delay of the metrics", self.metric_delay),
            ("a delay of the polls", self.poll_delay),
        ];
        if let Some((field, value)) = waits.into_iter().find(|(_, wait)| *wait > LONGEST) {
            return Err(PlanError::Wait { field, value });
        }
        for alarm in &self.alarms {
            alarm.definition.validate()?;
        }
        if let Some(judge) = &self.judge {
            judge.config.validate()?;
            if !(judge.batch_seconds > 0.0 && judge.batch_seconds.is_finite()) {
                return Err(PlanError::Batch(judge.batch_seconds));
            }
            if !(judge.delay >= 0.0 && judge.delay.is_finite()) {
                return Err(PlanError::Delay(judge.delay));
            }
        }
        self.traffic.map_or(Ok(()), |traffic| traffic.validate())
    }

    /// The time in which a bad version has to be found.
    fn window(&self) -> Window {
        window(&self.spec.routing, self.spec.termination_wait)
    }
}

fn window(routing: &TrafficRouting, bake: Duration) -> Window {
    let (length, of) = match routing {
        TrafficRouting::AllAtOnce => (bake, WindowOf::Bake),
        TrafficRouting::TimeBasedCanary { .. } => (routing.duration(), WindowOf::Canary),
        TrafficRouting::TimeBasedLinear { .. } => (routing.duration(), WindowOf::Shift),
    };
    Window { length, of }
}

/// A release in advance. All times count from the creation of the deployment, but those of
/// [`AlarmOutlook`], which count from green's first production request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// How traffic moves.
    pub routing: TrafficRouting,
    /// When each weight begins to hold, until the end.
    pub weights: Vec<Weight>,
    /// The lifecycle events with anything to do.
    pub lifecycle: Vec<Span>,
    /// Green's first production request.
    #[serde(with = "millis", rename = "traffic_at_ms")]
    pub traffic_at: Duration,
    /// Green has all traffic.
    #[serde(with = "millis", rename = "full_at_ms")]
    pub full_at: Duration,
    /// The deployment succeeded, and blue goes.
    #[serde(with = "millis", rename = "done_at_ms")]
    pub done_at: Duration,
    /// How long a client must wait before it may give up on a healthy deployment.
    #[serde(with = "millis", rename = "client_timeout_ms")]
    pub client_timeout: Duration,
    /// What each alarm can do.
    pub alarms: Vec<AlarmOutlook>,
}

/// From here on, green has this share of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Weight {
    /// When.
    #[serde(with = "millis", rename = "at_ms")]
    pub at: Duration,
    /// Green's share in percent.
    pub green: u8,
}

/// A lifecycle event's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Which.
    pub event: LifecycleEvent,
    /// Its start.
    #[serde(with = "millis", rename = "start_ms")]
    pub start: Duration,
    /// Its end.
    #[serde(with = "millis", rename = "end_ms")]
    pub end: Duration,
}

impl Timeline {
    /// The timeline of a plan. Refused is a plan that would be refused by AWS, and traffic or a
    /// judge without a meaning.
    pub fn of(plan: &Plan) -> Result<Timeline, PlanError> {
        plan.validate()?;
        let start = Timestamp::EPOCH;
        let mut course = Course::new(plan.spec.clone(), start, plan.world);
        while course.advance() {}
        let view = course.deployment().view();
        let mut weights = vec![Weight {
            at: Duration::ZERO,
            green: Weights::BLUE.green(),
        }];
        weights.extend(
            course
                .events()
                .iter()
                .filter_map(|entry| match entry.event {
                    Event::WeightsChanged { green, .. } => Some(Weight {
                        at: entry.at - start,
                        green,
                    }),
                    _ => None,
                }),
        );
        let spans = view.lifecycle_events.iter().filter_map(|state| {
            let (start_at, end) = (state.start?, state.end?);
            (state.status == LifecycleStatus::Succeeded && end > start_at).then(|| Span {
                event: state.event,
                start: start_at - start,
                end: end - start,
            })
        });
        let done_at = course.now() - start;
        let first = weights.iter().find(|weight| weight.green > 0);
        let full = weights.iter().find(|weight| weight.green == 100);
        let traffic_at = first.map_or(done_at, |weight| weight.at);
        let exposure = Exposure::seen(weights.iter().filter(|weight| weight.green > 0).map(
            |weight| {
                (
                    weight.at.saturating_sub(traffic_at).as_secs_f64(),
                    weight.green,
                )
            },
        ));
        let end = done_at.saturating_sub(traffic_at);
        Ok(Timeline {
            routing: plan.spec.routing,
            lifecycle: spans.collect(),
            traffic_at,
            full_at: full.map_or(done_at, |weight| weight.at),
            done_at,
            client_timeout: longest(&plan.spec),
            alarms: plan
                .alarms
                .iter()
                .map(|alarm| AlarmOutlook::of(plan, alarm, &exposure, end))
                .collect(),
            weights,
        })
    }
}

/// The longest that a deployment can take that succeeds in the end: `CodeDeploy`'s own limits
/// for what it waits for (to begin, to install, for each hook, for a green that scales before the
/// shift), and the plan's waits. Who gives up earlier may give up on a healthy release.
pub fn longest(spec: &Spec) -> Duration {
    let hooks = LifecycleEvent::of_deployment(spec.test_listener)
        .filter(|event| event.is_hook() && spec.hooks.contains_key(event))
        .count();
    let hooks = limits::HOOK.saturating_mul(u32::try_from(hooks).unwrap_or(u32::MAX));
    [
        limits::START,
        limits::INSTALL,
        hooks,
        spec.ready_wait.unwrap_or_default(),
        limits::SETTLE,
        spec.routing.duration(),
        spec.termination_wait,
        limits::COMMAND * 2,
    ]
    .into_iter()
    .fold(Duration::ZERO, Duration::saturating_add)
}
