//! The real program on real bundles: rehearsals, releases to a stage of another process, bad input
//! and faults.
//!
//! Bundles are those of `$SEREIN_BUNDLES`, else of `.serein/bundles` upwards from this crate. Every
//! rehearsal has a stage of its own, with a real database and real containers, so the tests are
//! few and long rather than many and short; `.config/nextest.toml` runs two of them at a time.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod faults;
mod foreign;
mod green;
mod guarded;
mod judge;
mod rehearsals;
mod simulate;
mod support;
