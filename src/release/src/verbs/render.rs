//! `release render VERSION`: what the templates come to, without touching anything.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::bundles;
use crate::error::Error;
use crate::exit_codes;
use crate::package::{Package, foreseen_arn};
use crate::target::Target;
use crate::template::{APPSPEC, TASK_DEFINITION};

/// Show the rendered task definition and AppSpec of a version; changes nothing
#[derive(Debug, Args)]
pub struct Arguments {
    /// The version to render.
    version: String,
    /// How traffic would move, which is where hooks come from [default: release.toml].
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Where it would be released; without it, a stage with made-up ports.
    #[arg(long, value_name = "FILE")]
    target: Option<PathBuf>,
    /// release.toml with its templates beside it, instead of the bundle's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of bundles [default: $`SEREIN_BUNDLES`, or .serein/bundles found upwards].
    #[arg(long, value_name = "DIR")]
    bundles: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let bundles = bundles::directory(arguments.bundles.as_deref());
    let package = Package::open(&bundles, &arguments.version, arguments.config.as_deref())?;
    let target = match &arguments.target {
        Some(path) => Target::load(path)?,
        None => Target::stand_in(&package.config),
    };
    // Rendered for reading as text, then checked as a release would check it.
    let (_, task_definition) = package.render(TASK_DEFINITION, &target, None)?;
    let definition = package.definition(&target)?;
    let (_, strategy) = package.config.strategy(arguments.strategy.as_deref())?;
    let arn = foreseen_arn(&target);
    let appspec = package.appspec(&target, &strategy.hooks, &definition, &arn)?;
    let mut out = String::new();
    for (name, text) in [(TASK_DEFINITION, &task_definition), (APPSPEC, &appspec)] {
        let name = name.trim_end_matches(".j2");
        let _ = writeln!(out, "# {name}\n{}\n", text.trim());
    }
    crate::verbs::print(out.trim_end_matches('\n'))?;
    crate::verbs::print("\n")?;
    Ok(exit_codes::SUCCESS)
}
