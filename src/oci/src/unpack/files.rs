//! Calls on one directory by its handle: nothing here takes a path.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::tree::{Directories, Identity};

pub(super) fn times(mtime: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

pub(super) fn identity(file: impl AsFd) -> Result<Identity, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

pub(super) fn exists(directory: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// A child directory, not through a link.
pub(super) fn open_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

pub(super) fn open_readable(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The names in a directory that was opened for reading.
pub(super) fn children(
    directory: &OwnedFd,
    only_directories: bool,
) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let name = OsStr::from_bytes(name).to_owned();
        let is_directory = || {
            rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        };
        if !only_directories || is_directory() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes what a name stands for, with all that is in it; nothing there is no error. Directories that
/// are gone are no longer among those that this unpacking made: their inodes may be used again.
pub(super) fn remove(
    known: &mut Directories,
    parent: impl AsFd,
    name: &OsStr,
) -> Result<(), Errno> {
    match rustix::fs::unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux answers EISDIR, POSIX allows EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let directory = open_readable(&parent, name)?;
    clear_readable(known, &directory)?;
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    known.remove(&identity(&directory)?);
    Ok(())
}

/// Removes everything in a directory.
pub(super) fn clear(known: &mut Directories, directory: &OwnedFd) -> Result<(), Errno> {
    clear_readable(known, &open_readable(directory, OsStr::new("."))?)
}

fn clear_readable(known: &mut Directories, directory: &OwnedFd) -> Result<(), Errno> {
    for name in children(directory, false)? {
        remove(known, directory, &name)?;
    }
    Ok(())
}

/// Directories without permissions cannot be removed by their owner; the temporary tree must be.
pub(super) fn make_removable(root: &Path) {
    fn walk(directory: BorrowedFd<'_>) {
        let _ = rustix::fs::fchmod(directory, Mode::from_raw_mode(0o700));
        let Ok(owned) = directory.try_clone_to_owned() else {
            return;
        };
        for name in children(&owned, true).unwrap_or_default() {
            if let Ok(child) = open_readable(directory, &name) {
                walk(child.as_fd());
            }
        }
    }
    if let Ok(root) = File::open(root) {
        walk(root.as_fd());
    }
}
