//! Why an image is not unpacked.

use std::io;
use std::path::PathBuf;

use crate::archive::ArchiveError;
use crate::tarball::TarError;

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
