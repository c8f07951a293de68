//! A bundle: what is released, as one directory that can be carried anywhere and checked there.
//!
//! ```text
//! bundle.json      names everything below; written last
//! image.tar        the image archive
//! release.toml     how it is released
//! templates/       task definition, AppSpec, …
//! migrations/      SQL, one file a step
//! static/          assets, if there are any
//! ```
//!
//! `bundle.json` holds the sha256 of every other file and the digest of the image, so its own sha256 is
//! the bundle's digest: whoever knows those 64 digits knows every byte that will run. It is JSON in
//! canonical form (no white space, sorted keys), and a reader insists on that form, so that one bundle
//! cannot have two digests. It holds nothing of the machine or the time that made it.
//!
//! [`Bundle::open`] believes nothing: files that are missing, that nobody listed, or in which a byte
//! differs are errors that name the file; the image is opened and verified from the inside as well.

mod migration;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use migration::{Migration, MigrationKind, MigrationNameError};
pub use write::{Existing, Sources, write};

use crate::Digest;
use crate::archive::{Archive, ArchiveError};

/// The format that is written, and the only one that is read.
pub const FORMAT: u32 = 1;

/// Name of the file that names all others.
const BUNDLE_JSON: &str = "bundle.json";
const IMAGE: &str = "image.tar";
const RELEASE_TOML: &str = "release.toml";
const TEMPLATES: &str = "templates";
const MIGRATIONS: &str = "migrations";
const STATIC: &str = "static";

/// A verified bundle.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    digest: Digest,
    manifest: BundleManifest,
}

/// What `bundle.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleManifest {
    /// [`FORMAT`].
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
    /// Bytes that a registry stores for it: configuration and compressed layers.
    pub size: u64,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleFile {
    /// Digest of its bytes; in JSON the 64 hexadecimal digits alone, as `sha256sum` prints them.
    #[serde(serialize_with = "digits", deserialize_with = "from_digits")]
    pub sha256: Digest,
    /// Size in bytes.
    pub size: u64,
}

fn digits<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&digest.hex())
}

fn from_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let digits = String::deserialize(deserializer)?;
    format!("sha256:{digits}")
        .parse()
        .map_err(de::Error::custom)
}

/// Why a bundle was refused or not written: which, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("bundle {dir}: {defect}")]
pub struct BundleError {
    /// The bundle's directory.
    pub dir: PathBuf,
    /// What is wrong with it.
    pub defect: Box<BundleDefect>,
}

/// What can be wrong with a bundle. Files are named by their path in the bundle unless they are sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleDefect {
    /// A directory without `bundle.json`, or none at all.
    #[error("there is no {0}; is it a bundle?")]
    NotABundle(PathBuf),
    /// A file could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Something could not be written.
    #[error("cannot write {path}: {error}")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// `bundle.json` is of another format.
    #[error(
        "bundle.json has format {0}, this program reads format {FORMAT}; use the program that the bundle was made for"
    )]
    Format(serde_json::Value),
    /// `bundle.json` is not what it must be.
    #[error("bundle.json is not valid: {0}")]
    Manifest(String),
    /// A listed file that is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// A file that is there and not listed.
    #[error("{0} is not listed in bundle.json")]
    Extra(String),
    /// Something that is neither a file nor a directory.
    #[error("{0} is neither a file nor a directory; bundles hold nothing else, no links either")]
    Kind(PathBuf),
    /// A name that bundles do not hold.
    #[error("{0} cannot be in a bundle: file names are UTF-8 without control characters")]
    Name(PathBuf),
    /// A file whose bytes are not those that were listed.
    #[error("{file} was changed: its sha256 is {found}, bundle.json says {expected}")]
    Changed {
        /// The file.
        file: String,
        /// The listed digest.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// The image cannot be opened.
    #[error("{0}")]
    Image(ArchiveError),
    /// The image is not the one that `bundle.json` names.
    #[error("image.tar holds {what} {found}, bundle.json says {expected}")]
    OtherImage {
        /// `the image`, `the version`, …
        what: &'static str,
        /// By `bundle.json`.
        expected: String,
        /// In the image.
        found: String,
    },
    /// A migration whose name does not say what it is.
    #[error("{0}")]
    Migration(MigrationNameError),
    /// Two migrations with one number.
    #[error("{0} and {1} have the same number")]
    SameNumber(String, String),
    /// The destination holds something else.
    #[error("there is something else already; remove it, or say that it may be replaced")]
    Exists,
}

impl Bundle {
    /// Opens the bundle in `dir` and verifies every file of it, and the image from the inside.
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        verify::open(dir).map_err(|defect| refuse(dir, defect))
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
        self.dir.join(IMAGE)
    }

    /// Digest of the image manifest.
    pub fn image_digest(&self) -> Digest {
        self.manifest.image.digest
    }

    /// The image archive, opened and verified again.
    pub fn image(&self) -> Result<Archive, BundleError> {
        Archive::open(&self.image_path()).map_err(|e| refuse(&self.dir, BundleDefect::Image(e)))
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
        self.dir.join(RELEASE_TOML)
    }

    fn files_under(&self, prefix: &'static str) -> impl Iterator<Item = (&str, PathBuf)> {
        let files = self.manifest.files.keys();
        files.filter_map(move |file| Some((file.strip_prefix(prefix)?, self.dir.join(file))))
    }
}

fn refuse(dir: &Path, defect: BundleDefect) -> BundleError {
    BundleError {
        dir: dir.to_owned(),
        defect: Box::new(defect),
    }
}
