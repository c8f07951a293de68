//! The reporter for people: lines, and on a terminal a live view below them.
//!
//! The live view is two lines that are drawn over and over: how traffic is divided, and what is
//! happening with how long to go. It is for eyes only; everything that matters is in the lines.

use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rollout::event::{Entry, Event, RequestCounts};

use super::lines::{all_is_well, division, lines};
use super::story::{Story, clock, seconds};
use super::{Palette, summary};
use crate::announce::{Reporter, real_now};

/// Lines for people.
#[derive(Debug)]
pub struct Human {
    story: Story,
    palette: Palette,
    live: Option<Live>,
    /// The time of the last event that was told in a line.
    told: rollout::Timestamp,
}

/// Without a live view, a line says that all is well after so much silence, in real time.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Live {
    bar: ProgressBar,
    /// Real and virtual time of the last event: between events virtual time is reckoned.
    anchor: (rollout::Timestamp, rollout::Timestamp),
}

impl Human {
    /// With a live view, or lines only.
    pub fn new(speed: f64, live: bool) -> Human {
        Human {
            story: Story {
                speed,
                ..Story::default()
            },
            palette: Palette::of_stdout(),
            live: live.then(Live::new),
            told: rollout::Timestamp::default(),
        }
    }

    /// The lines of an event that has been taken in.
    fn tell(&mut self, entry: &Entry) -> Vec<String> {
        let mut text = lines(&self.story, entry, self.palette);
        text.extend(summary::block(&self.story, entry, self.palette));
        let silent = self.story.real(entry.at - self.told) >= SILENCE;
        if text.is_empty() && self.live.is_none() && silent {
            text.extend(all_is_well(&self.story, entry, self.palette));
        }
        if !text.is_empty() {
            self.told = entry.at;
        }
        text
    }

    fn print(&self, text: &str) {
        match &self.live {
            Some(live) => live.bar.println(text),
            None => {
                // A reader that went away does not end a deployment.
                let _ = writeln!(std::io::stdout(), "{text}");
            }
        }
    }
}

impl Reporter for Human {
    fn entry(&mut self, entry: &Entry) {
        self.story.take(entry);
        let ended = matches!(entry.event, Event::Summary { .. });
        if ended && let Some(live) = self.live.take() {
            live.bar.finish_and_clear();
        }
        if let Some(live) = &mut self.live {
            live.anchor = (real_now(), self.story.last);
            // A printed line draws the view again below it: it must not show what was before.
            live.bar
                .set_message(view(&self.story, self.story.last, self.palette));
        }
        for line in self.tell(entry) {
            self.print(&line);
        }
    }

    fn tick(&mut self) {
        let Some(live) = &self.live else { return };
        let (then, last) = live.anchor;
        let now = last + (real_now() - then).mul_f64(self.story.speed);
        live.bar.set_message(view(&self.story, now, self.palette));
        live.bar.tick();
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            live.bar.finish_and_clear();
        }
    }
}

impl Live {
    fn new() -> Live {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout_with_hz(12));
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
        }
        Live {
            bar,
            anchor: (real_now(), real_now()),
        }
    }
}

/// The live view: one line, two while traffic is divided between versions.
fn view(story: &Story, now: rollout::Timestamp, palette: Palette) -> String {
    let elapsed = story.elapsed(now);
    let mut parts = vec![palette.strong(&story.phase), clock(elapsed)];
    if let Some(end) = story.planned_end() {
        let left = end - now;
        if left > Duration::ZERO {
            let here = if story.speed > 1.0 {
                format!(" ({})", seconds(story.real(left)))
            } else {
                String::new()
            };
            parts.push(format!("{} to go{here}", clock(left)));
        }
    }
    let (recent, period) = &story.recent;
    if *period > 0 {
        for (group, counts) in recent.iter().filter(|(_, counts)| !counts.is_empty()) {
            parts.push(rate(story, group, counts, *period, palette));
        }
    }
    let mut text = parts.join(&palette.faint(" · "));
    if let Some(green) = story.green {
        text.push_str("\n  ");
        text.push_str(&division(story, 100 - green, green, palette));
    }
    text
}

/// `2.0.0 20/s, 16/s failing`, in requests a real second.
#[expect(clippy::cast_precision_loss, reason = "for showing")]
fn rate(
    story: &Story,
    group: &str,
    counts: &RequestCounts,
    period: u64,
    palette: Palette,
) -> String {
    let per_second = |count: u64| count as f64 * story.speed.max(1.0) / period as f64;
    let name = story.name_of_group(group);
    let rate = format!("{name} {:.0}/s", per_second(counts.total()));
    if counts.lost() == 0 {
        return rate;
    }
    let failing = format!("{:.0}/s lost", per_second(counts.lost()));
    format!("{rate}, {}", palette.bad(&failing))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
