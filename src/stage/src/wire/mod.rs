//! The door: one loopback port, AWS JSON 1.1, signatures, errors.
