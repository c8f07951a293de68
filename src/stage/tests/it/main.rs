//! The stage's integration tests, in one binary.
#![expect(clippy::unwrap_used, reason = "tests")]

mod postgres;
mod runtime;
mod support;
