//! `oci image`

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::Args;
use oci::elf;
use oci::image::{ImageSpec, Written, write_archive};

/// Make the image of a statically linked application.
///
/// The image holds the application as /bin/app, Mozilla's root certificates, users, /etc/hosts and the mount
/// points that a read-only root needs. It runs as user 65532:65532 and exposes port 8080. The archive is an
/// OCI layout that skopeo, podman and `docker load` accept. Prints the digest of the image.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    image: ImageArguments,
    /// The archive to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    app: AppArguments,
    /// Repository name of the image
    #[arg(long, default_value = "app")]
    name: String,
    /// Version: the image's tag
    #[arg(long)]
    version: String,
    /// Source revision, such as a commit
    #[arg(long)]
    revision: Option<String>,
}

/// What an image is made of: shared with `oci bundle`.
#[derive(Args)]
pub(crate) struct ImageArguments {
    /// When the source was made, in seconds since the epoch
    #[arg(
        long,
        value_name = "SECONDS",
        env = "SOURCE_DATE_EPOCH",
        default_value_t = 0
    )]
    created: u64,
    /// A further label of the image
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = super::pair)]
    labels: Vec<(String, String)>,
    /// An environment variable of the application
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = super::pair)]
    env: Vec<(String, String)>,
}

#[derive(Args)]
struct AppArguments {
    /// The application: a statically linked executable
    #[arg(long, value_name = "FILE")]
    app: PathBuf,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let spec = self
            .image
            .spec(&self.app.app, self.name, self.version, self.revision)?;
        let written = write_archive(&spec, &self.out)?;
        report(&written);
        super::print(&format!("{}\n", written.manifest_digest))
    }
}

/// Tells a person how large the image became.
fn report(written: &Written) {
    let uncompressed = written
        .layers
        .iter()
        .map(|layer| layer.uncompressed_size)
        .sum();
    let (compressed, uncompressed) = (
        super::size(written.compressed_size),
        super::size(uncompressed),
    );
    eprintln!(
        "{} layers, {compressed} compressed, {uncompressed} uncompressed",
        written.layers.len()
    );
}

impl ImageArguments {
    pub(super) fn spec(
        self,
        app: &Path,
        name: String,
        version: String,
        revision: Option<String>,
    ) -> Result<ImageSpec, Box<dyn Error>> {
        let mut spec = ImageSpec::application(name, version, app);
        let executable =
            elf::look(app).map_err(|e| format!("cannot read {}: {e}", app.display()))?;
        let Some(executable) = executable else {
            return Err(format!("{} is not an executable (64-bit ELF)", app.display()).into());
        };
        if let Some(loader) = executable.loader {
            return Err(format!(
                "{} is dynamically linked: it asks for {loader}, which the image does not have; \
                 build it with RUSTFLAGS=\"-C target-feature=+crt-static\" and an explicit --target",
                app.display()
            )
            .into());
        }
        let Some(architecture) = executable.architecture else {
            return Err(format!(
                "{} is for an architecture that ECS does not run",
                app.display()
            )
            .into());
        };
        architecture.clone_into(&mut spec.architecture);
        spec.created = self.created;
        spec.revision = revision;
        spec.labels.extend(self.labels);
        spec.env.extend(self.env);
        Ok(spec)
    }
}
