//! From what the API answers to what has changed since the last look.
//!
//! CodeDeploy tells states; people and records want events. The times of lifecycle events are the
//! API's own; what has no time there (weights) gets the time of the look.

use std::collections::BTreeMap;

use aws_sdk_codedeploy::primitives::DateTime;
use aws_sdk_codedeploy::types as cd;
use rollout::Timestamp;
use rollout::deployment::{
    Diagnostics, ErrorCode, ErrorInformation, LifecycleErrorCode, Side, StopReason, TaskSetState,
};
use rollout::event::{Entry, Event};
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use rollout::traffic::TrafficRouting;

use super::Plan;
use crate::outcome::activated_alarms;

/// What is known of one deployment.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that was seen or not"
)]
pub struct Seen {
    id: String,
    rollback_of: Option<String>,
    plan: Plan,
    created: bool,
    roles: bool,
    status: Option<DeploymentStatus>,
    events: BTreeMap<LifecycleEvent, LifecycleStatus>,
    install_started: Option<Timestamp>,
    last_ended: Option<Timestamp>,
    green: u8,
    green_exists: bool,
    green_is_primary: bool,
    terminating: bool,
    error: Option<ErrorInformation>,
}

impl Seen {
    /// Nothing seen yet.
    pub fn new(id: &str, plan: Plan) -> Seen {
        Seen {
            id: id.to_owned(),
            rollback_of: None,
            plan,
            created: false,
            roles: false,
            status: None,
            events: BTreeMap::new(),
            install_started: None,
            last_ended: None,
            green: 0,
            green_exists: false,
            green_is_primary: false,
            terminating: false,
            error: None,
        }
    }

    /// Nothing seen yet of a rollback: it moves no traffic by steps and starts no tasks.
    pub fn rollback(id: &str, of: &str, plan: Plan) -> Seen {
        Seen {
            rollback_of: Some(of.to_owned()),
            roles: true,
            ..Seen::new(
                id,
                Plan {
                    routing: TrafficRouting::AllAtOnce,
                    ..plan
                },
            )
        }
    }

    /// What changed.
    pub fn look(
        &mut self,
        now: Timestamp,
        info: &cd::DeploymentInfo,
        target: Option<&cd::EcsTarget>,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.creation(now, info, target, &mut entries);
        let status = info.status().and_then(status);
        if let Some(status) = status
            && !status.is_terminal()
            && self.status != Some(status)
        {
            self.status = Some(status);
            entries.push(Entry::new(
                now,
                Event::DeploymentStatusChanged {
                    deployment_id: self.id.clone(),
                    status,
                },
            ));
            if status == DeploymentStatus::Ready {
                entries.push(Entry::new(
                    now,
                    Event::ReadyWaitStarted {
                        deployment_id: self.id.clone(),
                        until: now + self.plan.ready_wait,
                    },
                ));
            }
        }
        if let Some(target) = target {
            let before = entries.len();
            self.lifecycle(now, target, &mut entries);
            if self.rollback_of.is_none() {
                let weights = self.weights(now, target);
                place(&mut entries, before, weights);
            }
        }
        if info.instance_termination_wait_time_started() && !self.terminating {
            self.terminating = true;
            let begun = self.last_ended.unwrap_or(now);
            entries.push(Entry::new(
                now,
                Event::TerminationWaitStarted {
                    deployment_id: self.id.clone(),
                    until: begun + self.plan.termination_wait,
                },
            ));
        }
        if let Some(status) = status
            && status.is_terminal()
            && self.status != Some(status)
        {
            self.status = Some(status);
            self.error = info.error_information().map(error_information);
            entries.push(Entry::new(
                info.complete_time().and_then(timestamp).unwrap_or(now),
                Event::DeploymentEnded {
                    deployment_id: self.id.clone(),
                    status,
                    error: self.error.clone(),
                },
            ));
        }
        entries
    }

    fn creation(
        &mut self,
        now: Timestamp,
        info: &cd::DeploymentInfo,
        target: Option<&cd::EcsTarget>,
        entries: &mut Vec<Entry>,
    ) {
        if self.created {
            return;
        }
        self.created = true;
        let test_listener = info
            .load_balancer_info()
            .and_then(|info| info.target_group_pair_info_list().first())
            .is_some_and(|pair| pair.test_traffic_route().is_some());
        let lifecycle_events: Vec<LifecycleEvent> = match target {
            Some(target) if !target.lifecycle_events().is_empty() => target
                .lifecycle_events()
                .iter()
                .filter_map(|event| event.lifecycle_event_name()?.parse().ok())
                .collect(),
            _ => LifecycleEvent::of_deployment(test_listener).collect(),
        };
        entries.push(Entry::new(
            info.create_time().and_then(timestamp).unwrap_or(now),
            Event::DeploymentCreated {
                deployment_id: self.id.clone(),
                rollback_of: self.rollback_of.clone(),
                routing: self.plan.routing,
                lifecycle_events,
            },
        ));
        self.status = Some(DeploymentStatus::Created);
    }

