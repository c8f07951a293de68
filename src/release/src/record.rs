//! The record: every event of one release, one JSON object a line.
//!
//! It is written while things happen, so a run that is killed leaves a record up to that moment,
//! and `tail -f` shows what a colleague's deployment is doing.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use rollout::event::Entry;

use crate::announce::Reporter;
use crate::error::Error;

/// Writes the record of one run.
#[derive(Debug)]
pub struct Recorder {
    file: BufWriter<File>,
}

impl Recorder {
    /// Creates the file and the directories above it.
    pub fn create(path: &Path) -> Result<Recorder, Error> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create the directory", parent))?;
        }
        let file = File::create(path).map_err(Error::io("write the record", path))?;
        Ok(Recorder {
            file: BufWriter::new(file),
        })
    }
}

impl Reporter for Recorder {
    fn entry(&mut self, entry: &Entry) {
        // A full disk must not end a deployment; the missing line shows in the record's end.
        let _ = self.file.write_all(line(entry).as_bytes());
    }

    fn tick(&mut self) {
        let _ = self.file.flush();
    }

    fn flush(&mut self) {
        let _ = self.file.flush();
    }
}

/// One entry as a line.
pub fn line(entry: &Entry) -> String {
    let mut line = serde_json::to_string(entry).unwrap_or_default();
    line.push('\n');
    line
}

/// Where the record of a release goes without `--record`: `.serein/records/` below the current
/// directory, or below the nearest directory above it that has a `.serein`.
pub fn default_path(version: &str) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let above = here.ancestors().skip(1).map(|dir| dir.join(".serein"));
    let home = std::iter::once_with(|| PathBuf::from(".serein"))
        .chain(above)
        .find(|path| path.is_dir())
        .unwrap_or_else(|| PathBuf::from(".serein"));
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S");
    home.join("records")
        .join(format!("{now}-{version}-{}.jsonl", std::process::id()))
}
