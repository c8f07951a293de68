//! Opening an image archive: nothing is believed before its digest has been compared.
//!
//! [`Archive::open`] reads the whole archive once and answers only if everything in it agrees: each
//! blob with the digest that is its name and with the size that its descriptor gives, each layer with
//! its uncompressed digest in the configuration, each media type with what it is used for. Later reads
//! of a layer compare both digests again, because a file can change after it was opened.
//!
//! Three files of an archive are covered by no digest: `index.json`, `manifest.json` and `oci-layout`.
//! For archives written by this crate they follow from the manifest, which says so in an annotation;
//! they are derived again and compared byte for byte, and so are the tar's own headers. One flipped bit
//! anywhere in such an archive is an error. Archives by others (skopeo, buildah) are held to what the
//! specification says.

mod defect;
mod layer;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
#[cfg(feature = "push")]
use std::io;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::Digest;
pub use crate::limits::Limits;
pub use crate::model::{Config, Descriptor, Execution, History, Manifest, Platform, RootFs};
pub use defect::Defect;
pub(crate) use layer::{LayerReader, layer_failed};
use layer::{Place, Section};

/// A verified image archive. It holds the file open; layers are read from it when they are asked for.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    blobs: BTreeMap<Digest, Place>,
    manifest_descriptor: Descriptor,
    manifest: Manifest,
    config: Config,
    uncompressed_sizes: Vec<u64>,
}

/// Why an archive was refused: which archive, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("image archive {path}: {defect}")]
pub struct ArchiveError {
    /// The archive.
    pub path: PathBuf,
    /// What is wrong with it.
    pub defect: Box<Defect>,
}

impl Archive {
    /// Opens the archive at `path` and verifies it, with the default [`Limits`].
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Self::open_with(path, &Limits::default())
    }

    /// Opens the archive at `path` and verifies it.
    pub fn open_with(path: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        verify::verify(path, limits).map_err(|defect| ArchiveError {
            path: path.to_owned(),
            defect: Box::new(defect),
        })
    }

    /// The archive's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Digest of the image manifest: what a task definition names after `@`.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest_descriptor.digest
    }

    /// The manifest's descriptor.
    pub fn manifest_descriptor(&self) -> &Descriptor {
        &self.manifest_descriptor
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

    /// Bytes of each layer before compression, lowest first.
    pub fn uncompressed_sizes(&self) -> &[u64] {
        &self.uncompressed_sizes
    }

    /// Bytes that a registry stores for the image: configuration and layers, as they are.
    pub fn compressed_size(&self) -> u64 {
        self.manifest.config.size + self.layers().iter().map(|layer| layer.size).sum::<u64>()
    }

    /// The bytes of a blob as they are stored; nothing if the archive has no such blob.
    ///
    /// They were verified when the archive was opened.
    pub fn blob(&self, digest: Digest) -> Option<impl Read + '_> {
        self.blobs.get(&digest).map(|place| self.section(*place))
    }

    /// Like [`Archive::blob`], but with a file handle of its own.
    #[cfg(feature = "push")]
    pub(crate) fn detached_blob(&self, digest: Digest) -> io::Result<impl Read + Send + use<>> {
        let place = *self.blobs.get(&digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Section {
            file: self.file.try_clone()?,
            at: place.at,
            left: place.size,
        })
    }

    fn section(&self, place: Place) -> Section<&File> {
        Section {
            file: &self.file,
            at: place.at,
            left: place.size,
        }
    }

    /// Layer `index` (from 0) before compression, verified when it is finished. Of `limit` bytes for
    /// all layers, `used` have been used.
    pub(crate) fn layer(
        &self,
        index: usize,
        used: u64,
        limit: u64,
    ) -> Result<LayerReader<'_>, ArchiveError> {
        layer::layer_reader(&self.file, &self.blobs, &self.manifest, index, used, limit)
            .map_err(|d| self.refuse(d))
    }

    /// Compares a layer that was read to its end with its digests.
    pub(crate) fn finish_layer(
        &self,
        index: usize,
        reader: LayerReader<'_>,
    ) -> Result<u64, ArchiveError> {
        layer::finish_layer(&self.manifest, &self.config, index, reader).map_err(|d| self.refuse(d))
    }

    pub(crate) fn refuse(&self, defect: Defect) -> ArchiveError {
        ArchiveError {
            path: self.path.clone(),
            defect: Box::new(defect),
        }
    }
}
