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

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::de::DeserializeOwned;

use crate::Digest;
use crate::digest::Hashing;
use crate::image::{ANNOTATION_LAYOUT, LAYOUT, archive_header, blob_path, surroundings};
pub use crate::limits::Limits;
pub use crate::model::{Config, Descriptor, Execution, History, Manifest, Platform, RootFs};
use crate::model::{
    Index, Layout, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER, MEDIA_LAYER_GZIP, MEDIA_MANIFEST,
};
use crate::tarball::{BLOCK, Entry, Kind, Reader, Source, TarError};

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

/// Where a file lies in the archive.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: u64,
    size: u64,
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
    Missing(&'static str),
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

impl Archive {
    /// Opens the archive at `path` and verifies it, with the default [`Limits`].
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        Self::open_with(path, &Limits::default())
    }

    /// Opens the archive at `path` and verifies it.
    pub fn open_with(path: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        verify(path, limits).map_err(|defect| ArchiveError {
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

    /// Layer `index` (from 0) before compression, verified when it is finished.
    pub(crate) fn layer(&self, index: usize, limit: u64) -> Result<LayerReader<'_>, ArchiveError> {
        layer_reader(&self.file, &self.blobs, &self.manifest, index, limit)
            .map_err(|d| self.refuse(d))
    }

    /// Compares a layer that was read to its end with its digests.
    pub(crate) fn finish_layer(
        &self,
        index: usize,
        reader: LayerReader<'_>,
    ) -> Result<u64, ArchiveError> {
        finish_layer(&self.manifest, &self.config, index, reader).map_err(|d| self.refuse(d))
    }

    pub(crate) fn refuse(&self, defect: Defect) -> ArchiveError {
        ArchiveError {
            path: self.path.clone(),
            defect: Box::new(defect),
        }
    }
}

/// A part of a file, read at its own position: several can be read at once.
#[derive(Debug)]
pub(crate) struct Section<F> {
    file: F,
    at: u64,
    left: u64,
}

impl<F: Borrow<File>> Read for Section<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.borrow().read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

impl<F: Borrow<File>> Source for Section<F> {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let skipped = bytes.min(self.left);
        self.at += skipped;
        self.left -= skipped;
        Ok(skipped)
    }
}

/// Reads a layer before compression, and computes both its digests on the way.
pub(crate) struct LayerReader<'a> {
    inner: Hashing<Decoder<'a>>,
    left: u64,
    limit: u64,
}

enum Decoder<'a> {
    Plain(Hashing<Section<&'a File>>),
    Gzip(Box<MultiGzDecoder<BufReader<Hashing<Section<&'a File>>>>>),
}

/// The limit of bytes before compression was reached: carried through [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("it is larger than the limit of {0} bytes")]
pub(crate) struct TooLarge(pub u64);

impl Read for LayerReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        match self.left.checked_sub(n as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(TooLarge(self.limit))),
        }
        Ok(n)
    }
}

impl Source for LayerReader<'_> {}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(buffer),
            Self::Gzip(gzip) => gzip.read(buffer),
        }
    }
}

fn layer_reader<'a>(
    file: &'a File,
    blobs: &BTreeMap<Digest, Place>,
    manifest: &Manifest,
    index: usize,
    limit: u64,
) -> Result<LayerReader<'a>, Defect> {
    let descriptor = &manifest.layers[index];
    let what = format!("layer {}", index + 1);
    let place = find(blobs, descriptor, &what)?;
    let stored = Hashing::new(Section {
        file,
        at: place.at,
        left: place.size,
    });
    let decoder = match descriptor.media_type.as_str() {
        MEDIA_LAYER => Decoder::Plain(stored),
        MEDIA_LAYER_GZIP => {
            let buffered = BufReader::with_capacity(64 * 1024, stored);
            Decoder::Gzip(Box::new(MultiGzDecoder::new(buffered)))
        }
        other => {
            let hint = "layers are read as tar and tar+gzip; recompress it: skopeo copy --dest-compress-format gzip";
            return Err(Defect::MediaType {
                what,
                found: other.to_owned(),
                hint,
            });
        }
    };
    Ok(LayerReader {
        inner: Hashing::new(decoder),
        left: limit,
        limit,
    })
}

