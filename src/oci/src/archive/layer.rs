//! Reading parts of an archive, and layers before compression.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use flate2::bufread::MultiGzDecoder;

use super::{Config, Defect, Descriptor, Manifest};
use crate::Digest;
use crate::digest::Hashing;
use crate::model::{MEDIA_LAYER, MEDIA_LAYER_GZIP};
use crate::tarball::Source;

/// Where a file lies in the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) at: u64,
    pub(super) size: u64,
}

/// A part of a file, read at its own position: several can be read at once.
#[derive(Debug)]
pub(super) struct Section<F> {
    pub(super) file: F,
    pub(super) at: u64,
    pub(super) left: u64,
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
struct TooLarge(u64);

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

pub(super) fn layer_reader<'a>(
    file: &'a File,
    blobs: &BTreeMap<Digest, Place>,
    manifest: &Manifest,
    index: usize,
    used: u64,
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
        left: limit.saturating_sub(used),
        limit,
    })
}

pub(super) fn finish_layer(
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
            what: format!("the image, uncompressed up to layer {layer} ({digest}),"),
            limit: *limit,
        },
        None => Defect::Uncompress {
            layer,
            digest,
            source: error,
        },
    }
}

pub(super) fn find(
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
