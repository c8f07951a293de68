//! `oci inspect`

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use oci::archive::Archive;
use oci::bundle::{Bundle, MigrationKind};
use serde_json::json;

use super::{Format, size};

/// Verify an image archive or a bundle, and show what is in it.
///
/// Every digest is compared before anything is shown; whatever differs is an error.
#[derive(Args)]
pub(crate) struct Arguments {
    /// An image archive, or the directory of a bundle
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// How to show it
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let text = if self.path.is_dir() {
            let bundle = Bundle::open(&self.path)?;
            let image = bundle.image()?;
            match self.format {
                Format::Human => bundle_for_people(&bundle, &image)?,
                Format::Json => {
                    let value = json!({
                        "digest": bundle.digest(),
                        "bundle": bundle.manifest(),
                        "image": image_for_programs(&image),
                    });
                    format!("{value:#}\n")
                }
            }
        } else {
            let image = Archive::open(&self.path)?;
            match self.format {
                Format::Human => image_for_people(&image)?,
                Format::Json => format!("{:#}\n", image_for_programs(&image)),
            }
        };
        super::print(&text)
    }
}

fn image_for_programs(image: &Archive) -> serde_json::Value {
    json!({
        "digest": image.manifest_digest(),
        "compressed_size": image.compressed_size(),
        "uncompressed_sizes": image.uncompressed_sizes(),
        "manifest": image.manifest(),
        "config": image.config(),
    })
}

fn image_for_people(image: &Archive) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let config = image.config();
    let run = &config.config;
    writeln!(out, "image     {}", image.manifest_digest())?;
    for (name, value) in &image.manifest().annotations {
        if let Some(name) = name.strip_prefix("org.opencontainers.image.") {
            writeln!(out, "{name:<9} {value}")?;
        }
    }
    writeln!(out, "platform  {}/{}", config.os, config.architecture)?;
    let command: Vec<_> = run
        .entrypoint
        .iter()
        .chain(&run.cmd)
        .map(String::as_str)
        .collect();
    writeln!(out, "runs      {}", command.join(" "))?;
    writeln!(
        out,
        "user      {}",
        if run.user.is_empty() {
            "root"
        } else {
            &run.user
        }
    )?;
    if !run.exposed_ports.is_empty() {
        let ports: Vec<_> = run.exposed_ports.iter().map(String::as_str).collect();
        writeln!(out, "ports     {}", ports.join(", "))?;
    }
    writeln!(
        out,
        "size      {} compressed",
        size(image.compressed_size())
    )?;
    let mut comments = config
        .history
        .iter()
        .filter(|line| !line.empty_layer)
        .map(|line| line.created_by.as_deref());
    for (layer, uncompressed) in image.layers().iter().zip(image.uncompressed_sizes()) {
        let comment = comments.next().flatten().unwrap_or_default();
        let (stored, uncompressed) = (size(layer.size), size(*uncompressed));
        writeln!(
            out,
            "layer     {}  {stored:>9} of {uncompressed:>9}  {comment}",
            layer.digest
        )?;
    }
    Ok(out)
}

fn bundle_for_people(bundle: &Bundle, image: &Archive) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    writeln!(out, "bundle    {}", bundle.digest())?;
    writeln!(out, "name      {}", bundle.name())?;
    writeln!(out, "version   {}", bundle.version())?;
    writeln!(out, "revision  {}", bundle.revision())?;
    for migration in bundle.migrations() {
        let kind = match migration.kind {
            MigrationKind::Expand => "expand",
            MigrationKind::Contract => "contract",
        };
        writeln!(
            out,
            "migration {:04} {kind} {}",
            migration.number, migration.name
        )?;
    }
    for (tool, version) in &bundle.manifest().tools {
        writeln!(out, "tool      {tool} {version}")?;
    }
    for (name, file) in &bundle.manifest().files {
        writeln!(
            out,
            "file      {}  {:>9}  {name}",
            file.sha256.hex(),
            size(file.size)
        )?;
    }
    out.push('\n');
    out.push_str(&image_for_people(image)?);
    Ok(out)
}
