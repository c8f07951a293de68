//! Reading tars that nobody vouches for.
//!
//! A tar has several places that say the same thing (the size in the header and in a pax record, the
//! name in the header, in a pax record and in a GNU long name), and readers that prefer different ones
//! see different archives in the same bytes. So this reader refuses what it would have to choose about:
//! a pax size that differs from the header's, content after a kind of entry that has none, data after
//! the end. It allocates no more than [`EXTENSION`] bytes for a name, however long the archive says the
//! name is. That, and the need to look at padding and at raw headers, is why the headers are parsed
//! here; the tests write their archives with the crate `tar`.

mod extensions;

use std::io::{self, Read};

use extensions::Extensions;

/// Size of a tar block in bytes.
pub(crate) const BLOCK: usize = 512;
/// The longest extension header (pax records, GNU long names) that is read, in bytes.
const EXTENSION: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    CharacterDevice,
    BlockDevice,
    Fifo,
}

/// One entry, with its extensions applied.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The name as it stands: nothing about it has been checked.
    pub path: Vec<u8>,
    /// The target of a link, likewise.
    pub link: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: u64,
    pub size: u64,
    /// The header as it stands, for who wants to compare it.
    pub header: Box<[u8; BLOCK]>,
}

/// Why a tar could not be read. Positions are bytes from its beginning.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// Not even a tar.
    #[error("the header at byte {0} is not one of a tar: its checksum is wrong")]
    Checksum(u64),
    /// The end is missing.
    #[error("it is truncated: {what} at byte {at}")]
    Truncated {
        /// What is missing.
        what: &'static str,
        /// Where it ends.
        at: u64,
    },
    /// A field of a header that is no number, or one that is too large.
    #[error("the header at byte {at} has no valid {field}")]
    Number {
        /// The field.
        field: &'static str,
        /// Where the header begins.
        at: u64,
    },
    /// An extension header that cannot be understood.
    #[error("the extension header at byte {at} is refused: {reason}")]
    Extension {
        /// Why.
        reason: &'static str,
        /// Where it begins.
        at: u64,
    },
    /// A kind of entry that is not read.
    #[error("the entry {path:?} is of kind {kind:?}, which is not supported")]
    Kind {
        /// The entry.
        path: String,
        /// The type flag of its header.
        kind: char,
    },
    /// An entry without content that has content all the same.
    #[error("the entry {0:?} has content, which its kind cannot have")]
    Content(String),
    /// Something where zeros must be.
    #[error("there is something at byte {0}, where a tar has only zeros")]
    Garbage(u64),
    /// The source could not be read, or what decompresses it failed.
    #[error("{0}")]
    Read(io::Error),
}

/// What a tar is read from: skipping may be cheaper than reading.
pub(crate) trait Source: Read {
    /// Skips `bytes` bytes; answers how many there were.
    fn skip(&mut self, bytes: u64) -> io::Result<u64>
    where
        Self: Sized,
    {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink())
    }
}

/// Reads a tar entry by entry: [`Reader::next`], then the entry's content by [`Read`].
pub(crate) struct Reader<R> {
    source: R,
    /// Bytes consumed so far.
    at: u64,
    /// Bytes of the present entry's content not yet read.
    left: u64,
    /// Zeros after that content.
    padding: usize,
    /// Whether padding must be zero and the end must be marked.
    strict: bool,
}

impl<R: Source> Reader<R> {
    /// Reads the tar of a layer: missing zeros at its end are accepted, as Go's reader does (umoci leaves
    /// them out).
    pub(crate) fn new(source: R) -> Self {
        Self {
            source,
            at: 0,
            left: 0,
            padding: 0,
            strict: false,
        }
    }

    /// Reads a tar of which every byte counts.
    pub(crate) fn strict(source: R) -> Self {
        Self {
            strict: true,
            ..Self::new(source)
        }
    }

    /// Where the next byte comes from: after [`Reader::next`], where the entry's content begins.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// What it reads from.
    pub(crate) fn into_source(self) -> R {
        self.source
    }

