//! Compressing layers: gzip, on all processors, with the same bytes on any number of them.
//!
//! A layer's tar is cut into blocks of [`BLOCK`] bytes; each is compressed for itself, ends on a byte
//! boundary, and the results are joined to one gzip member, as `pigz --independent` does. So the output
//! depends on the content alone: not on how many threads there were, and not on how many bytes a read
//! happened to return (the compressor's output depends on that at some levels). Both digests are
//! computed while the bytes pass.
//!
//! The compressor is the crate `zlib-rs`, a port of zlib-ng to Rust, pinned by Cargo.lock. Of all
//! backends of `flate2` it is also the one that stays selected if some crate of a build switches on
//! another one in Rust. A test pins the digest of a small image, and fails if anything changes it.
//!
//! The level, measured on the release build of `app` (8.7 MB; CPU time on one core of a shared 2-core
//! machine; blocks of 512 KiB cost 0.1 % of the size):
//!
//! | level | `zlib-rs` | | `miniz_oxide` | |
//! | --- | --- | --- | --- | --- |
//! | 1 | 45 ms | 54.1 % | 57 ms | 49.8 % |
//! | 3 | 104 ms | 44.8 % | 175 ms | 43.5 % |
//! | 4 | 112 ms | 44.3 % | 180 ms | 43.3 % |
//! | 6 | 135 ms | 43.7 % | 450 ms | 42.6 % |
//! | 9 | 360 ms | 42.3 % | 790 ms | 42.5 % |
//!
//! From level 4 to 6 a fifth more time buys 1.3 % of the size, from 6 to 9 another 3 % cost 2.7 times
//! the time. An image of the application takes 4 MB of the 12 MB that it may have at any of them, so
//! time decides: level [`LEVEL`].

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{LayerError, LayerSpec, WrittenLayer};
use crate::digest::Hashing;

/// The gzip level of layers.
const LEVEL: u32 = 4;
/// Bytes of a layer's tar that are compressed together.
const BLOCK: usize = 512 * 1024;

/// A gzip header (RFC 1952) with nothing in it: deflate, no name, no time, no extra flags, system unknown.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A compressed layer.
pub(super) struct Compressed {
    pub(super) bytes: Vec<u8>,
    pub(super) written: WrittenLayer,
}

/// A block to be compressed.
struct Job {
    layer: usize,
    block: usize,
    content: Vec<u8>,
    last: bool,
}

/// A block that was compressed.
struct Done {
    bytes: Vec<u8>,
    crc: Crc,
}

/// Compressed blocks by layer and position.
type Results = Mutex<BTreeMap<(usize, usize), io::Result<Done>>>;

/// Compresses all layers; this thread makes the tars, one thread a processor compresses.
pub(super) fn compress(layers: &[LayerSpec]) -> Result<Vec<Compressed>, LayerError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (jobs, queue) = sync_channel(2 * threads);
    let queue = Mutex::new(queue);
    let results = Results::default();
    let tars = thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&queue, &results));
        }
        // Takes the sender, so that the threads end when the last block is sent.
        write_tars(layers, jobs)
    })?;
    let mut results = results
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .into_iter()
        .peekable();
    let mut compressed = Vec::new();
    for (layer, (diff_id, uncompressed_size)) in tars.into_iter().enumerate() {
        let mut out = Hashing::new(Vec::new());
        let mut crc = Crc::new();
        out.write_all(&GZIP_HEADER)?;
        while let Some((_, done)) = results.next_if(|((of, _), _)| *of == layer) {
            let done = done?;
            out.write_all(&done.bytes)?;
            crc.combine(&done.crc);
        }
        out.write_all(&crc.sum().to_le_bytes())?;
        out.write_all(&crc.amount().to_le_bytes())?;
        let (bytes, (digest, size)) = out.into_parts();
        let written = WrittenLayer {
            digest,
            size,
            diff_id,
            uncompressed_size,
        };
        compressed.push(Compressed { bytes, written });
    }
    Ok(compressed)
}

/// Makes the layers' tars and cuts them into jobs; answers digest and size of each tar.
fn write_tars(
    layers: &[LayerSpec],
    jobs: SyncSender<Job>,
) -> Result<Vec<(crate::Digest, u64)>, LayerError> {
    let mut tars = Vec::new();
    for (layer, spec) in layers.iter().enumerate() {
        let cutter = Cutter {
            jobs: &jobs,
            layer,
            block: 0,
            content: Vec::with_capacity(BLOCK),
        };
        let mut tar = Hashing::new(cutter);
        spec.write_tar(&mut tar)?;
        let (cutter, digest) = tar.into_parts();
        cutter.finish()?;
        tars.push(digest);
    }
    drop(jobs);
    Ok(tars)
}

