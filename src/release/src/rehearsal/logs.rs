//! The logs of a stage's tasks: plain files below the stage's directory.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How much of a log's end is read.
const WINDOW: u64 = 64 * 1024;

/// The last lines that a task's containers wrote; nothing, if there is no log. The names of the
/// files carry the first eight characters of the task's id.
pub fn tail(stage: &Path, task: &str, lines: usize) -> Vec<String> {
    let task = task.get(..8).unwrap_or(task);
    if task.is_empty() {
        return Vec::new();
    }
    let mut all: Vec<String> = files(&stage.join("logs"), task)
        .iter()
        .flat_map(|path| end_of(path))
        .collect();
    all.split_off(all.len().saturating_sub(lines))
}

/// Files below `directory` that belong to the task: its id is in their path.
fn files(directory: &Path, task: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let of_the_task = entry.file_name().to_string_lossy().contains(task);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && of_the_task => {
                let inner = std::fs::read_dir(&path).into_iter().flatten();
                found.extend(inner.filter_map(Result::ok).map(|entry| entry.path()));
            }
            Ok(kind) if kind.is_dir() => found.extend(files(&path, task)),
            Ok(kind) if kind.is_file() && of_the_task => found.push(path),
            _ => {}
        }
    }
    found.sort();
    found
}

/// The last lines of one file; nothing, if it cannot be read.
pub fn end_of(path: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(WINDOW)))?;
        let mut bytes = Vec::new();
        file.take(WINDOW).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_end_of_a_tasks_log() {
        let stage = tempfile::tempdir().unwrap();
        let logs = stage.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        std::fs::write(logs.join("demo-1-abcdef01-app.log"), "one\ntwo\nthree\n").unwrap();
        std::fs::write(logs.join("demo-1-deadbeef-app.log"), "other\n").unwrap();
        assert_eq!(tail(stage.path(), "abcdef0123456789", 2), ["two", "three"]);
        assert_eq!(tail(stage.path(), "nobody", 2), Vec::<String>::new());
        assert_eq!(tail(stage.path(), "", 2), Vec::<String>::new());
    }
}
