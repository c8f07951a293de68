//! The block at the end: what came of it, who serves now, what users noticed, what to do next.

use std::fmt::Write as _;
use std::time::Duration;

use rollout::Timestamp;
use rollout::event::{Entry, Event, RequestCounts};

use super::lines::{bar, failures};
use super::palette::Palette;
use super::story::{Story, clock, grouped, seconds};
use crate::exit_codes;

/// The lines of the block; none for any event but the summary.
pub fn block(story: &Story, entry: &Entry, palette: Palette) -> Vec<String> {
    let Event::Summary {
        exit_code,
        outcome,
        real_seconds,
        requests,
        first_loss,
        last_loss,
        record,
        next,
    } = &entry.event
    else {
        return Vec::new();
    };
    let headline = match *exit_code {
        exit_codes::SUCCESS => palette.good(&format!("✓ {outcome}")),
        exit_codes::STOPPED => palette.warn(&format!("■ {outcome}")),
        _ => palette.bad(&format!("✗ {outcome}")),
    };
    let mut lines = vec![String::new(), headline];
    let mut row = |label: &str, text: String| {
        lines.push(format!(
            "  {} {text}",
            palette.faint(&format!("{label:<9}"))
        ));
    };
    if let Some(green) = story.green {
        row("serving", serving(story, green, palette));
    }
    if requests.is_empty() && story.groups.is_empty() {
        row("requests", "none were generated".to_owned());
    } else {
        for text in answered(story, requests) {
            row("requests", text);
        }
        row("lost", lost(story, requests, *first_loss, *last_loss));
    }
    for text in &story.predicted {
        row("expected", text.clone());
    }
    let elapsed = story.elapsed(entry.at);
    let real = Duration::try_from_secs_f64(*real_seconds).unwrap_or_default();
    row(
        "duration",
        if story.speed > 1.0 {
            format!("{} on the stage, {} here", clock(elapsed), seconds(real))
        } else {
            clock(elapsed)
        },
    );
    if let Some(record) = record {
        row("record", record.clone());
    }
    for command in next {
        row("next", command.clone());
    }
    let meaning = exit_codes::TABLE
        .iter()
        .find(|(code, _)| code == exit_code)
        .map_or("", |(_, sentence)| {
            sentence.split([':', '(']).next().unwrap_or(sentence).trim()
        });
    row("exit code", format!("{exit_code}, {meaning}"));
    lines
}

/// `2.0.0 100 %`, or both sides with their bar when traffic is divided.
fn serving(story: &Story, green: u8, palette: Palette) -> String {
    match green {
        0 => format!("{} has all traffic", palette.blue(story.blue())),
        100 => format!("{} has all traffic", palette.green(story.green())),
        _ => format!(
            "{} {} {} %, {} {green} %",
            bar(green, palette),
            story.blue(),
            100 - green,
            story.green()
        ),
    }
}

/// All requests, and each side's.
fn answered(story: &Story, requests: &RequestCounts) -> Vec<String> {
    let sides: Vec<String> = story
        .groups
        .iter()
        .filter(|(_, counts)| !counts.is_empty())
        .map(|(group, counts)| {
            format!(
                "{} took {}",
                story.name_of_group(group),
                grouped(counts.total())
            )
        })
        .collect();
    let all = grouped(requests.total());
    if sides.is_empty() {
        return vec![all];
    }
    vec![format!("{all}: {}", sides.join(", "))]
}

/// What users lost, on which side, of which kind and when.
fn lost(
    story: &Story,
    requests: &RequestCounts,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
) -> String {
    if requests.lost() == 0 {
        return "not one".to_owned();
    }
    let mut sides: Vec<String> = story
        .groups
        .iter()
        .filter(|(_, counts)| counts.lost() > 0)
        .map(|(group, counts)| failures(story.name_of_group(group), counts))
        .collect();
    if story.unattributed.lost() > 0 {
        sides.push(failures("no target", &story.unattributed));
    }
    let kinds: Vec<String> = [
        (requests.server_error, "answered 5xx"),
        (requests.connection_error, "without a connection"),
        (requests.timed_out, "timed out"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, kind)| format!("{} {kind}", grouped(count)))
    .collect();
    let mut text = format!("{} ({})", grouped(requests.lost()), kinds.join(", "));
    if !sides.is_empty() {
        let _ = write!(text, ": {}", sides.join(", "));
    }
    if let (Some(first), Some(last)) = (first, last) {
        let (first, last) = (story.elapsed(first), story.elapsed(last));
        let _ = write!(text, "; from {} to {}", clock(first), clock(last));
    }
    text
}
