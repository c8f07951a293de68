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
//! machine; cutting it into blocks costs 0.2 % of the size):
//!
//! | level | `zlib-rs` | | `miniz_oxide` | |
//! | --- | --- | --- | --- | --- |
//! | 1 | 45 ms | 54.2 % | 57 ms | 49.9 % |
//! | 2 | 85 ms | 46.2 % | 112 ms | 45.3 % |
//! | 4 | 112 ms | 44.4 % | 180 ms | 43.4 % |
//! | 6 | 135 ms | 43.9 % | 450 ms | 42.7 % |
//! | 9 | 360 ms | 42.4 % | 790 ms | 42.6 % |
//!
//! An image of the application is allowed 12 MB and takes 4 to 5 MB at any of them; nothing in a release
//! waits for that megabyte, but everything that packs waits for the packer. So: level [`LEVEL`].

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::{LayerError, LayerSpec, WrittenLayer};
use crate::Digest;
use crate::digest::Hashing;

/// The gzip level of layers.
const LEVEL: u32 = 1;
/// Bytes of a layer's tar that are compressed together.
const BLOCK: usize = 256 * 1024;

/// A gzip header (RFC 1952) with nothing in it: deflate, no name, no time, no extra flags, system unknown.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A compressed layer.
pub(super) struct Compressed {
    /// Its bytes, in the pieces they were made in.
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) written: WrittenLayer,
}

/// Where a block belongs: layer and position in it.
type Place = (usize, usize);

/// A block to be compressed.
struct Job {
    place: Place,
    content: Vec<u8>,
    last: bool,
}

/// A block that was compressed.
struct Done {
    piece: Vec<u8>,
    crc: Crc,
}

/// Compresses all layers: this thread makes the tars and joins the results, one thread a processor
/// compresses.
pub(super) fn compress(layers: &[LayerSpec]) -> Result<Vec<Compressed>, LayerError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (jobs, queue) = sync_channel(2 * threads);
    let queue = Mutex::new(queue);
    let (done, results) = channel();
    // Blocks come back when they are compressed, to be filled again.
    let (used, spare) = channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (queue, done, used) = (&queue, done.clone(), used.clone());
            scope.spawn(move || work(queue, &done, &used));
        }
        drop((done, used));
        // Takes the sender of jobs, so that the threads end after the last block.
        let tars = write_tars(layers, jobs, &spare)?;
        join(&tars, &results)
    })
}

/// Makes the layers' tars and cuts them into jobs; answers digest and size of each tar.
fn write_tars(
    layers: &[LayerSpec],
    jobs: SyncSender<Job>,
    spare: &Receiver<Vec<u8>>,
) -> Result<Vec<(Digest, u64)>, LayerError> {
    let mut tars = Vec::new();
    for (layer, spec) in layers.iter().enumerate() {
        let mut tar = Hashing::new(Cutter::new(&jobs, spare, layer));
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
    spare: &'a Receiver<Vec<u8>>,
    place: Place,
    content: Vec<u8>,
}

impl<'a> Cutter<'a> {
    fn new(jobs: &'a SyncSender<Job>, spare: &'a Receiver<Vec<u8>>, layer: usize) -> Self {
        Self {
            jobs,
            spare,
            place: (layer, 0),
            content: block(spare),
        }
    }

    fn send(&mut self, last: bool) -> io::Result<()> {
        let content = std::mem::replace(
            &mut self.content,
            if last { Vec::new() } else { block(self.spare) },
        );
        let job = Job {
            place: self.place,
            content,
            last,
        };
        self.place.1 += 1;
        self.jobs
            .send(job)
            .map_err(|_| io::Error::other("the threads that compress have ended"))
    }

    fn finish(mut self) -> io::Result<()> {
        self.send(true)
    }
}

/// An empty block, used before if there is one.
fn block(spare: &Receiver<Vec<u8>>) -> Vec<u8> {
    let mut block = spare
        .try_recv()
        .unwrap_or_else(|_| Vec::with_capacity(BLOCK));
    block.clear();
    block
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

fn work(
    queue: &Mutex<Receiver<Job>>,
    done: &Sender<(Place, io::Result<Done>)>,
    used: &Sender<Vec<u8>>,
) {
    let mut deflate = Compress::new(Compression::new(LEVEL), false);
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let result = compress_block(&mut deflate, &job.content, job.last);
        // Nobody listens any more when making the tar failed.
        if done.send((job.place, result)).is_err() {
            return;
        }
        let _ = used.send(job.content);
    }
}

/// One block as a piece of a deflate stream that ends on a byte boundary.
fn compress_block(deflate: &mut Compress, content: &[u8], last: bool) -> io::Result<Done> {
    let mut crc = Crc::new();
    crc.update(content);
    deflate.reset();
    let mut piece = Vec::with_capacity(content.len() * 5 / 8 + 1024);
    let flush = if last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let status = deflate.compress_vec(&content[consumed..], &mut piece, flush);
        let status = status.map_err(io::Error::other)?;
        // A flush is complete when it left room in the output (zlib's manual, "deflate").
        let complete = if last {
            status == Status::StreamEnd
        } else {
            piece.len() < piece.capacity()
        };
        if complete {
            return Ok(Done { piece, crc });
        }
        piece.reserve(content.len() / 2 + 1024);
    }
}

