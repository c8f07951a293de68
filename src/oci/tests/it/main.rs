//! Integration tests of the crate `oci`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod corrupt;
mod deterministic;
mod hostile;
mod property;
mod round_trip;
mod support;
mod unpacked;
