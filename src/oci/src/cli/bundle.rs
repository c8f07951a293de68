//! `oci bundle`

use std::error::Error;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::Args;
use oci::bundle::{Existing, Sources, write};
use oci::image::write_archive;

use super::image::ImageArguments;

/// Make a bundle of an image, templates and migrations.
///
/// The directory that is made holds bundle.json, image.tar, release.toml, templates/, migrations/ and perhaps
/// static/. It appears whole or not at all. Prints the digest of the bundle.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace what is at the directory to make
    #[arg(long)]
    replace: bool,
    /// Name of the application
    #[arg(long, default_value = "app")]
    name: String,
    /// Version of the application
    #[arg(long)]
    version: String,
    /// Source revision, such as a commit
    #[arg(long)]
    revision: String,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    image: ImageArguments,
    /// Directory of templates: task definition, `AppSpec`
    #[arg(long, value_name = "DIR")]
    templates: PathBuf,
    /// Directory of migrations: `NNNN_expand_name.sql`, `NNNN_contract_name.sql`
    #[arg(long, value_name = "DIR")]
    migrations: PathBuf,
    /// How the application is released
    #[arg(long, value_name = "FILE")]
    release_toml: PathBuf,
    /// Directory of static assets
    #[arg(long = "static", value_name = "DIR")]
    static_dir: Option<PathBuf>,
    /// Version of a tool that made the application, such as rustc=1.95.0
    #[arg(long = "tool", value_name = "NAME=VERSION", value_parser = super::pair)]
    tools: Vec<(String, String)>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The image archive, made before
    #[arg(long = "image", value_name = "FILE", conflicts_with_all = ["labels", "env"])]
    archive: Option<PathBuf>,
    /// The application: its image is made first, as `oci image` would
    #[arg(long, value_name = "FILE")]
    app: Option<PathBuf>,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let made = tempfile::tempdir()?;
        // Whatever the umask, what is made here is read again.
        set_permissions(made.path(), Permissions::from_mode(0o700))?;
        let image = match (self.what.archive, self.what.app) {
            (Some(image), _) => image,
            (None, Some(app)) => {
                let revision = Some(self.revision.clone());
                let spec =
                    self.image
                        .spec(&app, self.name.clone(), self.version.clone(), revision)?;
                let image = made.path().join("image.tar");
                write_archive(&spec, &image)?;
                set_permissions(&image, Permissions::from_mode(0o600))?;
                image
            }
            (None, None) => return Err("neither an image nor an application was given".into()),
        };
        let sources = Sources {
            name: self.name,
            version: self.version,
            revision: self.revision,
            image,
            templates: self.templates,
            migrations: self.migrations,
            release_toml: self.release_toml,
            static_dir: self.static_dir,
            tools: self.tools.into_iter().collect(),
        };
        let existing = if self.replace {
            Existing::Replace
        } else {
            Existing::Refuse
        };
        let bundle = write(&sources, &self.out, existing)?;
        super::print(&format!("{}\n", bundle.digest()))
    }
}
