//! A task's output: one file a task, line by line, as the `awslogs` driver keeps one stream a
//! container.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{io::AsyncReadExt as _, net::unix::pipe};

/// A longer line is cut into lines of this many bytes, as Docker does.
const LONGEST_LINE: usize = 16 * 1024;
/// So many lines are kept for messages.
const KEPT_LINES: usize = 50;
/// And so many bytes of each.
const KEPT_BYTES: usize = 1024;

/// The last lines of an output.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    /// At most `lines` last lines, oldest first.
    pub fn last(&self, lines: usize) -> Vec<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .skip(kept.len().saturating_sub(lines))
            .cloned()
            .collect()
    }

    fn push(&self, line: &[u8]) {
        let line = &line[..line.len().min(KEPT_BYTES)];
        let line = String::from_utf8_lossy(line).trim_end().to_owned();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

/// Opens a log to append to; nobody else may read it.
pub fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::options()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Copies lines from a pipe to a file until the last writer is gone.
pub async fn pump(mut from: pipe::Receiver, to: File, timestamps: bool, tail: Tail) {
    let mut lines = Lines {
        to,
        timestamps,
        tail,
        broken: false,
    };
    let mut buffer = Vec::with_capacity(2 * LONGEST_LINE);
    loop {
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let whole = lines.write_whole(&buffer);
        buffer.drain(..whole);
    }
    if !buffer.is_empty() {
        lines.write(&buffer);
    }
}

struct Lines {
    to: File,
    timestamps: bool,
    tail: Tail,
    broken: bool,
}

impl Lines {
    /// Writes the whole lines in a buffer; returns how many bytes they are.
    fn write_whole(&mut self, buffer: &[u8]) -> usize {
        let mut done = 0;
        loop {
            let rest = &buffer[done..];
            let length = match rest.iter().position(|&byte| byte == b'\n') {
                Some(end) => (end + 1).min(LONGEST_LINE),
                None if rest.len() >= LONGEST_LINE => LONGEST_LINE,
                None => return done,
            };
            self.write(&rest[..length]);
            done += length;
        }
    }

    fn write(&mut self, line: &[u8]) {
        self.tail.push(line);
        let mut out = Vec::with_capacity(line.len() + 32);
        if self.timestamps {
            out.extend_from_slice(format!("{:.3} ", jiff::Timestamp::now()).as_bytes());
        }
        out.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            out.push(b'\n');
        }
        // A full disk must not end the task, and is said once.
        if let Err(error) = self.to.write_all(&out)
            && !std::mem::replace(&mut self.broken, true)
        {
            tracing::warn!(%error, "cannot write the log of a task; its output is lost");
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn lines(chunks: &[&[u8]], timestamps: bool) -> (String, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tail = Tail::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut sender, receiver) = pipe::pipe().unwrap();
            let to = open(file.path()).unwrap();
            let pump = tokio::spawn(pump(receiver, to, timestamps, tail.clone()));
            for chunk in chunks {
                tokio::io::AsyncWriteExt::write_all(&mut sender, chunk)
                    .await
                    .unwrap();
            }
            drop(sender);
            pump.await.unwrap();
        });
        (
            std::fs::read_to_string(file.path()).unwrap(),
            tail.last(KEPT_LINES),
        )
    }

    #[test]
    fn lines_are_kept_whole_and_the_last_needs_no_newline() {
        let (text, tail) = lines(&[b"on", b"e\ntwo\n", b"three"], false);
        assert_eq!(text, "one\ntwo\nthree\n");
        assert_eq!(tail, ["one", "two", "three"]);
    }

    #[test]
    fn each_line_can_start_with_the_time() {
        let (text, _) = lines(&[b"one\ntwo\n"], true);
        for line in text.lines() {
            let (time, word) = line.split_once(' ').unwrap();
            time.parse::<jiff::Timestamp>().unwrap();
            assert_eq!(time.len(), "2026-01-01T00:00:00.000Z".len(), "{time}");
            assert!(["one", "two"].contains(&word));
        }
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let long = vec![b'x'; LONGEST_LINE + 10];
        let (text, tail) = lines(&[&long, b"\nnext\n"], false);
        let lengths: Vec<_> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, 10, 4]);
        assert_eq!(tail[0].len(), KEPT_BYTES);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let many: Vec<String> = (0..200).map(|n| n.to_string()).collect();
        let (_, tail) = lines(&[many.join("\n").as_bytes()], false);
        assert_eq!(tail.len(), KEPT_LINES);
        assert_eq!(tail.last().map(String::as_str), Some("199"));
    }
}
