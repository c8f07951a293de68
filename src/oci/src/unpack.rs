//! Unpacking an image as a root file system, without being led outside.
//!
//! A layer is a list of instructions by whoever built it, and an unpacker is a program that carries
//! them out, often as root. Three independent rules keep it inside:
//!
//! 1. **Names are refused before they are used**: `..`, absolute names, NULs, links whose targets climb
//!    out. Whole layers are read and checked, digests included, before the first file of them is made.
//! 2. **Directories are resolved by the kernel**, with `openat2(2)` and `RESOLVE_IN_ROOT`: a symbolic
//!    link in the middle of a path leads to where it would lead inside a container, never to the host.
//!    The last component is never followed: whatever is there is removed, and a new file is created
//!    with `O_EXCL`.
//! 3. **Every directory that is written to must be one that this unpacking made**: it is looked up by
//!    device and inode, so a mistake in the first two rules ends in an error and not in a file.
//!
//! The tree is built beside its destination and renamed when it is whole, so nobody sees half of it.
//!
//! What is not taken over from a layer: set-user-id and set-group-id bits (nothing in a container of
//! ours gains privileges), extended attributes (file capabilities among them), and, unless root
//! unpacks, owners. Device nodes, fifos and sparse files are refused: no image needs them, and an
//! ordinary user could not make the first.
//!
//! Whiteouts (image specification, "Layer Filesystem Changeset") delete what lower layers put there,
//! wherever in the layer's tar they stand; so a first pass over a layer applies them and a second one
//! writes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::archive::{Archive, ArchiveError, LayerReader, layer_failed};
pub use crate::limits::Limits;
use crate::tarball::{Entry, Kind, Reader, TarError};

/// The longest name of an entry, in bytes: `PATH_MAX` of Linux.
const NAME: usize = 4096;
/// How often a resolution is tried that a rename elsewhere on the machine disturbed.
const ATTEMPTS: u32 = 1000;
/// What the names of whiteouts begin with.
const WHITEOUT: &[u8] = b".wh.";
/// The whiteout that empties its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all layers before compression.
    pub bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
    /// Files whose set-user-id or set-group-id bit was left out.
    pub privileges_dropped: u64,
}