fn finish_layer(
    manifest: &Manifest,
    config: &Config,
    index: usize,
    mut reader: LayerReader<'_>,
) -> Result<u64, Defect> {
    let digest = manifest.layers[index].digest;
    let layer = index + 1;
    io::copy(&mut reader, &mut io::sink()).map_err(|e| layer_failed(layer, digest, e))?;
    let (decoder, (diff_id, bytes)) = reader.inner.into_parts();
    let (found, _) = match decoder {
        Decoder::Plain(stored) => stored.finish(),
        Decoder::Gzip(gzip) => gzip.into_inner().into_inner().finish(),
    };
    if found != digest {
        return Err(Defect::BlobDigest {
            expected: digest,
            found,
        });
    }
    let expected = config.rootfs.diff_ids[index];
    if diff_id != expected {
        return Err(Defect::DiffId {
            layer,
            digest,
            expected,
            found: diff_id,
        });
    }
    Ok(bytes)
}

/// What it means that a layer cannot be read.
pub(crate) fn layer_failed(layer: usize, digest: Digest, error: io::Error) -> Defect {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(TooLarge(limit)) => Defect::Limit {
            what: format!("layer {layer} ({digest}), uncompressed,"),
            limit: *limit,
        },
        None => Defect::Uncompress {
            layer,
            digest,
            source: error,
        },
    }
}

fn find(
    blobs: &BTreeMap<Digest, Place>,
    descriptor: &Descriptor,
    what: &str,
) -> Result<Place, Defect> {
    let digest = descriptor.digest;
    let Some(place) = blobs.get(&digest) else {
        return Err(Defect::MissingBlob {
            what: what.to_owned(),
            digest,
        });
    };
    if place.size != descriptor.size {
        let (expected, found) = (descriptor.size, place.size);
        return Err(Defect::BlobSize {
            what: what.to_owned(),
            digest,
            expected,
            found,
        });
    }
    Ok(*place)
}

fn verify(path: &Path, limits: &Limits) -> Result<Archive, Defect> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Defect::Read(io::Error::other("not a regular file")));
    }
    let contents = scan(&file, limits)?;
    for (expected, place) in &contents.blobs {
        let (found, _) = Digest::of_reader(Section {
            file: &file,
            at: place.at,
            left: place.size,
        })?;
        if found != *expected {
            return Err(Defect::BlobDigest {
                expected: *expected,
                found,
            });
        }
    }

    let layout: Layout = contents.document(&file, "oci-layout", limits)?;
    if layout.version != "1.0.0" {
        let reason = format!(
            "imageLayoutVersion is {:?}, only 1.0.0 is known",
            layout.version
        );
        return Err(Defect::Document {
            what: "oci-layout".into(),
            reason,
        });
    }
    let index: Index = contents.document(&file, "index.json", limits)?;
    let manifest_descriptor = contents.choose(&file, index, limits)?;
    let blob = |descriptor: &Descriptor, what: &str| -> Result<Vec<u8>, Defect> {
        let place = find(&contents.blobs, descriptor, what)?;
        read_document(&file, place, what, limits)
    };
    let manifest: Manifest = parse(
        &blob(&manifest_descriptor, "manifest")?,
        &format!("manifest {}", manifest_descriptor.digest),
    )?;
    check_manifest(&manifest)?;
    let what = format!("configuration {}", manifest.config.digest);
    let config: Config = parse(&blob(&manifest.config, "configuration")?, &what)?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        let (ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
        let reason = format!("it has {ids} diff_ids for {layers} layers");
        return Err(Defect::Document { what, reason });
    }

    let mut uncompressed_sizes = Vec::new();
    let mut left = limits.bytes;
    for index in 0..manifest.layers.len() {
        let reader = layer_reader(&file, &contents.blobs, &manifest, index, left)?;
        let bytes = finish_layer(&manifest, &config, index, reader)?;
        left -= bytes;
        uncompressed_sizes.push(bytes);
    }
    if manifest
        .annotations
        .get(ANNOTATION_LAYOUT)
        .is_some_and(|layout| layout == LAYOUT)
        && contents.documents.contains_key("manifest.json")
    {
        contents.compare_surroundings(&file, &manifest, &manifest_descriptor, &config)?;
    }
    let path = path.to_owned();
    let blobs = contents.blobs;
    Ok(Archive {
        path,
        file,
        blobs,
        manifest_descriptor,
        manifest,
        config,
        uncompressed_sizes,
    })
}

