//! How much an image may ask of the machine that reads it.
//!
//! A few kilobytes of gzip can stand for gigabytes of zeros or for millions of empty files. Every loop
//! over what an archive holds therefore counts against one of these.

/// Upper bounds for one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all layers together, before compression, tar headers included.
    pub bytes: u64,
    /// Entries of all layers together.
    pub entries: u64,
    /// Directories inside one another.
    pub depth: u32,
    /// Bytes of one JSON document (index, manifest, configuration).
    pub document: u64,
}

impl Default for Limits {
    /// 2 GiB, 200,000 entries, 128 directories deep, documents of 4 MiB (what registries accept).
    fn default() -> Self {
        Self {
            bytes: 2 << 30,
            entries: 200_000,
            depth: 128,
            document: 4 << 20,
        }
    }
}