    fn lifecycle(&mut self, now: Timestamp, target: &cd::EcsTarget, entries: &mut Vec<Entry>) {
        for answer in target.lifecycle_events() {
            let Some(event) = answer
                .lifecycle_event_name()
                .and_then(|name| name.parse::<LifecycleEvent>().ok())
            else {
                continue;
            };
            let Some(new) = answer.status().and_then(lifecycle_status) else {
                continue;
            };
            let old = self
                .events
                .insert(event, new)
                .unwrap_or(LifecycleStatus::Pending);
            if old == new {
                continue;
            }
            let started = answer.start_time().and_then(timestamp);
            let ended = answer.end_time().and_then(timestamp);
            let mut change = |at: Timestamp, status, diagnostics| {
                entries.push(Entry::new(
                    at,
                    Event::LifecycleEventChanged {
                        deployment_id: self.id.clone(),
                        lifecycle_event: event,
                        status,
                        diagnostics,
                    },
                ));
            };
            let ran = matches!(new, LifecycleStatus::Succeeded | LifecycleStatus::Failed);
            if old == LifecycleStatus::Pending && ran {
                change(started.unwrap_or(now), LifecycleStatus::InProgress, None);
            }
            if new == LifecycleStatus::InProgress {
                change(started.unwrap_or(now), new, None);
            } else {
                let diagnostics = answer
                    .diagnostics()
                    .filter(|_| new == LifecycleStatus::Failed);
                change(ended.unwrap_or(now), new, diagnostics.map(diagnosis));
            }
            if event == LifecycleEvent::Install && self.install_started.is_none() {
                self.install_started = Some(started.unwrap_or(now));
            }
            if ran {
                self.last_ended = Some(ended.unwrap_or(now));
            }
        }
    }

    /// What changed in the division of traffic and the standing of the task sets.
    pub fn weights(&mut self, now: Timestamp, target: &cd::EcsTarget) -> Vec<Entry> {
        let mut entries = Vec::new();
        let sets = target.task_sets_info();
        let of =
            |label: &cd::TargetLabel| sets.iter().find(|set| set.task_set_label() == Some(label));
        let (blue, green) = (of(&cd::TargetLabel::Blue), of(&cd::TargetLabel::Green));
        if green.is_some() && !self.green_exists {
            self.green_exists = true;
            entries.push(Entry::new(
                now,
                Event::TaskSetChanged {
                    deployment_id: self.id.clone(),
                    task_set: Side::Green,
                    state: TaskSetState::Created,
                },
            ));
        }
        // Green first: at the end of a success blue is gone, at the end of a rollback green is.
        let share = match (green, blue) {
            (Some(green), _) if green.traffic_weight() > 0.0 => {
                Some(percent(green.traffic_weight()))
            }
            (_, Some(blue)) => Some(100 - percent(blue.traffic_weight())),
            _ => None,
        };
        if let Some(share) = share
            && share != self.green
        {
            self.green = share;
            entries.push(Entry::new(
                now,
                Event::WeightsChanged {
                    deployment_id: self.id.clone(),
                    blue: 100 - share,
                    green: share,
                },
            ));
        }
        let primary = green.is_some_and(|green| green.status() == Some("PRIMARY"));
        if primary != self.green_is_primary {
            self.green_is_primary = primary;
            entries.push(Entry::new(
                now,
                Event::PrimaryChanged {
                    deployment_id: self.id.clone(),
                    task_set: if primary { Side::Green } else { Side::Blue },
                },
            ));
        }
        entries
    }

    /// Whether nobody knows yet who is blue and who is green.
    pub fn roles_are_open(&self) -> bool {
        !self.roles
    }

    /// They have been announced.
    pub fn roles_are_known(&mut self) {
        self.roles = true;
    }

    /// The terminal status, once there is one.
    pub fn ended(&self) -> Option<DeploymentStatus> {
        self.status.filter(|status| status.is_terminal())
    }

    /// Since when green is being installed, while it is.
    pub fn installing_since(&self) -> Option<Timestamp> {
        let running =
            self.events.get(&LifecycleEvent::Install) == Some(&LifecycleStatus::InProgress);
        self.install_started.filter(|_| running)
    }

    /// Whether blue has all traffic, as far as the last look says.
    pub fn blue_has_all(&self) -> bool {
        self.green == 0 && !self.green_is_primary
    }

    /// Green's share of the production traffic at the last look, in percent.
    pub fn green_share(&self) -> u8 {
        self.green
    }

    /// Where traffic was at the last look, in words.
    pub fn where_traffic_is(&self) -> String {
        format!("at the last look green had {} % of it", self.green)
    }