fn check_manifest(manifest: &Manifest) -> Result<(), Defect> {
    if manifest.schema_version != 2 {
        let reason = format!("schemaVersion is {}, not 2", manifest.schema_version);
        return Err(Defect::Document {
            what: "manifest".into(),
            reason,
        });
    }
    if let Some(found) = &manifest.media_type
        && found != MEDIA_MANIFEST
    {
        return Err(media_type(
            "manifest",
            found,
            "only OCI image manifests are read",
        ));
    }
    if manifest.config.media_type != MEDIA_CONFIG {
        return Err(media_type(
            "configuration",
            &manifest.config.media_type,
            "only OCI image configurations are read",
        ));
    }
    Ok(())
}

fn media_type(what: &str, found: &str, hint: &'static str) -> Defect {
    Defect::MediaType {
        what: what.to_owned(),
        found: found.to_owned(),
        hint,
    }
}

/// The files of an archive, before anything in them is believed.
struct Contents {
    blobs: BTreeMap<Digest, Place>,
    documents: BTreeMap<&'static str, Place>,
    headers: BTreeMap<String, Box<[u8; BLOCK]>>,
}

/// The files of an archive that are not blobs. `repositories` is docker's oldest form, which some tools
/// still add; it is not read.
const DOCUMENTS: [&str; 4] = ["index.json", "manifest.json", "oci-layout", "repositories"];

fn scan(file: &File, limits: &Limits) -> Result<Contents, Defect> {
    let size = file.metadata()?.len();
    let mut tar = Reader::strict(Section {
        file,
        at: 0,
        left: size,
    });
    let mut contents = Contents {
        blobs: BTreeMap::new(),
        documents: BTreeMap::new(),
        headers: BTreeMap::new(),
    };
    let mut entries = 0;
    while let Some(entry) = tar.next().map_err(Defect::Tar)? {
        entries += 1;
        if entries > limits.entries {
            return Err(Defect::Limit {
                what: "the number of entries".into(),
                limit: limits.entries,
            });
        }
        contents.add(
            &entry,
            Place {
                at: tar.position(),
                size: entry.size,
            },
        )?;
    }
    Ok(contents)
}

impl Contents {
    fn add(&mut self, entry: &Entry, place: Place) -> Result<(), Defect> {
        let stray = |reason| Defect::Stray {
            path: String::from_utf8_lossy(&entry.path).into_owned(),
            reason,
        };
        let name =
            std::str::from_utf8(&entry.path).map_err(|_| stray("whose name is not UTF-8"))?;
        // GNU tar writes `./index.json` for `tar -c .`.
        let name = name.trim_start_matches("./").trim_end_matches('/');
        let known_before = match entry.kind {
            Kind::Directory if matches!(name, "" | "." | "blobs" | "blobs/sha256") => {
                self.headers.insert(name.to_owned(), entry.header.clone());
                return Ok(());
            }
            Kind::File => match name.strip_prefix("blobs/sha256/") {
                Some(digits) => {
                    let digest = format!("sha256:{digits}").parse();
                    let digest = digest.map_err(|_| stray("whose name is not a digest"))?;
                    self.blobs.insert(digest, place).is_some()
                }
                None => match DOCUMENTS.iter().find(|document| **document == name) {
                    Some(document) => self.documents.insert(document, place).is_some(),
                    None => return Err(stray("which does not belong there")),
                },
            },
            _ => {
                return Err(stray(
                    "which is neither a file nor a directory of the layout",
                ));
            }
        };
        if known_before {
            return Err(stray("twice"));
        }
        self.headers.insert(name.to_owned(), entry.header.clone());
        Ok(())
    }

    fn document<T: DeserializeOwned>(
        &self,
        file: &File,
        name: &'static str,
        limits: &Limits,
    ) -> Result<T, Defect> {
        let place = self.documents.get(name).ok_or(Defect::Missing(name))?;
        parse(&read_document(file, *place, name, limits)?, name)
    }