/// Joins the pieces of each layer, in their order, while the last of them are still being made.
fn join(
    tars: &[(Digest, u64)],
    results: &Receiver<(Place, io::Result<Done>)>,
) -> Result<Vec<Compressed>, LayerError> {
    let mut early = BTreeMap::new();
    let mut compressed = Vec::new();
    for (layer, (diff_id, uncompressed_size)) in tars.iter().enumerate() {
        let mut stored = Hashing::new(io::sink());
        let mut pieces = Vec::new();
        let mut crc = Crc::new();
        let mut add = |piece: Vec<u8>| {
            let added = stored.write_all(&piece);
            pieces.push(piece);
            added
        };
        add(GZIP_HEADER.to_vec())?;
        let blocks = uncompressed_size.div_ceil(BLOCK as u64);
        for position in 0..usize::try_from(blocks).unwrap_or(usize::MAX) {
            let done = loop {
                if let Some(done) = early.remove(&(layer, position)) {
                    break done;
                }
                let (place, done) = results
                    .recv()
                    .map_err(|_| io::Error::other("a thread that compresses has ended"))?;
                early.insert(place, done?);
            };
            let Done {
                piece,
                crc: of_block,
            } = done;
            add(piece)?;
            crc.combine(&of_block);
        }
        add([crc.sum().to_le_bytes(), crc.amount().to_le_bytes()].concat())?;
        let (digest, size) = stored.finish();
        let written = WrittenLayer {
            digest,
            size,
            diff_id: *diff_id,
            uncompressed_size: *uncompressed_size,
        };
        compressed.push(Compressed { pieces, written });
    }
    Ok(compressed)
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
            let bytes = compressed.pieces.concat();
            let mut back = Vec::new();
            // Not the decoder for several members: there must be one.
            let mut decoder = flate2::read::GzDecoder::new(&bytes[..]);
            decoder.read_to_end(&mut back).expect("gzip");
            assert!(back == tar, "{length}");
            assert!(
                decoder.into_inner().is_empty(),
                "{length}: something follows the member"
            );
            assert_eq!(compressed.written.diff_id, Digest::of(&tar));
            assert_eq!(compressed.written.digest, Digest::of(&bytes));
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
        let mut deflate = Compress::new(Compression::new(LEVEL), false);
        let done = compress_block(&mut deflate, &noise, true).expect("compressed");
        let mut back = Vec::new();
        flate2::read::DeflateDecoder::new(&done.piece[..])
            .read_to_end(&mut back)
            .expect("deflate");
        assert!(back == noise);
    }

    #[test]
    fn the_size_of_writes_does_not_matter() {
        let bytes = content(2 * BLOCK + 5);
        let cut = |sizes: &[usize]| {
            let (jobs, queue) = sync_channel(10);
            let (_, spare) = channel();
            let mut cutter = Cutter::new(&jobs, &spare, 0);
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
                .map(|job| (job.place, job.content.len(), job.last))
                .collect::<Vec<_>>()
        };
        let expected = vec![
            ((0, 0), BLOCK, false),
            ((0, 1), BLOCK, false),
            ((0, 2), 5, true),
        ];
        for sizes in [&[1 << 30][..], &[BLOCK], &[1, 511, 70_000], &[BLOCK + 1]] {
            assert_eq!(cut(sizes), expected);
        }
    }

    /// The threads reuse a compressor: what it compressed before must not show.
    #[test]
    fn a_used_compressor_gives_the_same_bytes() {
        let bytes = content(3 * BLOCK);
        let mut used = Compress::new(Compression::new(LEVEL), false);
        for block in [
            &bytes[7..BLOCK],
            &bytes[BLOCK..2 * BLOCK],
            &bytes[..100],
            &bytes[99..BLOCK],
        ] {
            let mut fresh = Compress::new(Compression::new(LEVEL), false);
            let fresh = compress_block(&mut fresh, block, false).expect("compressed");
            assert!(
                compress_block(&mut used, block, false)
                    .expect("compressed")
                    .piece
                    == fresh.piece
            );
        }
    }
}
