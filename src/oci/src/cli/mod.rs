//! One module a command, each with its arguments.

mod bundle;
mod function;
mod image;
mod inspect;
mod push;
mod unpack;

use std::error::Error;
use std::io::{self, Write};

use clap::{Parser, ValueEnum};

/// Makes, inspects, unpacks and pushes OCI images and bundles; packs Lambda functions.
///
/// The same inputs give the same bytes on any machine: nothing of the user, the clock, the locale or the
/// file system gets into an image, a bundle or a package.
#[derive(Parser)]
#[command(name = "oci", version, max_term_width = 100)]
pub(crate) enum Command {
    /// Make the image of a statically linked application.
    Image(image::Arguments),
    /// Make a bundle of an image, templates and migrations.
    Bundle(bundle::Arguments),
    /// Pack a program as the deployment package of a Lambda function.
    Function(function::Arguments),
    /// Verify an image archive or a bundle, and show what is in it.
    Inspect(inspect::Arguments),
    /// Unpack an image as a root file system.
    Unpack(unpack::Arguments),
    /// Push an image to a registry, unchanged.
    Push(push::Arguments),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Image(arguments) => arguments.run(),
            Self::Bundle(arguments) => arguments.run(),
            Self::Function(arguments) => arguments.run(),
            Self::Inspect(arguments) => arguments.run(),
            Self::Unpack(arguments) => arguments.run(),
            Self::Push(arguments) => arguments.run(),
        }
    }
}

/// How to show something.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
enum Format {
    /// For people.
    Human,
    /// For programs: one JSON object.
    Json,
}

/// Writes to standard output. A reader that has gone away (`oci inspect … | head`) is no error.
fn print(text: &str) -> Result<(), Box<dyn Error>> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e.into()),
        _ => Ok(()),
    }
}

/// `NAME=VALUE`
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Bytes as a person reads them: in units of 1024.
fn size(bytes: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        // Tenths, rounded down: enough for a person, and no floating point.
        Some((name, unit)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} B"),
    }
}