/// Why an image was not unpacked. Nothing is left of it then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The destination cannot be used.
    #[error("cannot unpack into {path}: {reason}")]
    Destination {
        /// The destination.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The archive cannot be read, or is not what it was when it was opened.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A layer is not a tar that can be understood.
    #[error("layer {layer}: not a valid tar: {error}")]
    Tar {
        /// Its number, from 1.
        layer: usize,
        /// Why.
        error: TarError,
    },
    /// An entry that is refused.
    #[error("layer {layer}: refused to unpack {path:?}: {reason}")]
    Refused {
        /// Its number, from 1.
        layer: usize,
        /// The entry.
        path: String,
        /// Why.
        reason: Refusal,
    },
    /// More than the limits allow.
    #[error("layer {layer}: the image has more than {limit} {what}")]
    Limit {
        /// Its number, from 1.
        layer: usize,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The file system did not do as asked.
    #[error("layer {layer}: cannot {action} {path:?}: {error}")]
    Write {
        /// Its number, from 1.
        layer: usize,
        /// What was tried.
        action: &'static str,
        /// The entry.
        path: String,
        /// Why.
        error: io::Error,
    },
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its name is empty, or holds a NUL.
    #[error("its name is empty or holds a NUL")]
    Name,
    /// Its name is longer than 4096 bytes, or a component longer than 255.
    #[error("its name is too long")]
    TooLong,
    /// Its name begins with a slash.
    #[error("its name is absolute")]
    Absolute,
    /// Its name has a component `..`.
    #[error("its name has a component `..`")]
    ParentComponent,
    /// A symbolic link that climbs above the image's root.
    #[error("it is a symbolic link to {0:?}, which climbs out of the image")]
    SymlinkEscapes(String),
    /// A link to nothing.
    #[error("it is a link without a valid target")]
    LinkTarget,
    /// A hard link whose target is not inside.
    #[error("it is a hard link to {0:?}, which is not a path inside the image")]
    HardLinkEscapes(String),
    /// A hard link whose target is not a file of the image.
    #[error("it is a hard link to {0:?}, which is not a file of the image")]
    HardLinkTarget(String),
    /// Something that leads to it is not a directory inside the image.
    #[error("{0:?}, which leads to it, is not a directory of the image")]
    Parent(String),
    /// A directory that this unpacking did not make.
    #[error("it lies in a directory that is not the image's")]
    ForeignDirectory,
    /// A device node.
    #[error("it is a device node")]
    Device,
    /// A fifo.
    #[error("it is a fifo")]
    Fifo,
    /// A file whose name ends in a slash.
    #[error("it is a file whose name ends in a slash")]
    FileWithSlash,
    /// A whiteout that names nothing that can be deleted.
    #[error("it is a whiteout of something that is not a name")]
    Whiteout,
    /// The root itself as something else than a directory.
    #[error("it would replace the image's root")]
    Root,
}

/// Unpacks `archive` as a root file system into `dest`, which must not exist or be an empty directory.
///
/// Root keeps the owners that the layers give; everybody else owns what they unpack.
pub fn unpack(archive: &Archive, dest: &Path, limits: &Limits) -> Result<Unpacked, UnpackError> {
    let failed = |reason: String| UnpackError::Destination {
        path: dest.to_owned(),
        reason,
    };
    match std::fs::read_dir(dest).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(failed("it is not empty".into())),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e.to_string())),
        _ => {}
    }
    let name = dest
        .file_name()
        .ok_or_else(|| failed("it has no name".into()))?;
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".unpacking-");
    let building = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(parent)
        .map_err(|e| failed(format!("cannot make a directory beside it: {e}")))?;
    let unpacked = build(archive, building.path(), limits).and_then(|unpacked| {
        // An empty directory at the destination is replaced by the rename.
        let renamed = std::fs::rename(building.path(), dest);
        renamed.map_err(|e| failed(format!("cannot rename to it: {e}")))?;
        Ok(unpacked)
    });
    let unpacked = unpacked.inspect_err(|_| make_removable(building.path()))?;
    let _ = building.keep();
    Ok(unpacked)
}

fn build(archive: &Archive, root: &Path, limits: &Limits) -> Result<Unpacked, UnpackError> {
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
        let mut bytes = limits.bytes - tree.unpacked.bytes;
        bytes = tree.check_layer(archive, index, bytes)?;
        tree.write_layer(archive, index, bytes)?;
        tree.unpacked.bytes += bytes;
    }
    tree.finish()?;
    Ok(tree.unpacked)
}

/// Device and inode: which file it is, whatever path led to it.
type Identity = (u64, u64);

/// The directories that this unpacking made.
type Directories = HashMap<Identity, Directory>;

/// What is known of one of them.
#[derive(Debug, Clone, Copy)]
struct Directory {
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

/// An entry whose name was checked.
struct Checked<'a> {
    layer: usize,
    entry: &'a Entry,
    /// The name's components, without `.`; empty for the root.
    components: Vec<&'a [u8]>,
}

impl<'a> Checked<'a> {
    fn new(layer: usize, entry: &'a Entry) -> Result<Self, UnpackError> {
        let checked = Self {
            layer,
            entry,
            components: Vec::new(),
        };
        let components = components(&entry.path).map_err(|reason| checked.refuse(reason))?;
        let checked = Self {
            components,
            ..checked
        };
        checked.check().map_err(|reason| checked.refuse(reason))?;
        Ok(checked)
    }

