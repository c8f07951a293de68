//! What the header of an executable says: whether it can run in an image that holds nothing else.
//!
//! A dynamically linked program in an image without a loader fails at its start with "no such file or
//! directory", about a file that is plainly there. Better to say so when the image is made.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is of interest in an executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Go's name of the architecture, if it is one that ECS runs.
    pub architecture: Option<&'static str>,
    /// The loader that a dynamically linked program asks for.
    pub loader: Option<String>,
}

/// Looks at the file; nothing if it is not a 64-bit little-endian ELF file.
pub fn look(path: &Path) -> io::Result<Option<Executable>> {
    let file = File::open(path)?;
    let mut header = [0; 64];
    if file.read_at(&mut header, 0)? < header.len() || header[..6] != *b"\x7fELF\x02\x01" {
        return Ok(None);
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let architecture = match half(18) {
        62 => Some("amd64"),
        183 => Some("arm64"),
        _ => None,
    };
    let (table, size, count) = (
        word(&header[32..]),
        u64::from(half(54)),
        u64::from(half(56)),
    );
    let mut loader = None;
    for index in 0..count {
        let mut program = [0; 56];
        let at = index
            .checked_mul(size)
            .and_then(|offset| table.checked_add(offset));
        let Some(at) = at else { break };
        if file.read_at(&mut program, at)? < program.len() {
            break;
        }
        // PT_INTERP
        if program[..4] == 3_u32.to_le_bytes() {
            let mut name = vec![0; usize::try_from(word(&program[32..]).min(4096)).unwrap_or(0)];
            let read = file.read_at(&mut name, word(&program[8..]))?;
            name.truncate(read);
            loader = Some(
                String::from_utf8_lossy(&name)
                    .trim_end_matches('\0')
                    .to_owned(),
            );
        }
    }
    Ok(Some(Executable {
        architecture,
        loader,
    }))
}

fn word(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take(8)
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}
