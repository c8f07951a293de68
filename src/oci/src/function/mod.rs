//! A Lambda function's deployment package: a zip archive with its program, `bootstrap`.
//!
//! Lambda takes a function for `provided.al2023` as a zip whose root holds an executable of that name
//! (Lambda developer guide, "Building a custom runtime for Lambda"). Zip archives made by the usual
//! tools differ by the time and the user that made them, so [`write`] writes its own: one entry,
//! 1980-01-01 (the format's first day), mode 0755, nothing else. [`unpack`] reads anybody's, with the
//! care that archives need: a name never leads outside, and every size and checksum is compared.
//!
//! The format is that of PKWARE's APPNOTE 6.3; zip64, encryption and methods other than *stored* and
//! *deflated* are refused, because no deployment package needs them.

mod read;
mod write;

use std::io;
use std::path::PathBuf;

pub use read::unpack;
pub use write::write;

/// The program's name in a package, and Lambda's.
pub const BOOTSTRAP: &str = "bootstrap";

/// The most that a package may hold, unpacked (Lambda quotas: 250 MB, layers included).
pub const LARGEST: u64 = 250 * 1024 * 1024;

/// Why a package cannot be written or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no program that Lambda could run.
    #[error(
        "cannot pack {} as a function: it is neither an executable for Linux nor a script that begins with #!", path.display()
    )]
    NotAProgram {
        /// The file.
        path: PathBuf,
    },
    /// It needs libraries that the package does not hold.
    #[error(
        "cannot pack {} as a function: it asks for {loader}, whose version at Lambda may be another; link it statically", path.display()
    )]
    Dynamic {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        loader: String,
    },
    /// It is larger than Lambda allows.
    #[error("{} holds more than {} MiB, the most that Lambda unpacks", path.display(), LARGEST >> 20)]
    TooLarge {
        /// The program or the package.
        path: PathBuf,
    },
    /// It is no zip archive, or a damaged one, or one with something that has no place in a package.
    #[error("{} is not a function's package: {problem}", path.display())]
    Damaged {
        /// The package.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Signatures of the format's three kinds of records.
const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;

/// Methods.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// The kinds of a Unix mode that matter here.
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;

#[cfg(test)]
mod tests;
