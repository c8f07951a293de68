//! Integration tests of the crate `oci`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bundle;
mod cli;
mod consumers;
mod corrupt;
mod deterministic;
mod hostile;
mod property;
#[cfg(feature = "push")]
mod push;
mod round_trip;
mod support;
mod unpacked;
