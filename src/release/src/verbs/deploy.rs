//! `release VERSION`: the whole release.

use std::path::PathBuf;

use clap::Args;

use crate::bundles;
use crate::error::Error;
use crate::exit_codes;
use crate::package::Package;

/// Release a version.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The version to release, as its bundle is called.
    version: Option<String>,
    /// Directory of bundles [default: $SEREIN_BUNDLES, or .serein/bundles found upwards].
    #[arg(long, value_name = "DIR")]
    bundles: Option<PathBuf>,
    /// release.toml with its templates beside it, instead of the bundle's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let version = arguments
        .version
        .as_deref()
        .ok_or_else(|| Error::Usage("which version? try `release help`".to_owned()))?;
    let bundles = bundles::directory(arguments.bundles.as_deref());
    let _package = Package::open(&bundles, version, arguments.config.as_deref())?;
    Ok(exit_codes::SUCCESS)
}
