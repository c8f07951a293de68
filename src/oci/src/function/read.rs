//! Unpacking a package, anybody's.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{
    BOOTSTRAP, CENTRAL, DEFLATED, END, FunctionError, LARGEST, LOCAL, S_IFMT, S_IFREG, STORED,
};

/// The record at the end, and the longest comment after it.
const END_LENGTH: usize = 22;
const LONGEST_COMMENT: usize = 65_535;
/// A central header without its names.
const CENTRAL_LENGTH: usize = 46;
/// A local header without its names.
const LOCAL_LENGTH: usize = 30;

/// One file or directory of a package.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Relative, and nowhere but below the root.
    path: PathBuf,
    is_directory: bool,
    /// Permission bits.
    mode: u32,
    method: u16,
    crc: u32,
    packed: u32,
    unpacked: u32,
    offset: u32,
}

/// Lays out a package's files in `dir`, which is made. There is a [`BOOTSTRAP`] among them that can be
/// executed.
pub fn unpack(package: &Path, dir: &Path) -> Result<(), FunctionError> {
    let damaged = |problem: String| FunctionError::Damaged {
        path: package.to_owned(),
        problem,
    };
    let unreadable = |source| FunctionError::Read {
        path: package.to_owned(),
        source,
    };
    let metadata = fs::metadata(package).map_err(unreadable)?;
    // Stored, it cannot be larger than what it holds and a little.
    if metadata.len() > 2 * LARGEST {
        return Err(FunctionError::TooLarge {
            path: package.to_owned(),
        });
    }
    let bytes = fs::read(package).map_err(unreadable)?;
    let entries = entries(&bytes).map_err(damaged)?;
    let all: u64 = entries.iter().map(|entry| u64::from(entry.unpacked)).sum();
    if all > LARGEST {
        return Err(FunctionError::TooLarge {
            path: package.to_owned(),
        });
    }
    let program = entries
        .iter()
        .find(|entry| entry.path == Path::new(BOOTSTRAP) && !entry.is_directory);
    match program {
        None => return Err(damaged(format!("it has no {BOOTSTRAP} at its root"))),
        Some(program) if program.mode & 0o111 == 0 => {
            return Err(damaged(format!(
                "its {BOOTSTRAP} is not executable: pack it with mode 0755"
            )));
        }
        Some(_) => {}
    }
    make_directory(dir)?;
    for entry in &entries {
        let path = dir.join(&entry.path);
        if entry.is_directory {
            make_directory(&path)?;
            continue;
        }
        if let Some(parent) = path.parent() {
            make_directory(parent)?;
        }
        let content = content(&bytes, entry)
            .map_err(|problem| damaged(format!("{}: {problem}", entry.path.display())))?;
        save(&path, &content, entry.mode).map_err(|source| FunctionError::Write {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), FunctionError> {
    fs::create_dir_all(path).map_err(|source| FunctionError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Never over something that is there: an archive that names a file twice is refused here.
fn save(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.set_permissions(Permissions::from_mode(0o600 | mode & 0o755))
}

/// What the central directory lists.
fn entries(bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let end = end(bytes).ok_or("it has no end of a zip archive")?;
    let record = &bytes[end..];
    let (count, directory) = (half(record, 10), word(record, 16));
    let first = usize::try_from(directory).unwrap_or(usize::MAX);
    if half(record, 4) != 0 || half(record, 8) != count {
        return Err("it is one of several parts".to_owned());
    }
    if count == u16::MAX || directory == u32::MAX {
        return Err("it is in the format zip64".to_owned());
    }
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut at = first;
    for _ in 0..count {
        let header = bytes
            .get(at..end)
            .filter(|header| header.len() >= CENTRAL_LENGTH && word(header, 0) == CENTRAL)
            .ok_or("its directory is damaged")?;
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(half(header, at)));
        let raw = header
            .get(CENTRAL_LENGTH..CENTRAL_LENGTH + name)
            .ok_or("its directory is damaged")?;
        entries.push(entry(header, raw)?);
        at += CENTRAL_LENGTH + name + extra + comment;
    }
    Ok(entries)
}

/// Where the record at the end begins.
fn end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_LENGTH)?;
    let first = last.saturating_sub(LONGEST_COMMENT);
    (first..=last).rev().find(|at| {
        let record = &bytes[*at..];
        word(record, 0) == END && usize::from(half(record, 20)) == record.len() - END_LENGTH
    })
}

fn entry(header: &[u8], name: &[u8]) -> Result<Entry, String> {
    let shown = String::from_utf8_lossy(name).into_owned();
    let text = std::str::from_utf8(name)
        .ok()
        .filter(|text| !text.contains(['\\', '\0']) && !text.is_empty())
        .ok_or_else(|| format!("{shown:?} is not a file's name"))?;
    let path = PathBuf::from(text);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(format!("{shown:?} leads outside"));
    }
    if half(header, 8) & 1 != 0 {
        return Err(format!("{shown:?} is encrypted"));
    }
    let method = half(header, 10);
    if method != STORED && method != DEFLATED {
        return Err(format!(
            "{shown:?} is compressed by method {method}; use deflate"
        ));
    }
    let [crc, packed, unpacked] = [16, 20, 24].map(|at| word(header, at));
    let offset = word(header, 42);
    if [packed, unpacked, offset].contains(&u32::MAX) {
        return Err(format!("{shown:?} is in the format zip64"));
    }
    // Only Unix (3) and macOS (19) say a mode.
    let unix = matches!(header[5], 3 | 19);
    let attributes = word(header, 38) >> 16;
    let is_directory = text.ends_with('/');
    if unix && !is_directory && ![0, S_IFREG].contains(&(attributes & S_IFMT)) {
        return Err(format!("{shown:?} is neither a file nor a directory"));
    }
    let mode = match attributes & 0o777 {
        0 => 0o644,
        mode if unix => mode,
        _ => 0o644,
    };
    Ok(Entry {
        path: path.components().collect(),
        is_directory,
        mode,
        method,
        crc,
        packed,
        unpacked,
        offset,
    })
}

/// The content of one entry, whose size and checksum are those that were announced.
fn content(bytes: &[u8], entry: &Entry) -> Result<Vec<u8>, String> {
    let damaged = || "its header is damaged".to_owned();
    let offset = usize::try_from(entry.offset).map_err(|_| damaged())?;
    let header = bytes
        .get(offset..)
        .filter(|header| header.len() >= LOCAL_LENGTH && word(header, 0) == LOCAL)
        .ok_or_else(damaged)?;
    let begin = LOCAL_LENGTH + usize::from(half(header, 26)) + usize::from(half(header, 28));
    let length = usize::try_from(entry.packed).map_err(|_| damaged())?;
    let packed = header.get(begin..begin + length).ok_or_else(damaged)?;
    let size = usize::try_from(entry.unpacked).map_err(|_| damaged())?;
    let content = match entry.method {
        STORED => packed.to_vec(),
        _ => inflate(packed, size).ok_or("it cannot be decompressed")?,
    };
    let mut crc = Crc::new();
    crc.update(&content);
    if content.len() != size || crc.sum() != entry.crc {
        return Err("its size or checksum is another than the directory says".to_owned());
    }
    Ok(content)
}

/// Exactly `size` bytes, or nothing.
fn inflate(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut decompress = Decompress::new(false);
    // One more, to see when there is more.
    let mut out = Vec::with_capacity(size + 1);
    let status = decompress.decompress_vec(packed, &mut out, FlushDecompress::Finish);
    (matches!(status, Ok(Status::StreamEnd)) && out.len() == size).then_some(out)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
