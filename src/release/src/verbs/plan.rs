//! `release plan VERSION`: what would happen, and when, without touching anything.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use rollout::timeline::{Severity, Traffic};

use super::stage::rate;
use crate::bundles;
use crate::error::Error;
use crate::exit_codes;
use crate::foreseen::{Foreseen, strategies};
use crate::package::Package;
use crate::report::{Format, bar, clock};

/// Show when traffic would move, what each alarm could do, and what cannot work; touches nothing
///
/// The alarms are those of release.toml. An alarm that cannot do what it is there for ends in exit code 5, as
/// a gate's refusal does. Example:
///
///     release plan 2.0.0 --strategy linear --rate 20/s
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The version to be released, as its bundle is called.
    version: String,
    /// How traffic moves: a strategy of release.toml.
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Requests a second of the target's time [default: what a rehearsal generates].
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
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
    let config = &package.config;
    let (name, _) = config.strategy(arguments.strategy.as_deref())?;
    let rate = arguments
        .rate
        .unwrap_or(config.stage.traffic / config.stage.speed);
    let mut known = strategies(config, Some(name))?;
    let Some((name, routing)) = known.pop() else {
        return Err(Error::Usage(format!("strategy {name} has no traffic plan")));
    };
    let foreseen = Foreseen::of(config, name, routing, Traffic::of(rate))?;
    super::print(&match arguments.format {
        Format::Human => text(&arguments.version, &foreseen),
        Format::Json => serde_json::to_string(&foreseen).unwrap_or_default() + "\n",
    })?;
    let broken = foreseen
        .findings
        .iter()
        .any(|said| said.severity == Severity::Error);
    Ok(if broken {
        exit_codes::REFUSED
    } else {
        exit_codes::SUCCESS
    })
}

fn text(version: &str, foreseen: &Foreseen) -> String {
    let mut text = format!("plan for {version}\n\n");
    for weight in &foreseen.timeline.weights {
        let _ = writeln!(
            text,
            "  {:>8}  {} {version} {} %",
            clock(weight.at),
            bar(weight.green),
            weight.green
        );
    }
    foreseen.tell(&mut text);
    text
}
