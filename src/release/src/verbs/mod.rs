//! One file a verb: its arguments, and a `run` that reads as the steps of the job.

pub mod deploy;
pub mod help;
pub mod render;

use std::io::Write as _;
use std::path::Path;

use crate::error::Error;

/// Writes to standard output; a reader that went away is no error.
pub fn print(text: &str) -> Result<(), Error> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io("write to", Path::new("standard output"))(error))
        }
        _ => Ok(()),
    }
}
