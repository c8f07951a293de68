//! `oci unpack`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use oci::archive::Archive;
use oci::unpack::{Limits, unpack};

/// Unpack an image as a root file system.
///
/// Nothing is written outside the directory, whatever the image says. It appears whole or not at all. Owners are
/// kept when root unpacks; set-user-id bits, device nodes and extended attributes never are.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image archive
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// The directory to make
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The most that all layers may unpack to
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes)]
    max_bytes: u64,
    /// The most files, directories and links
    #[arg(long, value_name = "N", default_value_t = Limits::default().entries)]
    max_entries: u64,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let limits = Limits {
            bytes: self.max_bytes,
            entries: self.max_entries,
            ..Limits::default()
        };
        let archive = Archive::open_with(&self.archive, &limits)?;
        let unpacked = unpack(&archive, &self.dir, &limits)?;
        eprintln!(
            "{} entries, {}",
            unpacked.entries,
            super::size(unpacked.bytes)
        );
        if unpacked.privileges_dropped > 0 {
            eprintln!(
                "left out the set-user-id or set-group-id bits of {} entries",
                unpacked.privileges_dropped
            );
        }
        super::print(&format!("{}\n", archive.manifest_digest()))
    }
}
