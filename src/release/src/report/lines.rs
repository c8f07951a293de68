//! One event, at most one line.
//!
//! Not every event is worth a line: lifecycle events that only hooks would use pass in silence
//! when nothing is hooked to them, and a healthy minute of traffic is no news. The record has them.

use std::collections::BTreeMap;

use rollout::alarm::State;
use rollout::deployment::{ErrorInformation, StopReason};
use rollout::event::{Entry, Event, RequestCounts};
use rollout::judge::Decision;
use rollout::lifecycle::{DeploymentStatus, LifecycleEvent, LifecycleStatus};
use rollout::timeline::Severity;
use rollout::traffic::TrafficRouting;

use super::palette::Palette;
use super::story::{Story, clock, grouped, name, seconds, share};
use crate::outcome::activated_alarms;

/// How wide the traffic bar is, in characters.
pub const BAR: usize = 30;

/// What kind of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Done,
    Goes,
    Bad,
    Alarm,
}

/// The lines of an event: most often one, or none.
pub fn lines(story: &Story, entry: &Entry, palette: Palette) -> Vec<String> {
    if let Event::RecordOpened { .. } = &entry.event {
        return header(&entry.event, palette);
    }
    let words = words(story, &entry.event, palette);
    words
        .map(|words| line(story, entry, words, palette))
        .into_iter()
        .collect()
}

/// A line about a period of traffic in which nobody lost a request, for when there is no other news.
pub fn all_is_well(story: &Story, entry: &Entry, palette: Palette) -> Option<String> {
    let Event::Traffic { .. } = &entry.event else {
        return None;
    };
    let sides = losses(story, &story.groups, &story.unattributed);
    (!sides.is_empty()).then(|| {
        let text = format!("lost so far: {}", sides.join(", "));
        let words = (Sign::Goes, "requests".to_owned(), text);
        line(story, entry, words, palette)
    })
}

fn line(story: &Story, entry: &Entry, (sign, label, text): Words, palette: Palette) -> String {
    let elapsed = story.elapsed(entry.at);
    let time = if story.speed > 1.0 {
        let real = format!("{:.1} s", story.real(elapsed).as_secs_f64());
        format!(
            "{:>6} {}",
            clock(elapsed),
            palette.faint(&format!("{real:>7}"))
        )
    } else {
        format!("{:>8}", clock(elapsed))
    };
    let label = format!("{label:<11}");
    let (sign, label) = match sign {
        Sign::Done => (palette.good("✓"), label),
        Sign::Goes => (palette.faint("·"), label),
        Sign::Bad => (palette.bad("✗"), palette.bad(&label)),
        Sign::Alarm => (palette.bad("▲"), palette.bad(&label)),
    };
    format!("{time}  {sign} {label} {text}")
}

fn header(event: &Event, palette: Palette) -> Vec<String> {
    let Event::RecordOpened {
        version,
        bundle,
        target,
        strategy,
        speed,
        ..
    } = event
    else {
        return Vec::new();
    };
    let mut lines = vec![
        palette.strong(&format!("release {version} to {target}")),
        format!("  bundle    {bundle}"),
        format!("  strategy  {strategy}"),
    ];
    if *speed > 1.0 {
        lines.push(format!(
            "  time      {speed} s of the stage's time (left) in one second here (right)"
        ));
    }
    lines.push(String::new());
    lines
}

type Words = (Sign, String, String);

fn words(story: &Story, event: &Event, palette: Palette) -> Option<Words> {
    let line = |sign, label: &str, text: String| Some((sign, label.to_owned(), text));
    match event {
        // The end of the watch is the summary's first line.
        Event::StepFinished { step, .. } if step == "watch" => None,
        Event::StepFinished { step, detail } => line(Sign::Done, step, detail.clone()),
        Event::DeploymentCreated {
            deployment_id,
            rollback_of,
            routing,
            ..
        } => match rollback_of {
            None => line(
                Sign::Goes,
                "deployment",
                format!("{deployment_id}: {}", plan(routing)),
            ),
            Some(_) => None,
        },
        Event::RolesAssigned { roles, .. } => line(
            Sign::Goes,
            "sides",
            format!(
                "blue is {} behind {}, green is {} behind {}",
                palette.blue(name(&roles.blue)),
                roles.blue.target_group,
                palette.green(name(&roles.green)),
                roles.green.target_group
            ),
        ),
        Event::DeploymentStatusChanged {
            deployment_id,
            status: status @ (DeploymentStatus::Queued | DeploymentStatus::Baking),
        } if story.is_ours(deployment_id) => line(Sign::Goes, "deployment", status.to_string()),
        Event::LifecycleEventChanged {
            deployment_id,
            lifecycle_event,
            status,
            ..
        } if story.is_ours(deployment_id) => lifecycle(story, *lifecycle_event, *status),
        Event::WeightsChanged { blue, green, .. } => line(
            Sign::Goes,
            "traffic",
            division(story, *blue, *green, palette),
        ),
        Event::ReadyWaitStarted { until, .. } => line(
            Sign::Goes,
            "ready",
            format!(
                "waits until {} for ContinueDeployment",
                clock(story.elapsed(*until))
            ),
        ),
        Event::TerminationWaitStarted { until, .. } => line(
            Sign::Goes,
            "wait",
            format!(
                "{} has all traffic; {} is kept until {}",
                story.green(),
                story.blue(),
                clock(story.elapsed(*until))
            ),
        ),
        Event::RollbackStarted {
            rollback_deployment_id,
            reason,
            ..
        } => {
            let reason = match reason {
                StopReason::Failure => "it failed",
                StopReason::Alarm => "an alarm was active",
                StopReason::Request => "it was stopped",
                StopReason::ReadyWaitExpired => "nobody continued it",
            };
            line(
                Sign::Bad,
                "rollback",
                format!("{rollback_deployment_id}, because {reason}"),
            )
        }
        Event::DeploymentEnded {
            deployment_id,
            status,
            error,
        } => {
            let good = *status == DeploymentStatus::Succeeded;
            let ours = story.is_ours(deployment_id);
            let label = if ours { "deployment" } else { "rollback" };
            let sign = if good { Sign::Done } else { Sign::Bad };
            let why = error.as_ref().map_or_else(String::new, reason);
            line(sign, label, format!("{deployment_id} {status}{why}"))
        }
        _ => around(story, event),
    }
}

