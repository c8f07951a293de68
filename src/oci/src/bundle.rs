//! Bundles (first version: signatures).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::archive::Archive;

/// A verified bundle.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    digest: Digest,
    manifest: BundleManifest,
}

/// What `bundle.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// Version of this form: 1.
    pub format: u32,
    /// The application's name.
    pub name: String,
    /// The application's version, such as `2.0.0`.
    pub version: String,
    /// Source revision, such as a commit.
    pub revision: String,
    /// The image.
    pub image: BundleImage,
    /// Every file but `bundle.json`, by its path with `/`.
    pub files: BTreeMap<String, BundleFile>,
    /// The migrations in order.
    pub migrations: Vec<Migration>,
    /// Versions of the tools that made the bundle, by tool.
    pub tools: BTreeMap<String, String>,
}

/// The image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleImage {
    /// Digest of the image manifest.
    pub digest: Digest,
    /// Bytes that a registry stores for it.
    pub size: u64,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleFile {
    /// Digest of its bytes, as 64 hexadecimal digits.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// A migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// Path in the bundle, such as `migrations/0002_expand_languages.sql`.
    pub file: String,
    /// Its number: the order in which migrations run.
    pub number: u32,
    /// Its name, such as `languages`.
    pub name: String,
    /// Whether old code survives it.
    pub kind: MigrationKind,
}

/// Whether the code before a migration survives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationKind {
    /// Old code survives it.
    Expand,
    /// Old code must be gone.
    Contract,
}

/// What a bundle is made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The application's name.
    pub name: String,
    /// The application's version.
    pub version: String,
    /// Source revision.
    pub revision: String,
    /// The image archive.
    pub image: PathBuf,
    /// Directory of templates.
    pub templates: PathBuf,
    /// Directory of migrations, each named `NNNN_expand_name.sql` or `NNNN_contract_name.sql`.
    pub migrations: PathBuf,
    /// `release.toml`.
    pub release_toml: PathBuf,
    /// Directory of static assets.
    pub static_dir: Option<PathBuf>,
    /// Versions of the tools that made it, by tool.
    pub tools: BTreeMap<String, String>,
}

/// Why a bundle was refused or not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not yet built.
    #[error("cannot use bundle {0}: bundles are not built yet")]
    NotBuilt(PathBuf),
}

/// Writes a bundle to the directory `dest`, whole or not at all.
pub fn write(sources: &Sources, dest: &Path) -> Result<Bundle, BundleError> {
    let _ = sources;
    Err(BundleError::NotBuilt(dest.to_owned()))
}

impl Bundle {
    /// Opens the bundle in `dir` and verifies every file of it, the image's inner digests included.
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        Err(BundleError::NotBuilt(dir.to_owned()))
    }

    /// The bundle's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bundle's digest: that of `bundle.json`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What `bundle.json` says.
    pub fn manifest(&self) -> &BundleManifest {
        &self.manifest
    }

    /// The application's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The application's version.
    pub fn version(&self) -> &str {
        &self.manifest.version
    }

    /// The source revision.
    pub fn revision(&self) -> &str {
        &self.manifest.revision
    }

    /// Path of the image archive.
    pub fn image_path(&self) -> PathBuf {
        self.dir.join("image.tar")
    }

    /// Digest of the image manifest.
    pub fn image_digest(&self) -> Digest {
        self.manifest.image.digest
    }

    /// The image archive, opened and verified.
    pub fn image(&self) -> Result<Archive, BundleError> {
        Archive::open(&self.image_path()).map_err(|_| BundleError::NotBuilt(self.dir.clone()))
    }

    /// The migrations in order.
    pub fn migrations(&self) -> &[Migration] {
        &self.manifest.migrations
    }

    /// The templates: name below `templates/` (such as `appspec.yaml`) and path.
    pub fn templates(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.files_under("templates/")
    }

    /// The static assets: name below `static/` and path.
    pub fn static_files(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.files_under("static/")
    }

    /// Path of `release.toml`.
    pub fn release_toml(&self) -> PathBuf {
        self.dir.join("release.toml")
    }

    fn files_under(&self, prefix: &'static str) -> impl Iterator<Item = (&str, PathBuf)> {
        self.manifest
            .files
            .keys()
            .filter_map(move |file| Some((file.strip_prefix(prefix)?, self.dir.join(file))))
    }
}
