//! Integration tests of the crate `oci`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod round_trip;
