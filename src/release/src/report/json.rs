//! One event a line, for programs.

use std::io::Write as _;

use rollout::event::Entry;

use crate::announce::Reporter;
use crate::record;

/// Writes every entry to standard output as it stands in the record.
#[derive(Debug)]
pub struct Json;

impl Reporter for Json {
    fn entry(&mut self, entry: &Entry) {
        // A reader that went away does not end a deployment.
        let _ = std::io::stdout()
            .lock()
            .write_all(record::line(entry).as_bytes());
    }
}