    /// What made it end.
    pub fn reason(&self) -> StopReason {
        let message = self
            .error
            .as_ref()
            .map_or("", |error| error.message.as_str());
        match self.error.as_ref().map(|error| error.code) {
            Some(ErrorCode::AlarmActive) => StopReason::Alarm,
            _ if message.contains("notification to continue") => StopReason::ReadyWaitExpired,
            Some(ErrorCode::ManualStop) => StopReason::Request,
            None if self.status == Some(DeploymentStatus::Stopped) => StopReason::Request,
            _ => StopReason::Failure,
        }
    }

    /// Why it ended, as a clause.
    pub fn why(&self) -> String {
        let Some(error) = &self.error else {
            return "CodeDeploy gives no reason".to_owned();
        };
        let alarms = activated_alarms(&error.message);
        if !alarms.is_empty() {
            let noun = if alarms.len() == 1 { "alarm" } else { "alarms" };
            return format!("{noun} {}", alarms.join(", "));
        }
        let message = error.message.trim_end_matches('.');
        format!("{message} ({})", error.code)
    }
}

/// Puts what is known of the traffic where it belongs when the end of `AllowTraffic` is seen in the
/// same look: the last step of a shift came before it, the way back after it.
fn place(entries: &mut Vec<Entry>, from: usize, weights: Vec<Entry>) {
    let end = entries[from..].iter().enumerate().find_map(|(at, entry)| {
        let Event::LifecycleEventChanged {
            lifecycle_event: LifecycleEvent::AllowTraffic,
            status,
            ..
        } = &entry.event
        else {
            return None;
        };
        match status {
            LifecycleStatus::Succeeded => Some((from + at, entry.at)),
            LifecycleStatus::Failed => Some((from + at + 1, entry.at)),
            _ => None,
        }
    });
    let Some((place, at)) = end else {
        entries.extend(weights);
        return;
    };
    for mut entry in weights.into_iter().rev() {
        entry.at = at;
        entries.insert(place, entry);
    }
}

/// A share in percent, 0 to 100.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=100 before"
)]
fn percent(weight: f64) -> u8 {
    weight.round().clamp(0.0, 100.0) as u8
}

/// The API's time.
fn timestamp(time: &DateTime) -> Option<Timestamp> {
    u64::try_from(time.to_millis().ok()?)
        .ok()
        .map(Timestamp::from_millis)
}

/// `None` for a status this program does not know: it is not terminal, and there is nothing to say.
fn status(status: &cd::DeploymentStatus) -> Option<DeploymentStatus> {
    Some(match status {
        cd::DeploymentStatus::Created => DeploymentStatus::Created,
        cd::DeploymentStatus::Queued => DeploymentStatus::Queued,
        cd::DeploymentStatus::InProgress => DeploymentStatus::InProgress,
        cd::DeploymentStatus::Baking => DeploymentStatus::Baking,
        cd::DeploymentStatus::Ready => DeploymentStatus::Ready,
        cd::DeploymentStatus::Succeeded => DeploymentStatus::Succeeded,
        cd::DeploymentStatus::Failed => DeploymentStatus::Failed,
        cd::DeploymentStatus::Stopped => DeploymentStatus::Stopped,
        _ => return None,
    })
}

fn lifecycle_status(status: &cd::LifecycleEventStatus) -> Option<LifecycleStatus> {
    Some(match status {
        cd::LifecycleEventStatus::Pending => LifecycleStatus::Pending,
        cd::LifecycleEventStatus::InProgress => LifecycleStatus::InProgress,
        cd::LifecycleEventStatus::Succeeded => LifecycleStatus::Succeeded,
        cd::LifecycleEventStatus::Failed => LifecycleStatus::Failed,
        cd::LifecycleEventStatus::Skipped => LifecycleStatus::Skipped,
        _ => return None,
    })
}

/// Codes that an ECS deployment is not known to end with are told in the message.
fn error_information(error: &cd::ErrorInformation) -> ErrorInformation {
    let message = error.message().unwrap_or_default().to_owned();
    let name = error.code().map_or("", |code| code.as_str());
    let code = serde_json::from_value(serde_json::Value::String(name.to_owned()));
    match code {
        Ok(code) => ErrorInformation { code, message },
        Err(_) => ErrorInformation {
            code: ErrorCode::InternalError,
            message: format!("{name}: {message}"),
        },
    }
}

fn diagnosis(diagnostics: &cd::Diagnostics) -> Diagnostics {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let name = diagnostics.error_code().map_or("", |code| code.as_str());
    let code = [
        LifecycleErrorCode::Success,
        LifecycleErrorCode::ScriptMissing,
        LifecycleErrorCode::ScriptNotExecutable,
        LifecycleErrorCode::ScriptTimedOut,
        LifecycleErrorCode::ScriptFailed,
    ]
    .into_iter()
    .find(|code| code.as_str() == name);
    Diagnostics {
        error_code: code.unwrap_or(LifecycleErrorCode::UnknownError),
        script_name: text(diagnostics.script_name()),
        message: text(diagnostics.message()),
        log_tail: text(diagnostics.log_tail()),
    }
}

#[cfg(test)]
#[path = "seen_tests.rs"]
mod tests;
