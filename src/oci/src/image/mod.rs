//! Writing an image archive.
//!
//! The archive is a tar of an OCI image layout with docker's `manifest.json` beside it. podman, skopeo
//! and containerd read the layout; `docker load` up to version 24 reads only `manifest.json`; the blobs
//! are shared, so the second form costs a few hundred bytes, and the image id is the same in both.
//!
//! Layers are gzip, not plain and not zstd: skopeo recompresses a plain layer when it copies to a
//! registry, which changes the digest, and docker 20.10 cannot read zstd. They are ordered from what
//! changes least (base, certificates) to what changes with every commit (the application), so that a
//! registry and a node that has run the last version fetch one layer.

mod certificates;
mod compress;
mod names;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

pub use crate::layer::{LayerError, LayerSpec};
pub(crate) use write::{ANNOTATION_LAYOUT, LAYOUT, archive_header, surroundings};
pub use write::{Written, WrittenLayer, write_archive};

/// The unprivileged user that images run as: `nonroot` in `/etc/passwd`.
pub const NONROOT: u32 = 65532;

/// An image to be written.
#[derive(Debug, Clone)]
pub struct ImageSpec {
    /// Repository name, such as `app`: lower-case letters, digits and `._-/`.
    pub name: String,
    /// Version, which becomes the tag: letters, digits and `._-`, at most 128.
    pub version: String,
    /// Source revision, such as a commit.
    pub revision: Option<String>,
    /// When the image was made, in seconds since the epoch: the source's time, never the clock's.
    pub created: u64,
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// Layers, lowest first.
    pub layers: Vec<LayerSpec>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, which a task definition may replace.
    pub cmd: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// `uid:gid`, or a name in the image's `/etc/passwd`.
    pub user: String,
    /// Directory the program starts in.
    pub workdir: String,
    /// TCP ports that the program listens on.
    pub exposed_ports: Vec<u16>,
    /// Labels, beside the standard ones (title, version, revision, created).
    pub labels: BTreeMap<String, String>,
}

impl ImageSpec {
    /// An image without layers for this machine's architecture, created at the epoch, whose program
    /// runs as user 65532 in `/`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            revision: None,
            created: 0,
            architecture: host_architecture().to_owned(),
            layers: Vec::new(),
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: vec![("PATH".into(), "/bin".into())],
            user: format!("{NONROOT}:{NONROOT}"),
            workdir: "/".into(),
            exposed_ports: Vec::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The image of a statically linked application: base, certificates, `/bin/app`; port 8080.
    pub fn application(
        name: impl Into<String>,
        version: impl Into<String>,
        app: impl Into<PathBuf>,
    ) -> Self {
        Self {
            layers: vec![base(), certificates(), application(app)],
            entrypoint: vec!["/bin/app".into()],
            exposed_ports: vec![8080],
            ..Self::new(name, version)
        }
    }
}

/// This machine's architecture in Go's words.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The layer that hardly ever changes: users, names, and the mount points that a read-only root needs.
pub fn base() -> LayerSpec {
    LayerSpec::new("base: users, names, mount points")
        .directory("dev", 0o755)
        .directory("etc", 0o755)
        .file(
            "etc/group",
            0o644,
            format!("root:x:0:\nnonroot:x:{NONROOT}:\nnobody:x:65534:\n"),
        )
        // Mount points for what an engine puts there; the sandbox uses them as they are.
        .file("etc/hostname", 0o644, "")
        .file("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n")
        .file(
            "etc/nsswitch.conf",
            0o644,
            "passwd: files\ngroup: files\nhosts: files dns\n",
        )
        .file(
            "etc/passwd",
            0o644,
            format!(
                "root:x:0:0:root:/root:/sbin/nologin\n\
                 nonroot:x:{NONROOT}:{NONROOT}:nonroot:/home/nonroot:/sbin/nologin\n\
                 nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
            ),
        )
        .file("etc/resolv.conf", 0o644, "")
        .directory("home/nonroot", 0o700)
        .owned_by("home/nonroot", NONROOT, NONROOT)
        .directory("proc", 0o555)
        .directory("root", 0o700)
        .directory("run", 0o755)
        .directory("sys", 0o555)
        .directory("tmp", 0o1777)
        .directory("var/tmp", 0o1777)
}

/// Mozilla's root certificates as one PEM file where OpenSSL and rustls look for it.
///
/// They come from the crate `webpki-root-certs`, so that a build by Nix and a build by cargo agree.
pub fn certificates() -> LayerSpec {
    LayerSpec::new("certificates: Mozilla's roots")
        .file(
            "etc/ssl/certs/ca-certificates.crt",
            0o644,
            certificates::pem(),
        )
        .symlink("etc/ssl/cert.pem", "certs/ca-certificates.crt")
}

/// The layer that changes with every commit: the statically linked application, as `/bin/app`.
pub fn application(app: impl Into<PathBuf>) -> LayerSpec {
    LayerSpec::new("application").file_at("bin/app", 0o755, app)
}

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A name or version that no registry would take.
    #[error("{what} {value:?} cannot name an image: {rule}")]
    Name {
        /// `name` or `version`
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        rule: &'static str,
    },
    /// A time after the year 9999.
    #[error("created {0} is not a time in seconds since the epoch before the year 10000")]
    Created(u64),
    /// A layer that could not be written.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The archive could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
