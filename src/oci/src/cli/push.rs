//! `oci push`

use std::error::Error;
use std::path::PathBuf;

use clap::Args;

/// Push an image to a registry, unchanged.
///
/// Blobs that the registry has are not sent again. The registry must answer the digest that the image has.
/// Registries on loopback are spoken to without TLS. The password is read from the environment, because
/// arguments are visible to every user of the machine. Prints the digest.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The image archive
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// Registry, repository and tag
    #[arg(value_name = "REGISTRY/REPOSITORY[:TAG]")]
    reference: String,
    /// User of the registry (ECR: AWS)
    #[arg(long, env = "OCI_USER", requires = "password")]
    user: Option<String>,
    /// Password or token of the user
    #[arg(long, env = "OCI_PASSWORD", hide_env_values = true)]
    password: Option<String>,
}

#[cfg(feature = "push")]
impl Arguments {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        use oci::push::{Credentials, push};

        let credentials = match (self.user, self.password) {
            (Some(user), Some(password)) => Credentials::Basic { user, password },
            _ => Credentials::Anonymous,
        };
        let archive = oci::archive::Archive::open(&self.archive)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let pushed = runtime.block_on(push(&archive, &self.reference, &credentials))?;
        eprintln!("{} blobs sent, {} were there", pushed.sent, pushed.present);
        super::print(&format!("{}\n", pushed.digest))
    }
}

#[cfg(not(feature = "push"))]
impl Arguments {
    #[expect(clippy::unused_self, reason = "as with the feature")]
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        Err(
            "this program was built without the feature `push`: cargo build -p oci --features push"
                .into(),
        )
    }
}
