//! oci
fn main() {}
