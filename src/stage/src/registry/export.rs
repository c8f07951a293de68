//! An image of the registry, as an archive for the runtime.

use std::{fs::File, io, path::Path};

use serde_json::{Value, json};

use super::{Digest, Registry, manifests::OCI_MANIFEST};

/// Why an image cannot be had; the text is what a task's `stoppedReason` shows after
/// `CannotPullContainerError: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    /// There is no such repository or manifest.
    #[error(
        "pull image manifest has been retried 1 time(s): failed to resolve ref {0}: {0}: not found"
    )]
    NotFound(String),
    /// It is there and of a kind that cannot be run.
    #[error("image {0} is {1}, not an image for linux/amd64")]
    NotAnImage(String, String),
    /// A file could not be read or written.
    #[error("failed to copy {0}: {1}")]
    Io(String, io::Error),
}

impl Registry {
    /// The digest of the manifest that `repository` has under a tag or digest.
    ///
    /// # Errors
    /// [`PullError::NotFound`], or [`PullError::NotAnImage`] for an index: ECS would choose from it
    /// by platform, and the stage takes only what a release pins.
    pub fn resolve(&self, repository: &str, reference: &str) -> Result<Digest, PullError> {
        let name = || format!("{repository}@{reference}");
        let (digest, media_type) = self
            .find_manifest(repository, reference)
            .ok_or_else(|| PullError::NotFound(name()))?;
        if media_type.contains("index") || media_type.contains("manifest.list") {
            return Err(PullError::NotAnImage(name(), media_type));
        }
        Ok(digest)
    }

    /// Writes the image as an OCI archive.
    pub fn export(&self, digest: &Digest, archive: &Path) -> Result<(), PullError> {
        self.write_archive(digest, archive)
            .map_err(|error| PullError::Io(digest.to_string(), error))
    }

    fn write_archive(&self, digest: &Digest, archive: &Path) -> io::Result<()> {
        let bytes = std::fs::read(self.blob_path(digest))?;
        let manifest: Value = serde_json::from_slice(&bytes)?;
        let media_type = manifest
            .get("mediaType")
            .and_then(Value::as_str)
            .unwrap_or(OCI_MANIFEST);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": super::manifests::OCI_INDEX,
            "manifests": [
                { "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() },
            ],
        });
        let mut tar = tar::Builder::new(File::create(archive)?);
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, "index.json", index.to_string().as_bytes())?;
        append(&mut tar, &format!("blobs/sha256/{}", digest.hex()), &bytes)?;
        let layers = manifest
            .get("layers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let mut written = std::collections::BTreeSet::new();
        for descriptor in manifest.get("config").into_iter().chain(layers) {
            let blob = descriptor
                .get("digest")
                .and_then(Value::as_str)
                .and_then(Digest::parse)
                .ok_or_else(|| io::Error::other("a descriptor without a digest"))?;
            if written.insert(blob.clone()) {
                let name = format!("blobs/sha256/{}", blob.hex());
                tar.append_path_with_name(self.blob_path(&blob), name)?;
            }
        }
        tar.into_inner()?.sync_data()
    }
}

fn append(tar: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, bytes)
}
