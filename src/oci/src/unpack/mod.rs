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

mod error;
mod files;
mod names;
mod tree;

use std::io;
use std::path::Path;

use crate::archive::Archive;
use crate::beside;
pub use crate::limits::Limits;
pub use error::{Refusal, UnpackError};

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
    if dest.file_name().is_none() {
        return Err(failed("it has no name".into()));
    }
    let building = beside::directory(dest, ".unpacking-")
        .map_err(|e| failed(format!("cannot make a directory beside it: {e}")))?;
    let unpacked = tree::build(archive, building.path(), limits).and_then(|unpacked| {
        // An empty directory at the destination is replaced by the rename.
        let renamed = std::fs::rename(building.path(), dest);
        renamed.map_err(|e| failed(format!("cannot rename to it: {e}")))?;
        Ok(unpacked)
    });
    let unpacked = unpacked.inspect_err(|_| files::make_removable(building.path()))?;
    let _ = building.keep();
    Ok(unpacked)
}
