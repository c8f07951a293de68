//! The tree that is built: directories are resolved by the kernel and looked up among those made here.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::files::{
    children, clear, exists, identity, open_directory, open_readable, remove, times,
};
use super::names::{Checked, OPAQUE, WHITEOUT, components};
use super::{Limits, Refusal, UnpackError, Unpacked};
use crate::archive::{Archive, LayerReader, layer_failed};
use crate::tarball::{Entry, Kind, Reader, TarError};

/// How often a resolution is tried that a rename elsewhere on the machine disturbed.
const ATTEMPTS: u32 = 1000;

/// Device and inode: which file it is, whatever path led to it.
pub(super) type Identity = (u64, u64);

/// The directories that this unpacking made.
pub(super) type Directories = HashMap<Identity, Directory>;

/// What is known of one of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    depth: u32,
    /// What it gets in the end: until then it must be writable.
    mode: u32,
    owner: (u32, u32),
    mtime: u64,
}

struct Tree<'a> {
    root: OwnedFd,
    directories: Directories,
    /// Whether owners are taken over.
    owners: bool,
    limits: &'a Limits,
    unpacked: Unpacked,
}

pub(super) fn build(
    archive: &Archive,
    root: &Path,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    let failed = |error: Errno| UnpackError::Destination {
        path: root.to_owned(),
        reason: error.to_string(),
    };
    let root = rustix::fs::open(
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    let id = identity(&root).map_err(failed)?;
    let mut tree = Tree {
        root,
        directories: HashMap::from([(
            id,
            Directory {
                depth: 0,
                mode: 0o755,
                owner: (0, 0),
                mtime: 1,
            },
        )]),
        owners: rustix::process::geteuid().is_root(),
        limits,
        unpacked: Unpacked::default(),
    };
    for index in 0..archive.layers().len() {
        let bytes = tree.check_layer(archive, index)?;
        tree.write_layer(archive, index)?;
        tree.unpacked.bytes += bytes;
    }
    tree.finish()?;
    Ok(tree.unpacked)
}

impl Tree<'_> {
    /// Reads a layer to its end, checks every entry and both digests, then applies the whiteouts.
    /// Answers its bytes before compression.
    fn check_layer(&mut self, archive: &Archive, index: usize) -> Result<u64, UnpackError> {
        let layer = index + 1;
        let mut tar = Reader::new(archive.layer(index, self.unpacked.bytes, self.limits.bytes)?);
        let mut whiteouts = Vec::new();
        while let Some(entry) = next(&mut tar, archive, index)? {
            self.unpacked.entries += 1;
            if self.unpacked.entries > self.limits.entries {
                return Err(UnpackError::Limit {
                    layer,
                    what: "entries",
                    limit: self.limits.entries,
                });
            }
            if Checked::new(layer, &entry)?.is_whiteout() {
                whiteouts.push(entry);
            }
        }
        let bytes = archive.finish_layer(index, tar.into_source())?;
        for entry in &whiteouts {
            self.white_out(&Checked::new(layer, entry)?)?;
        }
        Ok(bytes)
    }

    /// Writes the entries of a layer that was checked.
    fn write_layer(&mut self, archive: &Archive, index: usize) -> Result<(), UnpackError> {
        let mut tar = Reader::new(archive.layer(index, self.unpacked.bytes, self.limits.bytes)?);
        while let Some(entry) = next(&mut tar, archive, index)? {
            let checked = Checked::new(index + 1, &entry)?;
            if !checked.is_whiteout() {
                self.write(&checked, &mut tar)?;
            }
        }
        archive.finish_layer(index, tar.into_source())?;
        Ok(())
    }

    fn write(
        &mut self,
        checked: &Checked<'_>,
        content: &mut Reader<LayerReader<'_>>,
    ) -> Result<(), UnpackError> {
        let entry = checked.entry;
        let Some((last, lead)) = checked.components.split_last() else {
            return self.describe_directory(
                checked,
                &self
                    .root
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(|e| self.io(checked, e))?,
            );
        };
        let (parent, depth) = self.parent(checked, lead)?;
        let name = OsStr::from_bytes(last);
        if entry.kind == Kind::Directory {
            return self.directory(checked, &parent, depth, name);
        }
        // The target is looked up first: replacing the link's own name could remove it.
        let target = match entry.kind {
            Kind::HardLink => Some(self.hard_link_target(checked)?),
            _ => None,
        };
        remove(&mut self.directories, &parent, name).map_err(checked.failed("replace"))?;
        match (entry.kind, target) {
            (Kind::File, _) => self.file(checked, &parent, name, content),
            (Kind::Symlink, _) => {
                let create = checked.failed("create the symbolic link");
                rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &parent, name)
                    .map_err(create)?;
                if self.owners {
                    let (uid, gid) = owner(entry);
                    rustix::fs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(checked.failed("set the owner of"))?;
                }
                rustix::fs::utimensat(
                    &parent,
                    name,
                    &times(entry.mtime),
                    AtFlags::SYMLINK_NOFOLLOW,
                )
                .map_err(checked.failed("set the time of"))
            }
            (_, Some((directory, target))) => {
                let create = checked.failed("create the hard link");
                rustix::fs::linkat(&directory, target, &parent, name, AtFlags::empty())
                    .map_err(create)
            }
            _ => Err(checked.refuse(Refusal::Device)),
        }
    }

    fn file(
        &mut self,
        checked: &Checked<'_>,
        parent: &OwnedFd,
        name: &OsStr,
        content: &mut Reader<LayerReader<'_>>,
    ) -> Result<(), UnpackError> {
        let entry = checked.entry;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(checked.failed("create"))?;
        let mut file = File::from(file);
        io::copy(content, &mut file).map_err(|e| self.io(checked, e))?;
        if self.owners {
            let (uid, gid) = owner(entry);
            rustix::fs::fchown(&file, uid, gid).map_err(checked.failed("set the owner of"))?;
        }
        if entry.mode & 0o6000 != 0 {
            self.unpacked.privileges_dropped += 1;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o777))
            .map_err(checked.failed("set the mode of"))?;
        rustix::fs::futimens(&file, &times(entry.mtime)).map_err(checked.failed("set the time of"))
    }

    /// A directory entry: an existing directory is kept and described anew, anything else is replaced.
    fn directory(
        &mut self,
        checked: &Checked<'_>,
        parent: &OwnedFd,
        depth: u32,
        name: &OsStr,
    ) -> Result<(), UnpackError> {
        let directory = match open_directory(parent, name) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                remove(&mut self.directories, parent, name).map_err(checked.failed("replace"))?;
                self.make_directory(checked, parent, depth, name)?
            }
            Err(e) => return Err(checked.failed("open the directory")(e)),
        };
        self.describe_directory(checked, &directory)
    }

    /// Remembers what a directory's entry says; it is applied when the tree is finished.
    fn describe_directory(
        &mut self,
        checked: &Checked<'_>,
        directory: &OwnedFd,
    ) -> Result<(), UnpackError> {
        let id = identity(directory).map_err(checked.failed("look at"))?;
        let known = self
            .directories
            .get_mut(&id)
            .ok_or_else(|| checked.refuse(Refusal::ForeignDirectory))?;
        let entry = checked.entry;
        if entry.mode & 0o6000 != 0 {
            self.unpacked.privileges_dropped += 1;
        }
        *known = Directory {
            mode: entry.mode & 0o1777,
            owner: (entry.uid, entry.gid),
            mtime: entry.mtime,
            ..*known
        };
        Ok(())
    }

    fn make_directory(
        &mut self,
        checked: &Checked<'_>,
        parent: &OwnedFd,
        depth: u32,
        name: &OsStr,
    ) -> Result<OwnedFd, UnpackError> {
        if depth >= self.limits.depth {
            let limit = self.limits.depth.into();
            return Err(UnpackError::Limit {
                layer: checked.layer,
                what: "directories inside one another",
                limit,
            });
        }
        let make = checked.failed("make the directory");
        let private = Mode::from_raw_mode(0o700);
        rustix::fs::mkdirat(parent, name, private).map_err(&make)?;
        // Whatever the umask, its maker must be able to write to it.
        rustix::fs::chmodat(parent, name, private, AtFlags::empty()).map_err(&make)?;
        let directory = open_directory(parent, name).map_err(&make)?;
        let id = identity(&directory).map_err(&make)?;
        self.directories.insert(
            id,
            Directory {
                depth: depth + 1,
                mode: 0o755,
                owner: (0, 0),
                mtime: 1,
            },
        );
        Ok(directory)
    }

    /// The directory that holds an entry, and its depth; what is missing of it is made.
    fn parent(
        &mut self,
        checked: &Checked<'_>,
        lead: &[&[u8]],
    ) -> Result<(OwnedFd, u32), UnpackError> {
        match self.resolve(lead) {
            Ok(directory) => return self.ours(checked, directory),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(self.parent_error(checked, lead, e)),
        }
        for count in 1..=lead.len() {
            let (above, name) = (&lead[..count - 1], OsStr::from_bytes(lead[count - 1]));
            if let Err(e) = self.resolve(&lead[..count]) {
                let directory = self
                    .resolve(above)
                    .map_err(|e| self.parent_error(checked, above, e))?;
                let (directory, depth) = self.ours(checked, directory)?;
                // A link that leads nowhere is there, and must not be replaced or written through.
                if e != Errno::NOENT || exists(&directory, name) {
                    return Err(self.parent_error(checked, &lead[..count], e));
                }
                self.make_directory(checked, &directory, depth, name)?;
            }
        }
        let directory = self
            .resolve(lead)
            .map_err(|e| self.parent_error(checked, lead, e))?;
        self.ours(checked, directory)
    }

    #[expect(clippy::unused_self, reason = "reads as the tree's own error")]
    fn parent_error(&self, checked: &Checked<'_>, lead: &[&[u8]], error: Errno) -> UnpackError {
        match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => checked.refuse(
                Refusal::Parent(String::from_utf8_lossy(&lead.join(&b'/')).into_owned()),
            ),
            other => checked.failed("reach the directory of")(other),
        }
    }

    /// Whether a directory is one that this unpacking made, and how deep it lies.
    fn ours(
        &self,
        checked: &Checked<'_>,
        directory: OwnedFd,
    ) -> Result<(OwnedFd, u32), UnpackError> {
        let id = identity(&directory).map_err(checked.failed("look at the directory of"))?;
        match self.directories.get(&id) {
            Some(known) => Ok((directory, known.depth)),
            None => Err(checked.refuse(Refusal::ForeignDirectory)),
        }
    }

    /// Opens a directory of the tree, with symbolic links leading where they lead in a container.
    fn resolve(&self, components: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let path = if components.is_empty() {
            b".".to_vec()
        } else {
            components.join(&b'/')
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(&self.root, path.as_slice(), flags, Mode::empty(), resolve) {
                // A rename or mount anywhere on the machine while `..` was resolved (openat2(2)).
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// The directory and name of a hard link's target, which must be a file of the image.
    fn hard_link_target<'e>(
        &self,
        checked: &Checked<'e>,
    ) -> Result<(OwnedFd, &'e OsStr), UnpackError> {
        let link = &checked.entry.link;
        let refuse = || {
            checked.refuse(Refusal::HardLinkTarget(
                String::from_utf8_lossy(link).into_owned(),
            ))
        };
        let components = components(link).map_err(|reason| checked.refuse(reason))?;
        let (last, lead) = components.split_last().ok_or_else(refuse)?;
        let directory = self.resolve(lead).map_err(|_| refuse())?;
        let (directory, _) = self.ours(checked, directory)?;
        let name = OsStr::from_bytes(last);
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|_| refuse())?;
        // A link to a symbolic link is a name for the link, which the tree may hold anyway.
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => Ok((directory, name)),
            _ => Err(refuse()),
        }
    }

    fn white_out(&mut self, checked: &Checked<'_>) -> Result<(), UnpackError> {
        let Some((last, lead)) = checked.components.split_last() else {
            return Ok(());
        };
        let directory = match self.resolve(lead) {
            Ok(directory) => self.ours(checked, directory)?.0,
            // Nothing there to delete.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(checked.failed("reach the directory of")(e)),
        };
        let delete = checked.failed("delete what is named by");
        if *last == OPAQUE {
            return clear(&mut self.directories, &directory).map_err(delete);
        }
        let name = last.strip_prefix(WHITEOUT).unwrap_or(last);
        remove(&mut self.directories, &directory, OsStr::from_bytes(name)).map_err(delete)
    }

    /// Gives every directory its mode, owner and time, from the leaves up.
    fn finish(&self) -> Result<(), UnpackError> {
        let failed = |error: Errno| UnpackError::Write {
            layer: 0,
            action: "finish",
            path: "/".into(),
            error: error.into(),
        };
        let root = rustix::fs::openat(
            &self.root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        self.finish_directory(&root.map_err(failed)?)
            .map_err(failed)
    }

    fn finish_directory(&self, directory: &OwnedFd) -> Result<(), Errno> {
        for name in children(directory, true)? {
            self.finish_directory(&open_readable(directory, &name)?)?;
        }
        let Some(known) = self.directories.get(&identity(directory)?) else {
            return Err(Errno::XDEV);
        };
        if self.owners {
            let (uid, gid) = known.owner;
            rustix::fs::fchown(
                directory,
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
            )?;
        }
        rustix::fs::fchmod(directory, Mode::from_raw_mode(known.mode))?;
        rustix::fs::futimens(directory, &times(known.mtime))
    }

    #[expect(clippy::unused_self, reason = "reads as the tree's own error")]
    fn io(&self, checked: &Checked<'_>, error: io::Error) -> UnpackError {
        UnpackError::Write {
            layer: checked.layer,
            action: "write",
            path: checked.shown(),
            error,
        }
    }
}

/// The next entry; a limit or a broken stream below the tar is said as what it is.
fn next(
    tar: &mut Reader<LayerReader<'_>>,
    archive: &Archive,
    index: usize,
) -> Result<Option<Entry>, UnpackError> {
    let digest = archive.layers()[index].digest;
    tar.next().map_err(|error| match error {
        TarError::Read(error) => archive
            .refuse(layer_failed(index + 1, digest, error))
            .into(),
        error => UnpackError::Tar {
            layer: index + 1,
            error,
        },
    })
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}
