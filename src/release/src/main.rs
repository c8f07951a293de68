//! The release program: bundle + target + strategy -> AWS calls -> events -> people.
//!
//! `release VERSION` takes a bundle through the steps of a release ([`steps`]) against a target
//! ([`target`]): a stage on this machine (a rehearsal, the default), or an AWS stack. What happens
//! is announced as typed events and nothing else; reporters ([`report`]) and the record
//! ([`record`]) consume them. A verb is a file under [`verbs`].

#![expect(
    clippy::large_futures,
    reason = "the SDKs' futures are large, and this program holds a handful of them, once"
)]

mod announce;
mod aws;
mod bundles;
mod cli;
mod config;
mod counters;
mod definition;
mod error;
mod exit_codes;
mod forecast;
mod foreseen;
mod interrupt;
mod measured;
mod nearest;
mod outcome;
mod package;
mod record;
mod rehearsal;
mod report;
mod steps;
mod target;
mod template;
#[cfg(test)]
mod terraform_tests;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;
use error::Error;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    match cli::run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report_error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// The last line of a run that ended without an outcome.
fn report_error(error: &Error) {
    let style = console::Style::new().for_stderr().red().bold();
    eprintln!("{} {error}", style.apply_to("error:"));
}
