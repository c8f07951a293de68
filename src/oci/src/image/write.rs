//! The archive: configuration, manifest, what surrounds them, and the tar of all.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::compress::compress;
use super::names::{check_name, check_tag, rfc3339};
use super::{ImageError, ImageSpec, LayerError};
use crate::layer::{Header, pad};
use crate::model::{
    ANNOTATION_CREATED, ANNOTATION_REF_NAME, ANNOTATION_REVISION, ANNOTATION_TITLE,
    ANNOTATION_VERSION, Config, Descriptor, DockerImage, Execution, History, Index, Layout,
    MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER_GZIP, MEDIA_MANIFEST, Manifest, Platform, RootFs,
};
use crate::tarball::BLOCK;
use crate::{Digest, beside, json};

/// The annotation on a manifest that says: the files of this archive that no digest covers
/// (`index.json`, `manifest.json`, `oci-layout`) are those that this crate derives from the manifest.
/// A reader that finds it compares them byte for byte.
pub(crate) const ANNOTATION_LAYOUT: &str = "serein.image.layout";
/// The value of [`ANNOTATION_LAYOUT`].
pub(crate) const LAYOUT: &str = "1";
/// What containerd and podman name an image by when they load it.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

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

/// Writes the archive of `spec` to `path`, whole or not at all: it is written under another name in
/// the same directory and then renamed.
pub fn write_archive(spec: &ImageSpec, path: &Path) -> Result<Written, ImageError> {
    let failed = |source: io::Error| ImageError::Write {
        path: path.to_owned(),
        source,
    };
    let (blobs, written) = assemble(spec)?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".oci-")
        .permissions(PermissionsExt::from_mode(0o666))
        .tempfile_in(beside::parent(path))
        .map_err(failed)?;
    let mut out = BufWriter::new(temporary.as_file_mut());
    let size = write_tar(&blobs, &mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    drop(out);
    temporary.persist(path).map_err(|e| failed(e.error))?;
    Ok(Written { size, ..written })
}

/// The files of an archive by path, each in the pieces it was made in.
type Files = BTreeMap<String, Vec<Vec<u8>>>;

/// The files of the archive, and what is known of the image.
fn assemble(spec: &ImageSpec) -> Result<(Files, Written), ImageError> {
    check_name(&spec.name)?;
    check_tag(&spec.version)?;
    let created = rfc3339(spec.created).ok_or(ImageError::Created(spec.created))?;
    let layers = compress(&spec.layers)?;

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

    let surroundings = surroundings(
        &manifest,
        manifest_digest,
        manifest_bytes.len() as u64,
        &config,
    );
    let compressed_size =
        config_bytes.len() as u64 + layers.iter().map(|layer| layer.written.size).sum::<u64>();
    let mut files: Files = surroundings
        .into_iter()
        .map(|(path, bytes)| (path, vec![bytes]))
        .collect();
    files.insert(blob_path(config_digest), vec![config_bytes]);
    files.insert(blob_path(manifest_digest), vec![manifest_bytes]);
    let mut written_layers = Vec::new();
    for layer in layers {
        files.insert(blob_path(layer.written.digest), layer.pieces);
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

fn write_tar(files: &Files, out: impl Write) -> io::Result<u64> {
    let mut out = Counting {
        inner: out,
        bytes: 0,
    };
    for directory in ["blobs", "blobs/sha256"] {
        out.write_all(&archive_header(directory, None).map_err(io::Error::other)?)?;
    }
    for (path, pieces) in files {
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        out.write_all(&archive_header(path, Some(size)).map_err(io::Error::other)?)?;
        for piece in pieces {
            out.write_all(piece)?;
        }
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
