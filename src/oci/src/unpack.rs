//! Unpacking an image (first version: signatures).

use std::path::{Path, PathBuf};

use crate::archive::Archive;

/// How much an image may unpack to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of all layers before compression.
    pub bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
}

impl Default for Limits {
    /// 2 GiB and 200,000 entries.
    fn default() -> Self {
        Self {
            bytes: 2 << 30,
            entries: 200_000,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Default)]
pub struct Unpacked {
    /// Bytes of all layers before compression.
    pub bytes: u64,
    /// Entries of all layers.
    pub entries: u64,
}

/// Why an image was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// Not yet built.
    #[error("cannot unpack into {0}: unpacking is not built yet")]
    NotBuilt(PathBuf),
}

/// Unpacks `archive` as a root file system into `dest`, which must not exist or be empty.
pub fn unpack(archive: &Archive, dest: &Path, limits: &Limits) -> Result<Unpacked, UnpackError> {
    let _ = (archive, limits);
    Err(UnpackError::NotBuilt(dest.to_owned()))
}