/// Collects what is written to it into blocks.
struct Cutter<'a> {
    jobs: &'a SyncSender<Job>,
    layer: usize,
    block: usize,
    content: Vec<u8>,
}

impl Cutter<'_> {
    fn send(&mut self, last: bool) -> io::Result<()> {
        let content = std::mem::replace(&mut self.content, Vec::with_capacity(BLOCK));
        let job = Job {
            layer: self.layer,
            block: self.block,
            content,
            last,
        };
        self.block += 1;
        self.jobs
            .send(job)
            .map_err(|_| io::Error::other("the threads that compress have ended"))
    }

    fn finish(mut self) -> io::Result<()> {
        self.send(true)
    }
}

impl Write for Cutter<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        // A full block is sent when more comes, so that the last one is known to be the last.
        if self.content.len() == BLOCK {
            self.send(false)?;
        }
        let n = buffer.len().min(BLOCK - self.content.len());
        self.content.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work(queue: &Mutex<Receiver<Job>>, results: &Results) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let done = compress_block(&job.content, job.last);
        results
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((job.layer, job.block), done);
    }
}

/// One block as a piece of a deflate stream that ends on a byte boundary.
fn compress_block(content: &[u8], last: bool) -> io::Result<Done> {
    let mut crc = Crc::new();
    crc.update(content);
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    let mut bytes = Vec::with_capacity(content.len() / 2 + 1024);
    let flush = if last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let status = deflate
            .compress_vec(&content[consumed..], &mut bytes, flush)
            .map_err(io::Error::other)?;
        // A flush is complete when it left room in the output (zlib's manual, "deflate").
        let complete = if last {
            status == Status::StreamEnd
        } else {
            bytes.len() < bytes.capacity()
        };
        if complete {
            return Ok(Done { bytes, crc });
        }
        bytes.reserve(content.len() / 4 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Bytes that neither compress to nothing nor stay as they are.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3] & 0x1f
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn every_length_round_trips_as_one_gzip_member() {
        for length in [
            0,
            1,
            BLOCK - 1024,
            BLOCK - 512,
            BLOCK,
            BLOCK + 1,
            2 * BLOCK,
            3 * BLOCK - 7,
        ] {
            let layer = LayerSpec::new("").file("f", 0o644, content(length));
            let mut tar = Vec::new();
            layer.write_tar(&mut tar).expect("a tar");
            let mut compressed = compress(&[layer]).expect("a layer");
            let compressed = compressed.remove(0);
            let mut back = Vec::new();
            // Not the decoder for several members: there must be one.
            let mut decoder = flate2::read::GzDecoder::new(&compressed.bytes[..]);
            decoder.read_to_end(&mut back).expect("gzip");
            assert!(back == tar, "{length}");
            assert!(
                decoder.into_inner().is_empty(),
                "{length}: something follows the member"
            );
            assert_eq!(compressed.written.diff_id, crate::Digest::of(&tar));
            assert_eq!(
                compressed.written.digest,
                crate::Digest::of(&compressed.bytes)
            );
        }
    }

    #[test]
    fn bytes_that_do_not_compress_round_trip() {
        let mut state = 7_u64;
        let noise: Vec<u8> = (0..BLOCK)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            })
            .collect();
        let done = compress_block(&noise, true).expect("compressed");
        let mut back = Vec::new();
        flate2::read::DeflateDecoder::new(&done.bytes[..])
            .read_to_end(&mut back)
            .expect("deflate");
        assert!(back == noise);
    }

    #[test]
    fn the_size_of_writes_does_not_matter() {
        let bytes = content(2 * BLOCK + 5);
        let cut = |sizes: &[usize]| {
            let (jobs, queue) = sync_channel(10);
            let mut cutter = Cutter {
                jobs: &jobs,
                layer: 0,
                block: 0,
                content: Vec::new(),
            };
            let (mut rest, mut sizes) = (&bytes[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let n = rest.len().min(*sizes.next().expect("cycles"));
                cutter.write_all(&rest[..n]).expect("room in the queue");
                rest = &rest[n..];
            }
            cutter.finish().expect("room in the queue");
            drop(jobs);
            queue
                .iter()
                .map(|job| (job.block, job.content.len(), job.last))
                .collect::<Vec<_>>()
        };
        let expected = vec![(0, BLOCK, false), (1, BLOCK, false), (2, 5, true)];
        for sizes in [&[1 << 30][..], &[BLOCK], &[1, 511, 70_000], &[BLOCK + 1]] {
            assert_eq!(cut(sizes), expected);
        }
    }
}
