//! `oci`: makes, inspects, unpacks and pushes images and bundles.
//!
//! What a script wants (a digest, a path) goes to standard output, alone on a line; everything else
//! goes to standard error. Exit code 0: done; 1: it failed, and the message says what and where; 2: it
//! was called wrongly.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Command::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
