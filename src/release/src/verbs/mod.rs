//! One file a verb: its arguments, and a `run` that reads as the steps of the job.

pub mod deploy;
pub mod help;
pub mod plan;
pub mod render;
pub mod simulate;
pub mod stage;

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

/// The runtime of the verbs that talk to the world; the others start none.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Stage(format!("no threads: {error}")))
}
