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
//!
//! The compressor is the crate `miniz_oxide` at level [`LEVEL`]: one implementation in Rust without
//! code for particular processors, so its output is a function of its input and of the version in
//! Cargo.lock. A test pins the digest of a small image; it fails if another backend gets in.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use crate::digest::Hashing;
use crate::layer::{Header, pad};
pub use crate::layer::{LayerError, LayerSpec};
use crate::model::{
    ANNOTATION_CREATED, ANNOTATION_REF_NAME, ANNOTATION_REVISION, ANNOTATION_TITLE,
    ANNOTATION_VERSION, Config, Descriptor, DockerImage, Execution, History, Index, Layout,
    MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER_GZIP, MEDIA_MANIFEST, Manifest, Platform, RootFs,
};
use crate::tarball::BLOCK;
use crate::{Digest, json};

/// The gzip level of layers.
const LEVEL: u32 = 6;

/// The annotation on a manifest that says: the files of this archive that no digest covers
/// (`index.json`, `manifest.json`, `oci-layout`) are those that this crate derives from the manifest.
/// A reader that finds it compares them byte for byte.
pub(crate) const ANNOTATION_LAYOUT: &str = "serein.image.layout";
/// The value of [`ANNOTATION_LAYOUT`].
pub(crate) const LAYOUT: &str = "1";
/// What containerd and podman name an image by when they load it.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

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
        .file("etc/ssl/certs/ca-certificates.crt", 0o644, pem())
        .symlink("etc/ssl/cert.pem", "certs/ca-certificates.crt")
}

/// The layer that changes with every commit: the statically linked application, as `/bin/app`.
pub fn application(app: impl Into<PathBuf>) -> LayerSpec {
    LayerSpec::new("application").file_at("bin/app", 0o755, app)
}

fn pem() -> Vec<u8> {
    let mut certificates: Vec<&[u8]> = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(AsRef::as_ref)
        .collect();
    certificates.sort_unstable();
    let mut out = Vec::new();
    for certificate in certificates {
        out.extend_from_slice(b"-----BEGIN CERTIFICATE-----\n");
        for line in base64(certificate).as_bytes().chunks(64) {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.extend_from_slice(b"-----END CERTIFICATE-----\n");
    }
    out
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let index = (group >> (18 - 6 * position)) & 63;
            out.push(if position <= chunk.len() {
                char::from(ALPHABET[index as usize])
            } else {
                '='
            });
        }
    }
    out
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Digest of the image manifest: what a task definition names after `@`.
    pub manifest_digest: Digest,
    /// Digest of the image configuration: what docker calls the image id.
    pub config_digest: Digest,
    /// The layers, lowest first.
    pub layers: Vec<WrittenLayer>,
    /// Size of the archive in bytes.
    pub size: u64,
    /// Bytes that a registry stores for the image: configuration and compressed layers.
    pub compressed_size: u64,
}

