//! Showing a release to people and to programs.
//!
//! A reporter sees events and nothing else: what it prints can be printed again from the record.
//! [`Story`] keeps what a line needs to know of the lines before it; [`lines`] turns one event into
//! at most one line; [`summary`] is the block at the end. On a terminal the lines scroll above a
//! live view ([`live`]), elsewhere they are all there is.

mod json;
mod lines;
mod live;
mod palette;
mod story;
mod summary;

use std::io::IsTerminal as _;

pub use json::Json;
pub use lines::plan;
pub use live::Human;
use palette::Palette;
pub use story::clock;

use crate::announce::Reporter;

/// Blue's and green's share of the traffic as a bar.
pub fn bar(green: u8) -> String {
    lines::bar(green, Palette::of_stdout())
}

/// How a release is shown on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people: progress on a terminal, aligned lines elsewhere.
    #[default]
    Human,
    /// One event a line, as in the record, and nothing else.
    Json,
}

/// The reporter for standard output.
pub fn reporter(format: Format) -> Box<dyn Reporter> {
    reporter_at(format, 1.0)
}

/// The same where no record is opened that would tell the speed.
pub fn reporter_at(format: Format, speed: f64) -> Box<dyn Reporter> {
    match format {
        Format::Human => Box::new(Human::new(
            speed,
            std::io::stdout().is_terminal() && console::Term::stdout().features().is_attended(),
        )),
        Format::Json => Box::new(Json),
    }
}