    fn check(&self) -> Result<(), Refusal> {
        let Entry {
            kind, link, path, ..
        } = self.entry;
        let target = || String::from_utf8_lossy(link).into_owned();
        if self.components.is_empty() && *kind != Kind::Directory {
            return Err(Refusal::Root);
        }
        match kind {
            Kind::CharacterDevice | Kind::BlockDevice => return Err(Refusal::Device),
            Kind::Fifo => return Err(Refusal::Fifo),
            Kind::File if path.ends_with(b"/") => return Err(Refusal::FileWithSlash),
            Kind::Symlink => {
                if link.is_empty() || link.contains(&0) || link.len() >= NAME {
                    return Err(Refusal::LinkTarget);
                }
                if climbs_out(self.components.len() - 1, link) {
                    return Err(Refusal::SymlinkEscapes(target()));
                }
            }
            Kind::HardLink => match components(link) {
                Ok(components) if !components.is_empty() => {}
                _ => return Err(Refusal::HardLinkEscapes(target())),
            },
            Kind::File | Kind::Directory => {}
        }
        // `.wh.` in the middle of a path would be a directory that was itself deleted.
        let (last, lead) = self
            .components
            .split_last()
            .map_or((&b""[..], &[][..]), |(last, lead)| (*last, lead));
        if lead.iter().any(|component| component.starts_with(WHITEOUT)) {
            return Err(Refusal::Whiteout);
        }
        match last.strip_prefix(WHITEOUT) {
            Some(_) if last == OPAQUE => Ok(()),
            // What begins with `.wh..wh.` is reserved for markers like the opaque one.
            Some(name) if matches!(name, b"" | b"." | b"..") || name.starts_with(WHITEOUT) => {
                Err(Refusal::Whiteout)
            }
            _ => Ok(()),
        }
    }

    fn is_whiteout(&self) -> bool {
        self.components
            .last()
            .is_some_and(|last| last.starts_with(WHITEOUT))
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.entry.path).into_owned()
    }

    fn refuse(&self, reason: Refusal) -> UnpackError {
        UnpackError::Refused {
            layer: self.layer,
            path: self.shown(),
            reason,
        }
    }

    fn failed(&self, action: &'static str) -> impl Fn(Errno) -> UnpackError + '_ {
        move |errno| UnpackError::Write {
            layer: self.layer,
            action,
            path: self.shown(),
            error: errno.into(),
        }
    }
}

/// The components of a name inside the image; `.` and doubled slashes are left out.
fn components(path: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    if path.is_empty() || path.contains(&0) {
        return Err(Refusal::Name);
    }
    if path[0] == b'/' {
        return Err(Refusal::Absolute);
    }
    let components: Vec<_> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
        .collect();
    if components.contains(&&b".."[..]) {
        return Err(Refusal::ParentComponent);
    }
    if path.len() >= NAME || components.iter().any(|part| part.len() > 255) {
        return Err(Refusal::TooLong);
    }
    Ok(components)
}

/// Whether a relative link that lies `depth` directories below the root climbs above it. Absolute
/// links are relative to the image's root, as in a container.
fn climbs_out(depth: usize, target: &[u8]) -> bool {
    let mut depth = if target.first() == Some(&b'/') {
        0
    } else {
        depth
    };
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
    }
    false
}

impl Tree<'_> {
    /// Reads a layer to its end, checks every entry and both digests, then applies the whiteouts.
    /// Answers its bytes before compression.
    fn check_layer(
        &mut self,
        archive: &Archive,
        index: usize,
        limit: u64,
    ) -> Result<u64, UnpackError> {
        let layer = index + 1;
        let mut tar = Reader::new(archive.layer(index, limit)?);
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
    fn write_layer(
        &mut self,
        archive: &Archive,
        index: usize,
        bytes: u64,
    ) -> Result<(), UnpackError> {
        let mut tar = Reader::new(archive.layer(index, bytes)?);
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

fn times(mtime: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(mtime).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn identity(file: impl AsFd) -> Result<Identity, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn exists(directory: impl AsFd, name: &OsStr) -> bool {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// A child directory, not through a link.
fn open_directory(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn open_readable(parent: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The names in a directory that was opened for reading.
fn children(directory: &OwnedFd, only_directories: bool) -> Result<Vec<std::ffi::OsString>, Errno> {
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
fn remove(known: &mut Directories, parent: impl AsFd, name: &OsStr) -> Result<(), Errno> {
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
fn clear(known: &mut Directories, directory: &OwnedFd) -> Result<(), Errno> {
    clear_readable(known, &open_readable(directory, OsStr::new("."))?)
}

fn clear_readable(known: &mut Directories, directory: &OwnedFd) -> Result<(), Errno> {
    for name in children(directory, false)? {
        remove(known, directory, &name)?;
    }
    Ok(())
}

/// Directories without permissions cannot be removed by their owner; the temporary tree must be.
fn make_removable(root: &Path) {
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
