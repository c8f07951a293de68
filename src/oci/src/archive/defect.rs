//! What can be wrong with an image archive.

use std::io;

use crate::Digest;
use crate::tarball::TarError;

/// What can be wrong with an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not a whole tar.
    #[error("not a whole tar: {0}")]
    Tar(TarError),
    /// An entry that has no place in an image archive.
    #[error(
        "holds {path:?}, {reason}; an OCI archive has only index.json, oci-layout, manifest.json and blobs/sha256/"
    )]
    Stray {
        /// The entry.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that must be there and is not.
    #[error("{0} is missing; is it an OCI archive?")]
    Missing(String),
    /// A blob that something refers to and that is not there.
    #[error("{what} {digest} is missing from blobs/sha256/")]
    MissingBlob {
        /// `layer 2`, `manifest`, …
        what: String,
        /// Its digest.
        digest: Digest,
    },
    /// A blob whose bytes are not what its name says.
    #[error("blob {expected} is corrupt: its bytes have the digest {found}")]
    BlobDigest {
        /// The digest that is its name.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// A blob whose size is not what its descriptor says.
    #[error("{what} {digest} has {found} bytes where its descriptor says {expected}")]
    BlobSize {
        /// `layer 2`, `manifest`, …
        what: String,
        /// Its digest.
        digest: Digest,
        /// Size by the descriptor.
        expected: u64,
        /// Size in the archive.
        found: u64,
    },
    /// A layer that does not uncompress to what the configuration says.
    #[error(
        "layer {layer} ({digest}) uncompresses to {found} where the configuration says {expected}"
    )]
    DiffId {
        /// Its number, from 1.
        layer: usize,
        /// Digest of the blob.
        digest: Digest,
        /// Uncompressed digest by the configuration.
        expected: Digest,
        /// Uncompressed digest of the bytes.
        found: Digest,
    },
    /// A layer that cannot be uncompressed.
    #[error("layer {layer} ({digest}) cannot be uncompressed: {source}")]
    Uncompress {
        /// Its number, from 1.
        layer: usize,
        /// Digest of the blob.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A document that is not what it must be.
    #[error("{what} is not valid: {reason}")]
    Document {
        /// `index.json`, `manifest sha256:…`, …
        what: String,
        /// Why.
        reason: String,
    },
    /// A media type that is not read.
    #[error("{what} has the media type {found:?}; {hint}")]
    MediaType {
        /// `layer 2`, `manifest`, …
        what: String,
        /// The media type.
        found: String,
        /// What is read, or what to do.
        hint: &'static str,
    },
    /// An index of several images.
    #[error(
        "holds {0} images; copy the one that is meant into an archive of its own (skopeo copy)"
    )]
    Several(usize),
    /// An archive of more files than any image has.
    #[error("holds more than {0} files")]
    Files(u64),
    /// More than the limits allow.
    #[error("{what} is larger than the limit of {limit} bytes")]
    Limit {
        /// What.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// An archive of ours in which a byte differs that no digest covers.
    #[error("{what} is not what the manifest makes it: they differ at byte {at}")]
    Surroundings {
        /// `index.json`, `the tar header of …`, …
        what: String,
        /// The first byte that differs.
        at: usize,
    },
}