/// A layer that was written.
#[derive(Debug, Clone)]
pub struct WrittenLayer {
    /// Digest of the compressed layer.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Digest of the layer's tar before compression.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub uncompressed_size: u64,
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

/// Writes the archive of `spec` to `path`, whole or not at all: it is written under another name in
/// the same directory and then renamed.
pub fn write_archive(spec: &ImageSpec, path: &Path) -> Result<Written, ImageError> {
    let failed = |source: io::Error| ImageError::Write {
        path: path.to_owned(),
        source,
    };
    let (blobs, written) = assemble(spec)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".oci-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(failed)?;
    let mut out = BufWriter::new(temporary.as_file_mut());
    let size = write_tar(&blobs, &mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(out);
    temporary.persist(path).map_err(|e| failed(e.error))?;
    Ok(Written { size, ..written })
}

/// The files of the archive, by path, and what is known of the image.
fn assemble(spec: &ImageSpec) -> Result<(BTreeMap<String, Vec<u8>>, Written), ImageError> {
    check_name(&spec.name)?;
    check_tag(&spec.version)?;
    let created = rfc3339(spec.created).ok_or(ImageError::Created(spec.created))?;
    let layers = compress_all(&spec.layers)?;

    let mut annotations = BTreeMap::from([
        (ANNOTATION_TITLE.to_owned(), spec.name.clone()),
        (ANNOTATION_VERSION.to_owned(), spec.version.clone()),
        (ANNOTATION_CREATED.to_owned(), created.clone()),
    ]);
    if let Some(revision) = &spec.revision {
        annotations.insert(ANNOTATION_REVISION.to_owned(), revision.clone());
    }
    let mut labels = spec.labels.clone();
    labels.extend(annotations.clone());
    let config = Config {
        architecture: spec.architecture.clone(),
        os: "linux".into(),
        created: Some(created.clone()),
        config: Execution {
            user: spec.user.clone(),
            exposed_ports: spec
                .exposed_ports
                .iter()
                .map(|port| format!("{port}/tcp"))
                .collect(),
            env: spec
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            entrypoint: spec.entrypoint.clone(),
            cmd: spec.cmd.clone(),
            working_dir: spec.workdir.clone(),
            labels,
            stop_signal: String::new(),
        },
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: layers.iter().map(|layer| layer.written.diff_id).collect(),
        },
        history: spec
            .layers
            .iter()
            .map(|layer| History {
                created: Some(created.clone()),
                created_by: Some(layer.comment().to_owned()),
                empty_layer: false,
            })
            .collect(),
    };
    let config_bytes = to_json(&config);
    let config_digest = Digest::of(&config_bytes);
    annotations.insert(ANNOTATION_LAYOUT.to_owned(), LAYOUT.to_owned());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MEDIA_MANIFEST.into()),
        config: descriptor(MEDIA_CONFIG, config_digest, config_bytes.len() as u64),
        layers: layers
            .iter()
            .map(|layer| descriptor(MEDIA_LAYER_GZIP, layer.written.digest, layer.written.size))
            .collect(),
        annotations,
    };
    let manifest_bytes = to_json(&manifest);
    let manifest_digest = Digest::of(&manifest_bytes);

    let mut files = surroundings(
        &manifest,
        manifest_digest,
        manifest_bytes.len() as u64,
        &config,
    );
    let compressed_size =
        config_bytes.len() as u64 + layers.iter().map(|layer| layer.written.size).sum::<u64>();
    files.insert(blob_path(config_digest), config_bytes);
    files.insert(blob_path(manifest_digest), manifest_bytes);
    let mut written_layers = Vec::new();
    for layer in layers {
        files.insert(blob_path(layer.written.digest), layer.bytes);
        written_layers.push(layer.written);
    }
    Ok((
        files,
        Written {
            manifest_digest,
            config_digest,
            layers: written_layers,
            size: 0,
            compressed_size,
        },
    ))
}

/// The files of an archive that are not blobs. Everything in them is derived from the manifest and the
/// configuration, so that a reader can derive them again.
pub(crate) fn surroundings(
    manifest: &Manifest,
    digest: Digest,
    size: u64,
    config: &Config,
) -> BTreeMap<String, Vec<u8>> {
    let annotation = |name: &str| manifest.annotations.get(name).map_or("", String::as_str);
    let (name, version) = (annotation(ANNOTATION_TITLE), annotation(ANNOTATION_VERSION));
    let index = Index {
        schema_version: 2,
        media_type: Some(MEDIA_INDEX.into()),
        manifests: vec![Descriptor {
            platform: Some(Platform {
                architecture: config.architecture.clone(),
                os: config.os.clone(),
                variant: None,
            }),
            annotations: BTreeMap::from([
                (ANNOTATION_REF_NAME.to_owned(), version.to_owned()),
                (
                    ANNOTATION_CONTAINERD_NAME.to_owned(),
                    format!("docker.io/library/{name}:{version}"),
                ),
            ]),
            ..descriptor(MEDIA_MANIFEST, digest, size)
        }],
    };
    let docker = [DockerImage {
        config: blob_path(manifest.config.digest),
        repo_tags: vec![format!("{name}:{version}")],
        layers: manifest
            .layers
            .iter()
            .map(|layer| blob_path(layer.digest))
            .collect(),
    }];
    BTreeMap::from([
        ("index.json".to_owned(), to_json(&index)),
        ("manifest.json".to_owned(), to_json(&docker)),
        (
            "oci-layout".to_owned(),
            to_json(&Layout {
                version: "1.0.0".into(),
            }),
        ),
    ])
}

