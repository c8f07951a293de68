//! The real program against a real PostgreSQL.
//!
//! What is tested is the version that the features chose; `--no-default-features --features v1_0_0`
//! (or `v2_0_0`) tests another. Only `messages.rs` expects anything different of them.

#![expect(clippy::unwrap_used, reason = "tests")]

mod configuration;
mod connections;
mod messages;
mod migrations;
mod outages;
mod readiness;
mod requests;
mod shutdown;
mod support;