/// Events around a deployment: alarms, tasks, targets, requests.
fn around(story: &Story, event: &Event) -> Option<Words> {
    let line = |sign, label: &str, text: String| Some((sign, label.to_owned(), text));
    match event {
        Event::HookInvoked {
            lifecycle_event,
            function,
            ..
        } => line(
            Sign::Goes,
            "hook",
            // An ARN ends in the name, perhaps with a version.
            format!(
                "{lifecycle_event} calls {}",
                function
                    .split_once(":function:")
                    .map_or(function.as_str(), |(_, name)| name)
            ),
        ),
        Event::HookAnswered {
            lifecycle_event,
            status,
            ..
        } => {
            let sign = match status {
                rollout::deployment::HookStatus::Succeeded => Sign::Done,
                rollout::deployment::HookStatus::Failed => Sign::Bad,
            };
            line(
                sign,
                "hook",
                format!("{lifecycle_event} answered {status:?}"),
            )
        }
        Event::AlarmStateChanged {
            alarm,
            metric,
            state,
            previous,
            value,
            threshold,
            ..
        } => {
            let value = value.map_or_else(|| "no data".to_owned(), |value| format!("{value}"));
            match state {
                State::Alarm => line(
                    Sign::Alarm,
                    "alarm",
                    format!("{alarm} is ALARM: {metric} is {value}, the threshold {threshold}"),
                ),
                State::Ok if *previous == State::Alarm => {
                    line(Sign::Done, "alarm", format!("{alarm} is OK again"))
                }
                _ => None,
            }
        }
        Event::TaskStopped {
            task,
            stop_code,
            reason,
            exit_code,
        } => {
            // ECS stops tasks itself whenever a service is scaled: no news.
            if stop_code == "ServiceSchedulerInitiated"
                || stop_code == "UserInitiated"
                || *exit_code == Some(0)
            {
                return None;
            }
            let task = task.rsplit('/').next().unwrap_or(task);
            let id = task.get(..8).unwrap_or(task);
            let code = exit_code
                .filter(|code| !reason.contains(&format!("exit code {code}")))
                .map_or_else(String::new, |code| format!(", exit code {code}"));
            line(Sign::Bad, "task", format!("{id}… stopped: {reason}{code}"))
        }
        Event::TargetHealthChanged {
            target_group,
            target,
            state,
            reason,
        } if state == "unhealthy" => line(
            Sign::Bad,
            "target",
            format!("{target} behind {target_group} is unhealthy: {reason}"),
        ),
        Event::Traffic {
            groups,
            unattributed,
            period_s,
        } => requests(story, groups, unattributed, *period_s),
        Event::JudgeDecided {
            decision,
            evidence,
            enforced,
            ..
        } => Some(judged(*decision, evidence, *enforced)),
        Event::PlanFinding {
            severity,
            says,
            mend,
        } if *severity > Severity::Note => line(Sign::Bad, "plan", format!("{says}; {mend}")),
        _ => None,
    }
}

fn judged(decision: Decision, evidence: &str, enforced: bool) -> Words {
    let (sign, verdict) = match decision {
        Decision::Abort => (Sign::Bad, "ABORT: "),
        Decision::Pass => (Sign::Done, "PASS: "),
        Decision::Continue => (Sign::Goes, ""),
    };
    let observed = decision == Decision::Abort && !enforced;
    let end = if observed {
        " (observed only: nothing is stopped)"
    } else {
        ""
    };
    (
        sign,
        "judge".to_owned(),
        format!("{verdict}{evidence}{end}"),
    )
}