    /// The one image that the index leads to, perhaps through an index of one platform.
    fn choose(&self, file: &File, mut index: Index, limits: &Limits) -> Result<Descriptor, Defect> {
        // An index in `index.json` holds images; deeper ones do not occur.
        for _ in 0..2 {
            if index.schema_version != 2 {
                let reason = format!("schemaVersion is {}, not 2", index.schema_version);
                return Err(Defect::Document {
                    what: "index".into(),
                    reason,
                });
            }
            let count = index.manifests.len();
            let Some(descriptor) = index.manifests.pop().filter(|_| count == 1) else {
                return Err(Defect::Several(count));
            };
            match descriptor.media_type.as_str() {
                MEDIA_MANIFEST => return Ok(descriptor),
                MEDIA_INDEX => {
                    let place = find(&self.blobs, &descriptor, "index")?;
                    let bytes = read_document(file, place, "index", limits)?;
                    index = parse(&bytes, &format!("index {}", descriptor.digest))?;
                }
                other => {
                    return Err(media_type(
                        "manifest",
                        other,
                        "only OCI image manifests are read",
                    ));
                }
            }
        }
        Err(Defect::Document {
            what: "index.json".into(),
            reason: "it leads to an index of indexes".into(),
        })
    }

    /// Compares what no digest covers with what the manifest makes it.
    fn compare_surroundings(
        &self,
        file: &File,
        manifest: &Manifest,
        descriptor: &Descriptor,
        config: &Config,
    ) -> Result<(), Defect> {
        let expected = surroundings(manifest, descriptor.digest, descriptor.size, config);
        for (name, place) in &self.documents {
            let Some(expected) = expected.get(*name) else {
                return Err(Defect::Stray {
                    path: (*name).to_owned(),
                    reason: "which does not belong there",
                });
            };
            let mut found = Vec::new();
            // One more byte than expected shows that it is longer.
            Section {
                file,
                at: place.at,
                left: place.size,
            }
            .take(expected.len() as u64 + 1)
            .read_to_end(&mut found)?;
            differ(expected, &found, || (*name).to_owned())?;
        }
        for name in expected.keys() {
            if let Some(document) = DOCUMENTS.iter().find(|document| *document == name)
                && !self.documents.contains_key(document)
            {
                return Err(Defect::Missing(document));
            }
        }
        let mut referred: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
        referred.extend([manifest.config.digest, descriptor.digest]);
        if let Some(digest) = self.blobs.keys().find(|digest| !referred.contains(digest)) {
            return Err(Defect::Stray {
                path: blob_path(*digest),
                reason: "which nothing refers to",
            });
        }
        for (name, found) in &self.headers {
            let blob = name
                .strip_prefix("blobs/sha256/")
                .and_then(|digits| format!("sha256:{digits}").parse().ok());
            let place = match blob {
                Some(digest) => self.blobs.get(&digest),
                None => self.documents.get(name.as_str()),
            };
            let expected =
                archive_header(name, place.map(|place| place.size)).map_err(io::Error::other)?;
            differ(&expected, &found[..], || {
                format!("the tar header of {name}")
            })?;
        }
        Ok(())
    }
}

fn differ(expected: &[u8], found: &[u8], what: impl Fn() -> String) -> Result<(), Defect> {
    if expected == found {
        return Ok(());
    }
    let at = expected
        .iter()
        .zip(found)
        .take_while(|(a, b)| a == b)
        .count();
    Err(Defect::Surroundings { what: what(), at })
}

fn read_document(
    file: &File,
    place: Place,
    what: &str,
    limits: &Limits,
) -> Result<Vec<u8>, Defect> {
    if place.size > limits.document {
        return Err(Defect::Limit {
            what: what.to_owned(),
            limit: limits.document,
        });
    }
    let mut bytes = Vec::new();
    Section {
        file,
        at: place.at,
        left: place.size,
    }
    .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Defect> {
    serde_json::from_slice(bytes).map_err(|e| Defect::Document {
        what: what.to_owned(),
        reason: e.to_string(),
    })
}