    /// The next entry, or nothing at the end of the tar. The rest of the source is then read too and
    /// must be zeros.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.finish_entry()?;
            let at = self.at;
            let Some(header) = self.header()? else {
                if extensions.any {
                    return Err(TarError::Extension {
                        reason: "no entry follows it",
                        at,
                    });
                }
                return Ok(None);
            };
            let size = number(&header[124..136]).ok_or(TarError::Number { field: "size", at })?;
            let flag = header[156];
            if matches!(flag, b'L' | b'K' | b'x' | b'g') {
                let content = self.extension(size, at)?;
                extensions.apply(flag, &content, at)?;
                continue;
            }
            return self.entry(header, size, extensions, at).map(Some);
        }
    }

    fn entry(
        &mut self,
        header: Box<[u8; BLOCK]>,
        size: u64,
        extensions: Extensions,
        at: u64,
    ) -> Result<Entry, TarError> {
        let path = extensions.path.unwrap_or_else(|| header_path(&header));
        let shown = || String::from_utf8_lossy(&path).into_owned();
        let flag = header[156];
        let kind = match flag {
            b'0' | b'7' | 0 => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(TarError::Kind {
                    path: shown(),
                    kind: char::from(other),
                });
            }
        };
        if extensions.size.is_some_and(|extended| extended != size) {
            return Err(TarError::Extension {
                reason: "its size is not that of the header",
                at,
            });
        }
        if kind != Kind::File && size != 0 {
            return Err(TarError::Content(shown()));
        }
        let small = |field, range: std::ops::Range<usize>| {
            number(&header[range])
                .and_then(|n| u32::try_from(n).ok())
                .ok_or(TarError::Number { field, at })
        };
        let entry = Entry {
            link: extensions
                .link
                .unwrap_or_else(|| until_nul(&header[157..257]).to_vec()),
            kind,
            mode: small("mode", 100..108)? & 0o7777,
            uid: extensions.uid.map_or_else(|| small("uid", 108..116), Ok)?,
            gid: extensions.gid.map_or_else(|| small("gid", 116..124), Ok)?,
            mtime: extensions
                .mtime
                .or_else(|| number(&header[136..148]))
                .unwrap_or(0),
            size,
            path,
            header,
        };
        self.begin_content(size);
        Ok(entry)
    }

    fn begin_content(&mut self, size: u64) {
        self.left = size;
        self.padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0);
    }

    /// Skips what is left of the present entry.
    fn finish_entry(&mut self) -> Result<(), TarError> {
        if self.left > 0 {
            let skipped = self.source.skip(self.left).map_err(TarError::Read)?;
            self.at += skipped;
            self.left -= skipped;
            if self.left > 0 {
                return Err(TarError::Truncated {
                    what: "the content of an entry ends",
                    at: self.at,
                });
            }
        }
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..self.padding];
        if self.fill(padding)? < padding.len() && self.strict {
            return Err(TarError::Truncated {
                what: "the content of an entry ends",
                at: self.at,
            });
        }
        if self.strict
            && let Some(position) = padding.iter().position(|byte| *byte != 0)
        {
            return Err(TarError::Garbage(
                self.at - padding.len() as u64 + position as u64,
            ));
        }
        self.padding = 0;
        Ok(())
    }

    /// The next header, or nothing at the end.
    fn header(&mut self) -> Result<Option<Box<[u8; BLOCK]>>, TarError> {
        let at = self.at;
        let mut block = Box::new([0; BLOCK]);
        match self.fill(&mut block[..])? {
            BLOCK => {}
            0 if !self.strict => return Ok(None),
            _ => {
                return Err(TarError::Truncated {
                    what: "a header or the end marker is missing",
                    at,
                });
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            self.end(at)?;
            return Ok(None);
        }
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        let field: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if number(&block[148..156]) != Some(sum - field + 8 * 32) {
            return Err(TarError::Checksum(at));
        }
        Ok(Some(block))
    }

    /// Reads to the end of the source, which must be zeros.
    fn end(&mut self, marker: u64) -> Result<(), TarError> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let begin = self.at;
            let n = self.fill(&mut buffer)?;
            if let Some(position) = buffer[..n].iter().position(|byte| *byte != 0) {
                return Err(TarError::Garbage(begin + position as u64));
            }
            if n < buffer.len() {
                break;
            }
        }
        if self.strict
            && (self.at < marker + 2 * BLOCK as u64 || !self.at.is_multiple_of(BLOCK as u64))
        {
            return Err(TarError::Truncated {
                what: "the end marker is incomplete",
                at: self.at,
            });
        }
        Ok(())
    }

    /// Reads until `buffer` is full or the source ends; answers how much there was.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.source.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(TarError::Read(e)),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    fn extension(&mut self, size: u64, at: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENSION {
            return Err(TarError::Extension {
                reason: "it is longer than 1 MiB",
                at,
            });
        }
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        if self.fill(&mut content)? < content.len() {
            return Err(TarError::Truncated {
                what: "an extension header ends",
                at: self.at,
            });
        }
        self.begin_content(size);
        self.left = 0;
        Ok(content)
    }
}

impl<R: Source> Read for Reader<R> {
    /// Reads the present entry's content.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let n = self.source.read(&mut buffer[..most])?;
        if n == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the content of an entry ends too early",
            ));
        }
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// A numeric field: octal digits between spaces and NULs, or binary with the highest bit set.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first().filter(|(first, _)| **first >= 0x80) {
        let mut bytes = std::iter::once(first & 0x7f).chain(rest.iter().copied());
        return bytes.try_fold(0, |n: u64, byte| {
            n.checked_mul(256)?.checked_add(u64::from(byte))
        });
    }
    let padding = |byte: &u8| matches!(*byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| !padding(byte))
        .unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(padding).unwrap_or(digits.len())];
    digits.iter().try_fold(0, |n: u64, byte| {
        matches!(byte, b'0'..=b'7')
            .then(|| n.checked_mul(8)?.checked_add(u64::from(byte - b'0')))?
    })
}

/// The name in a header: in a POSIX one, the prefix goes before it.
fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = if &header[257..263] == b"ustar\0" {
        until_nul(&header[345..500])
    } else {
        &[]
    };
    if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"77777777777\0"), Some((1 << 33) - 1));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(1 << 33));
        assert_eq!(number(b"\x80\0\0\0\0\x20\0\0"), Some(1 << 21));
        assert_eq!(
            number(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
        assert_eq!(number(b"0000648\0"), None);
        assert_eq!(number(b"+000644\0"), None);
        assert_eq!(number(b"-1\0\0\0\0\0\0"), None);
    }
}
