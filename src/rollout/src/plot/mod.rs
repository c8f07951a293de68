//! Pictures of a release: SVG as strings, for reports and pages.
//!
//! Four of them: the [`evidence`] for and against green over time, the error [`rates`] that it
//! comes from, the [`blast_radius`] of a bad version under each strategy, and the [`trade_off`]
//! between that and the time a good version waits. Each is a pure function of its data and gives
//! the same bytes for the same data; each is readable on light and on dark ground, brings its
//! title and a description for those who cannot see it, and needs no script and no font.

mod blast;
mod evidence;
mod history;
mod rates;
mod svg;
mod trade_off;

pub use blast::blast_radius;
pub use evidence::{Evidence, Marked, Moment, evidence};
pub use history::History;
pub use rates::{Rates, Served, rates};
pub use trade_off::trade_off;
