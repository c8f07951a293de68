//! What happened so far, as far as later lines need it.

use std::collections::BTreeMap;
use std::time::Duration;

use rollout::Timestamp;
use rollout::deployment::Roles;
use rollout::event::{Entry, Event, Prediction, RequestCounts, TaskSetDescription};
use rollout::lifecycle::{LifecycleEvent, LifecycleStatus};
use rollout::traffic::TrafficRouting;

/// The state behind the lines.
#[derive(Debug, Default)]
pub struct Story {
    /// The first event's time.
    pub begun: Option<Timestamp>,
    /// The last event's time.
    pub last: Timestamp,
    /// Virtual seconds in a real one.
    pub speed: f64,
    /// The version that is released.
    pub version: String,
    /// The step that runs, or the lifecycle event.
    pub phase: String,
    /// The deployment that was created; not its rollback.
    pub deployment: Option<String>,
    /// How its traffic moves.
    pub routing: Option<TrafficRouting>,
    /// Who is blue and who is green.
    pub roles: Option<Roles<TaskSetDescription>>,
    /// Green's share in percent, once a deployment divides traffic.
    pub green: Option<u8>,
    /// When the present lifecycle event of the deployment began.
    pub event_began: Option<Timestamp>,
    /// When `AllowTraffic` began.
    pub shift_began: Option<Timestamp>,
    /// When the termination wait ends.
    pub termination_until: Option<Timestamp>,
    /// Requests by target group, since the beginning.
    pub groups: BTreeMap<String, RequestCounts>,
    /// Requests that reached no target group.
    pub unattributed: RequestCounts,
    /// What was to be expected, as a line each.
    pub predicted: Vec<String>,
    /// Requests by target group in the last period, and its length in seconds.
    pub recent: (BTreeMap<String, RequestCounts>, u64),
}

impl Story {
    /// Takes in an event.
    pub fn take(&mut self, entry: &Entry) {
        self.begun.get_or_insert(entry.at);
        self.last = self.last.max(entry.at);
        match &entry.event {
            Event::RecordOpened { version, speed, .. } => {
                self.version.clone_from(version);
                self.speed = *speed;
            }
            Event::StepStarted { step } => self.phase.clone_from(step),
            Event::DeploymentCreated {
                deployment_id,
                rollback_of: None,
                routing,
                ..
            } => {
                self.deployment = Some(deployment_id.clone());
                self.routing = Some(*routing);
                self.green = Some(0);
            }
            Event::DeploymentCreated { .. } => "rollback".clone_into(&mut self.phase),
            Event::RolesAssigned { roles, .. } => self.roles = Some(roles.clone()),
            Event::LifecycleEventChanged {
                deployment_id,
                lifecycle_event,
                status: LifecycleStatus::InProgress,
                ..
            } if self.is_ours(deployment_id) => {
                lifecycle_event.as_str().clone_into(&mut self.phase);
                self.event_began = Some(entry.at);
                if *lifecycle_event == LifecycleEvent::AllowTraffic {
                    self.shift_began = Some(entry.at);
                }
            }
            Event::WeightsChanged { green, .. } => self.green = Some(*green),
            Event::TerminationWaitStarted { until, .. } => {
                "termination wait".clone_into(&mut self.phase);
                self.termination_until = Some(*until);
            }
            Event::ReadyWaitStarted { .. } => "ready wait".clone_into(&mut self.phase),
            Event::DeploymentEnded { .. } => {
                "ended".clone_into(&mut self.phase);
                self.termination_until = None;
                self.shift_began = None;
            }
            Event::Predicted { watches, .. } => {
                self.predicted = watches.iter().map(prediction).collect();
            }
            Event::Traffic {
                period_s,
                groups,
                unattributed,
            } => {
                for (group, counts) in groups {
                    *self.groups.entry(group.clone()).or_default() += *counts;
                }
                self.unattributed += *unattributed;
                self.recent = (groups.clone(), *period_s);
            }
            _ => {}
        }
    }

    /// Whether an event is about the deployment, and not about its rollback.
    pub fn is_ours(&self, deployment_id: &str) -> bool {
        self.deployment.as_deref() == Some(deployment_id)
    }

    /// Virtual time since the beginning.
    pub fn elapsed(&self, at: Timestamp) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| at - begun)
    }

    /// The same in real time.
    pub fn real(&self, elapsed: Duration) -> Duration {
        if self.speed > 0.0 {
            elapsed.div_f64(self.speed)
        } else {
            elapsed
        }
    }

    /// What people call the side that a target group belongs to: its version, if it is known.
    pub fn name_of_group<'a>(&'a self, group: &'a str) -> &'a str {
        self.roles
            .as_ref()
            .and_then(|roles| {
                [&roles.blue, &roles.green]
                    .into_iter()
                    .find(|side| side.target_group == group)
            })
            .map_or(group, name)
    }

    /// Blue's name.
    pub fn blue(&self) -> &str {
        self.roles
            .as_ref()
            .map_or("blue", |roles| name(&roles.blue))
    }

    /// Green's name.
    pub fn green(&self) -> &str {
        match &self.roles {
            Some(roles) => name(&roles.green),
            None if self.version.is_empty() => "green",
            None => &self.version,
        }
    }

    /// When the deployment is planned to end, once that can be said.
    pub fn planned_end(&self) -> Option<Timestamp> {
        if let Some(until) = self.termination_until {
            return Some(until);
        }
        Some(self.shift_began? + self.routing?.duration())
    }
}

/// A task set's version, or the revision of its task definition.
pub fn name(set: &TaskSetDescription) -> &str {
    set.version.as_deref().unwrap_or_else(|| {
        set.task_definition
            .rsplit('/')
            .next()
            .unwrap_or(&set.task_definition)
    })
}

/// `4:05`, or `1:04:05` from an hour on.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

/// A number with thin groups: `12 345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `80 %`, with a decimal below ten.
#[expect(clippy::cast_precision_loss, reason = "for showing")]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if part > 0 && percent < 9.95 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// Seconds of this world: `13.4 s`, or `2 min 5 s`.
pub fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 100 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// `187 lost with the alarm (95 %: at most 230), found after 2:47`.
fn prediction(prediction: &Prediction) -> String {
    let found = match prediction.found_after_s {
        Some(seconds) => {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            format!("found after {}", clock(time))
        }
        None => "never found".to_owned(),
    };
    format!(
        "with {} {:.0} lost (95 %: at most {:.0}), {found}",
        prediction.watch, prediction.lost_mean, prediction.lost_q95
    )
}
