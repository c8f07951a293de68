//! Generated traffic.
