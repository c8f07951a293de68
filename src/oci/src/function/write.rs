//! Writing a package: the same program gives the same bytes.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{BOOTSTRAP, CENTRAL, DEFLATED, END, FunctionError, LARGEST, LOCAL, S_IFREG};
use crate::{Digest, beside, elf};

/// What a reader must be able to do: version 2.0 of the format, for deflate.
const VERSION: u16 = 20;
/// Made by the same version on Unix: the upper half of the attributes is a mode.
const MADE_BY: u16 = 3 << 8 | VERSION;
/// 1980-01-01, the first day that the format can say, at midnight.
const DATE: u16 = 1 << 5 | 1;
const TIME: u16 = 0;

/// Packs a program as the function's `bootstrap` into `out`, which appears whole or not at all.
/// Answers the digest of the package.
///
/// The program is an executable that needs no other file, or a script.
pub fn write(program: &Path, out: &Path) -> Result<Digest, FunctionError> {
    let unreadable = |source| FunctionError::Read {
        path: program.to_owned(),
        source,
    };
    let content = fs::read(program).map_err(unreadable)?;
    match elf::look(program).map_err(unreadable)? {
        Some(elf::Executable {
            loader: Some(loader),
            ..
        }) => {
            return Err(FunctionError::Dynamic {
                path: program.to_owned(),
                loader,
            });
        }
        None if !content.starts_with(b"#!") => {
            return Err(FunctionError::NotAProgram {
                path: program.to_owned(),
            });
        }
        _ => {}
    }
    let too_large = || FunctionError::TooLarge {
        path: program.to_owned(),
    };
    if content.len() as u64 > LARGEST {
        return Err(too_large());
    }
    let package = archive(&content).ok_or_else(too_large)?;
    save(&package, out).map_err(|source| FunctionError::Write {
        path: out.to_owned(),
        source,
    })?;
    Ok(Digest::of(&package))
}

/// The archive; nothing where a size does not fit into the format.
fn archive(content: &[u8]) -> Option<Vec<u8>> {
    let mut crc = Crc::new();
    crc.update(content);
    let deflated = deflate(content);
    let name = BOOTSTRAP.as_bytes();

    // What the local and the central header have in common, from the flags on.
    let mut common = Vec::new();
    for half in [0, DEFLATED, TIME, DATE] {
        common.extend_from_slice(&half.to_le_bytes());
    }
    for word in [crc.sum(), size(&deflated)?, size(content)?] {
        common.extend_from_slice(&word.to_le_bytes());
    }
    common.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
    common.extend_from_slice(&0_u16.to_le_bytes()); // no extra field

    let mut out = Vec::with_capacity(deflated.len() + 256);
    out.extend_from_slice(&LOCAL.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&common);
    out.extend_from_slice(name);
    out.extend_from_slice(&deflated);

    let directory = size(&out)?;
    out.extend_from_slice(&CENTRAL.to_le_bytes());
    out.extend_from_slice(&MADE_BY.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&common);
    // No comment, the first disk, a binary file.
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&((S_IFREG | 0o755) << 16).to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes()); // where its local header is
    out.extend_from_slice(name);

    let length = size(&out)? - directory;
    out.extend_from_slice(&END.to_le_bytes());
    // Disks: this one, and that of the directory. Entries: here, and in all.
    for half in [0_u16, 0, 1, 1] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&directory.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes()); // no comment
    Some(out)
}

fn size(bytes: &[u8]) -> Option<u32> {
    u32::try_from(bytes.len()).ok()
}

/// The whole content in one call, so that the output depends on nothing but it. A package is loaded by
/// each cold start and written once: the best level.
fn deflate(content: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut out = Vec::with_capacity(content.len() / 2 + 1024);
    loop {
        let done = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let rest = content.get(done..).unwrap_or_default();
        // It fails for a preset dictionary only, and there is none.
        let status = compress.compress_vec(rest, &mut out, FlushCompress::Finish);
        if !matches!(status, Ok(Status::Ok | Status::BufError)) {
            return out;
        }
        out.reserve(out.capacity().max(64 * 1024));
    }
}

/// Writes beside the destination, and renames.
fn save(package: &[u8], out: &Path) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(beside::parent(out))?;
    file.write_all(package)?;
    fs::set_permissions(file.path(), Permissions::from_mode(0o644))?;
    file.persist(out).map_err(|error| error.error)?;
    Ok(())
}
