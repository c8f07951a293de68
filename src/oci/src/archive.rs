//! Opening an image archive (first version: signatures).

use std::path::{Path, PathBuf};

use crate::Digest;
pub use crate::model::{Config, Descriptor, Empty, Execution, History, Manifest, Platform, RootFs};

/// A verified image archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    manifest_digest: Digest,
    manifest: Manifest,
    config: Config,
}

/// Why an archive was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not yet built.
    #[error("cannot open {0}: reading archives is not built yet")]
    NotBuilt(PathBuf),
}

impl Archive {
    /// Opens and verifies the archive at `path`.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Err(ArchiveError::NotBuilt(path.to_owned()))
    }

    /// The archive's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Digest of the image manifest.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest_digest
    }

    /// The image manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The image configuration: `config().config` is how a container of it runs.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The layers' descriptors, lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        &self.manifest.layers
    }
}
