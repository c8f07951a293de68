//! Images of tasks, unpacked.
//!
//! An image is verified and unpacked once and then shared, read-only, by every task that runs it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// Unpacked images in a directory, by manifest digest. Clones share everything.
#[derive(Debug, Clone)]
pub struct ImageStore {
    dir: Arc<Path>,
}

/// An unpacked image. It stays on disk as long as its store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of the image's manifest, `sha256:…`.
    pub digest: String,
    /// The directory with the image's files.
    pub rootfs: PathBuf,
    /// What the image says about how it is run.
    pub config: ImageConfig,
}

/// The part of an image's configuration that says how it is run, as the OCI image specification
/// names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// `uid`, `uid:gid`, `user` or `user:group`; empty is root.
    pub user: String,
    /// Where the program starts; empty is `/`.
    pub working_dir: String,
    /// The signal that asks it to end, as `SIGTERM` or `15`; `None` is SIGTERM.
    pub stop_signal: Option<String>,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The store's directory cannot be used.
    #[error("cannot keep images in {}: {source}", path.display())]
    Directory {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive is not a valid image.
    #[error("cannot unpack the image {}: {problem}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl ImageStore {
    /// Keeps images in `dir`, which is made if it is missing.
    pub fn new(dir: &Path) -> Result<Self, ImageError> {
        Ok(Self { dir: dir.into() })
    }

    /// Verifies an archive and unpacks it, unless that has been done before.
    #[expect(clippy::unused_async, reason = "lands within minutes")]
    pub async fn import(&self, archive: &Path) -> Result<Image, ImageError> {
        Err(ImageError::Archive {
            archive: archive.into(),
            problem: format!("nothing is unpacked in {} yet", self.dir.display()),
        })
    }

    /// An image that has been imported.
    pub fn get(&self, digest: &str) -> Option<Image> {
        let _ = digest;
        None
    }
}
