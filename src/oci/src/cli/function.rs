//! `oci function`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

/// Pack a program as the deployment package of a Lambda function.
///
/// The package is a zip archive with the program as its `bootstrap`, for the runtime provided.al2023: the
/// same program gives the same bytes. Prints the digest of the package.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The program: a statically linked executable, or a script
    #[arg(long, value_name = "FILE")]
    bootstrap: PathBuf,
    /// The package to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let digest = oci::function::write(&self.bootstrap, &self.out)?;
        super::print(&format!("{digest}\n"))
    }
}