/// Users lost requests: how many, and on which side. A period without losses is no news.
fn requests(
    story: &Story,
    groups: &BTreeMap<String, RequestCounts>,
    unattributed: &RequestCounts,
    period_s: u64,
) -> Option<Words> {
    let lost: u64 = groups.values().map(RequestCounts::lost).sum::<u64>() + unattributed.lost();
    if lost == 0 {
        return None;
    }
    let sides = losses(story, groups, unattributed);
    let text = format!(
        "lost {} in {period_s} s: {}",
        grouped(lost),
        sides.join(", ")
    );
    Some((Sign::Bad, "requests".to_owned(), text))
}

/// What each side lost of its requests, and what was lost before either.
fn losses(
    story: &Story,
    groups: &BTreeMap<String, RequestCounts>,
    unattributed: &RequestCounts,
) -> Vec<String> {
    let mut sides: Vec<String> = groups
        .iter()
        .filter(|(_, counts)| counts.total() > 0)
        .map(|(group, counts)| failures(story.name_of_group(group), counts))
        .collect();
    if !unattributed.is_empty() {
        sides.push(failures("no target", unattributed));
    }
    sides
}

/// `2.0.0 96 of 120 (80 %)`, with the kinds when they are mixed.
pub fn failures(name: &str, counts: &RequestCounts) -> String {
    let (lost, total) = (counts.lost(), counts.total());
    if lost == 0 {
        return format!("{name} none of {}", grouped(total));
    }
    format!(
        "{name} {} of {} ({})",
        grouped(lost),
        grouped(total),
        share(lost, total)
    )
}

fn lifecycle(story: &Story, event: LifecycleEvent, status: LifecycleStatus) -> Option<Words> {
    let line = |sign, text: String| Some((sign, event_label(event).to_owned(), text));
    let took = || {
        let took = story
            .event_began
            .map_or(std::time::Duration::ZERO, |began| story.last - began);
        format!("{} took {}", event, clock(took))
    };
    match (event, status) {
        // Why, is said at the end of the deployment.
        (_, LifecycleStatus::Failed) => line(Sign::Bad, format!("{event} failed")),
        (LifecycleEvent::Install, LifecycleStatus::InProgress) => line(
            Sign::Goes,
            match &story.roles {
                Some(roles) => format!("{} is started beside {}", story.green(), name(&roles.blue)),
                None => format!("{} is started", story.green()),
            },
        ),
        (LifecycleEvent::Install, LifecycleStatus::Succeeded) => line(
            Sign::Done,
            format!("{} is healthy; {}", story.green(), took()),
        ),
        (LifecycleEvent::AllowTestTraffic, LifecycleStatus::Succeeded) => line(
            Sign::Done,
            format!("the test listener leads to {}", story.green()),
        ),
        (LifecycleEvent::AllowTraffic, LifecycleStatus::Succeeded) => line(
            Sign::Done,
            format!("{} has all traffic; {}", story.green(), took()),
        ),
        _ => None,
    }
}

fn event_label(event: LifecycleEvent) -> &'static str {
    match event {
        LifecycleEvent::Install => "install",
        LifecycleEvent::AllowTestTraffic => "test",
        LifecycleEvent::AllowTraffic => "traffic",
        _ => "hook",
    }
}

/// `[██████████████████████████░░░] 1.0.0 90 %, 2.0.0 10 %`.
pub fn division(story: &Story, blue: u8, green: u8, palette: Palette) -> String {
    format!(
        "{} {} {blue} %, {} {green} %",
        bar(green, palette),
        palette.blue(story.blue()),
        palette.green(story.green())
    )
}

/// Blue's share and green's share as one bar. A share above zero is never invisible.
pub fn bar(green: u8, palette: Palette) -> String {
    let mut filled = (usize::from(green) * BAR + 50) / 100;
    if green > 0 {
        filled = filled.max(1);
    }
    if green < 100 {
        filled = filled.min(BAR - 1);
    }
    format!(
        "{}{}",
        palette.blue(&"█".repeat(BAR - filled)),
        palette.green(&"▒".repeat(filled))
    )
}

/// `: ALARM_ACTIVE: name of the alarm`, or the whole message.
fn reason(error: &ErrorInformation) -> String {
    let alarms = activated_alarms(&error.message);
    if alarms.is_empty() {
        return format!(": {error}");
    }
    format!(": {}: {}", error.code, alarms.join(", "))
}

/// How traffic is planned to move, in words.
pub fn plan(routing: &TrafficRouting) -> String {
    match routing {
        TrafficRouting::AllAtOnce => "all traffic at once".to_owned(),
        TrafficRouting::TimeBasedCanary {
            percentage,
            interval,
        } => format!(
            "{percentage} % of the traffic for {} min, then all",
            interval.as_secs() / 60
        ),
        TrafficRouting::TimeBasedLinear {
            percentage,
            interval,
        } => format!(
            "{percentage} % more of the traffic every {} min, all after {}",
            interval.as_secs() / 60,
            seconds_or_minutes(routing.duration())
        ),
    }
}

fn seconds_or_minutes(duration: std::time::Duration) -> String {
    if duration.as_secs().is_multiple_of(60) {
        format!("{} min", duration.as_secs() / 60)
    } else {
        seconds(duration)
    }
}