/// Where a blob lies in an OCI layout.
pub(crate) fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The header of an entry of the archive itself: a file, or (without a size) a directory.
pub(crate) fn archive_header(path: &str, size: Option<u64>) -> Result<[u8; BLOCK], LayerError> {
    let (kind, mode) = if size.is_some() {
        (b'0', 0o644)
    } else {
        (b'5', 0o755)
    };
    Header {
        path,
        kind,
        mode,
        uid: 0,
        gid: 0,
        size: size.unwrap_or(0),
        target: "",
    }
    .block()
}

fn write_tar(files: &BTreeMap<String, Vec<u8>>, out: impl Write) -> io::Result<u64> {
    let mut out = Counting {
        inner: out,
        bytes: 0,
    };
    for directory in ["blobs", "blobs/sha256"] {
        out.write_all(&archive_header(directory, None).map_err(io::Error::other)?)?;
    }
    for (path, bytes) in files {
        let size = bytes.len() as u64;
        out.write_all(&archive_header(path, Some(size)).map_err(io::Error::other)?)?;
        out.write_all(bytes)?;
        pad(size, &mut out)?;
    }
    out.write_all(&[0; 2 * BLOCK])?;
    Ok(out.bytes)
}

struct Counting<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Compressed {
    bytes: Vec<u8>,
    written: WrittenLayer,
}

/// Compresses each layer in a thread of its own; their order and bytes do not depend on it.
fn compress_all(layers: &[LayerSpec]) -> Result<Vec<Compressed>, LayerError> {
    std::thread::scope(|scope| {
        let running: Vec<_> = layers
            .iter()
            .map(|layer| scope.spawn(move || compress(layer)))
            .collect();
        running
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(io::Error::other("a thread that compresses panicked").into())
                })
            })
            .collect()
    })
}

/// Tar, both digests and gzip in one pass.
fn compress(layer: &LayerSpec) -> Result<Compressed, LayerError> {
    // Operating system 255 is "unknown"; no name and no time.
    let gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Hashing::new(Vec::new()), Compression::new(LEVEL));
    let mut tar = Hashing::new(gzip);
    layer.write_tar(&mut tar)?;
    let (gzip, (diff_id, uncompressed_size)) = tar.into_parts();
    let (bytes, (digest, size)) = gzip.finish()?.into_parts();
    Ok(Compressed {
        bytes,
        written: WrittenLayer {
            digest,
            size,
            diff_id,
            uncompressed_size,
        },
    })
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        platform: None,
        annotations: BTreeMap::new(),
    }
}

#[expect(
    clippy::expect_used,
    reason = "structs of strings and numbers always have a JSON form"
)]
fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    json::canonical(value).expect("a JSON form")
}

/// Distribution specification, "Pulling manifests": the grammar of a repository name.
fn check_name(name: &str) -> Result<(), ImageError> {
    let part_ok = |part: &str| {
        part.bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if !name.is_empty() && name.len() <= 128 && name.split('/').all(part_ok) {
        return Ok(());
    }
    let rule = "lower-case letters and digits, joined by `.`, `_`, `-` or `/`";
    Err(ImageError::Name {
        what: "name",
        value: name.to_owned(),
        rule,
    })
}

/// Distribution specification, "Pulling manifests": the grammar of a tag.
fn check_tag(tag: &str) -> Result<(), ImageError> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(ok) && !tag.starts_with(['.', '-']) {
        return Ok(());
    }
    let rule = "up to 128 letters, digits, `_`, `.` and `-`, the first of them none of `.-`";
    Err(ImageError::Name {
        what: "version",
        value: tag.to_owned(),
        rule,
    })
}

/// Seconds since the epoch as RFC 3339 in UTC; nothing after the year 9999.
///
/// The days-to-date arithmetic is Howard Hinnant's `civil_from_days`.
fn rfc3339(seconds: u64) -> Option<String> {
    if seconds > 253_402_300_799 {
        return None;
    }
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    ))
}
