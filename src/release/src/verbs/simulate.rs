//! `release simulate VERSION`: what a bad version would cost, under every strategy, before there is one.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use rollout::plot;
use rollout::simulate::{Comparison, Row};
use rollout::timeline::Traffic;
use serde::Serialize;

use super::stage::rate;
use crate::bundles;
use crate::config::Config;
use crate::error::Error;
use crate::exit_codes;
use crate::forecast;
use crate::foreseen::{Foreseen, Said, percent, short, strategies, take_common};
use crate::measured::Measured;
use crate::package::Package;
use crate::report::{Format, clock};

/// Reckon what a bad version would cost under each strategy; touches nothing
///
/// Green is a version of which --error-rate of the requests fail. Each strategy of release.toml is played
/// with the alarm, with the judge, and with both; what has a formula is computed. Example:
///
///     release simulate 2.0.0 --rate 20/s --error-rate 0.02
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    /// The version whose bundle holds the configuration.
    version: String,
    /// Requests a second of the target's time [default: what a rehearsal generates].
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<f64>,
    /// The share of the bad version's requests that fail, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    error_rate: f64,
    /// The share of a good version's requests that fail, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    good_error_rate: f64,
    /// Only this strategy.
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// How many deployments are played in each case, 1 to 1000000.
    #[arg(long, default_value_t = 4000)]
    runs: u32,
    /// The seed of all chance: the same seed, the same numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the pictures to this directory: blast-radius.svg and trade-off.svg; of a record, also
    /// evidence.svg and rates.svg.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// A record of a rehearsal or release: rate and failures are taken from it, and what was
    /// predicted is shown beside what was measured.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "error_rate", "good_error_rate"])]
    record: Option<PathBuf>,
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

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    version: &'a str,
    rate: f64,
    error_rate: f64,
    good_error_rate: f64,
    strategies: Vec<Foreseen>,
    /// Findings of all strategies alike.
    #[serde(rename = "findings")]
    everywhere: Vec<Said>,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<&'a Measured>,
}

pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let bundles = bundles::directory(arguments.bundles.as_deref());
    let package = Package::open(&bundles, &arguments.version, arguments.config.as_deref())?;
    let config = &package.config;
    let measured = arguments
        .record
        .as_deref()
        .map(Measured::read)
        .transpose()?;
    let traffic = traffic(arguments, config, measured.as_ref());
    let strategies = strategies(config, arguments.strategy.as_deref())?;
    let comparison = Comparison {
        runs: arguments.runs,
        good_runs: arguments.runs,
        seed: arguments.seed,
        ..forecast::comparison(config, traffic, strategies.clone())
    };
    let rows = comparison
        .rows()
        .map_err(|error| Error::Usage(error.to_string()))?;
    let foreseen: Result<Vec<Foreseen>, Error> = strategies
        .into_iter()
        .map(|(strategy, routing)| Foreseen::of(config, strategy, routing, traffic))
        .collect();
    if let Some(directory) = &arguments.plots {
        draw(directory, &rows, measured.as_ref(), config)?;
    }
    let mut foreseen = foreseen?;
    let everywhere = take_common(&mut foreseen);
    let answer = Answer {
        version: package.bundle.version(),
        rate: traffic.rate,
        error_rate: traffic.regression,
        good_error_rate: traffic.failing,
        strategies: foreseen,
        everywhere,
        rows,
        measured: measured.as_ref(),
    };
    super::print(&match arguments.format {
        Format::Human => answer.text(),
        Format::Json => serde_json::to_string(&answer).unwrap_or_default() + "\n",
    })?;
    Ok(exit_codes::SUCCESS)
}

fn traffic(arguments: &Arguments, config: &Config, measured: Option<&Measured>) -> Traffic {
    if let Some(measured) = measured {
        return measured.traffic();
    }
    let rate = arguments
        .rate
        .unwrap_or(config.stage.traffic / config.stage.speed);
    Traffic {
        failing: arguments.good_error_rate,
        regression: arguments.error_rate,
        ..Traffic::of(rate)
    }
}

fn draw(
    directory: &Path,
    rows: &[Row],
    measured: Option<&Measured>,
    config: &Config,
) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(Error::io("create the directory", directory))?;
    let mut pictures = vec![
        ("blast-radius.svg", plot::blast_radius(rows)),
        ("trade-off.svg", plot::trade_off(rows)),
    ];
    if let Some(measured) = measured {
        pictures.push(("evidence.svg", measured.evidence(&config.judge.config())));
        pictures.push(("rates.svg", measured.rates(&config.judge.config())));
    }
    for (name, picture) in pictures {
        let path = directory.join(name);
        std::fs::write(&path, picture).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

impl Answer<'_> {
    fn text(&self) -> String {
        let mut text = format!(
            "a bad {} that fails {} of its requests, at {} requests a second ({} fail when all is well)\n",
            self.version,
            percent(self.error_rate),
            short(self.rate),
            percent(self.good_error_rate),
        );
        let _ = writeln!(
            text,
            "\n  {:<12} {:<21} {:>20} {:>12} {:>12} {:>13} {:>13}",
            "strategy",
            "watched by",
            "lost, mean (95 %)",
            "found after",
            "rolled back",
            "good version",
            "all traffic"
        );
        let _ = writeln!(
            text,
            "  {:<12} {:<21} {:>20} {:>12} {:>12} {:>13} {:>13}",
            "", "", "", "", "", "rolled back", "after"
        );
        let mut last = "";
        for row in &self.rows {
            let name = if row.strategy == last {
                ""
            } else {
                &row.strategy
            };
            last = &row.strategy;
            let bad = &row.bad;
            let _ = writeln!(
                text,
                "  {name:<12} {:<21} {:>20} {:>12} {:>12} {:>13} {:>13}",
                row.watch,
                format!("{} ({})", short(bad.failures.mean), short(bad.failures.q95)),
                bad.detection_s
                    .map_or_else(|| "never".to_owned(), |found| time(found.mean)),
                percent(bad.p_rollback),
                percent(row.good_rollback),
                time(row.t_full_s),
            );
        }
        for foreseen in &self.strategies {
            foreseen.tell(&mut text);
        }
        if !self.everywhere.is_empty() {
            let _ = writeln!(text, "\nunder every strategy:");
        }
        for said in &self.everywhere {
            said.tell(&mut text);
        }
        if let Some(measured) = self.measured {
            let _ = writeln!(text, "\nmeasured: {measured}");
        }
        text
    }
}

/// Seconds as minutes and seconds.
fn time(seconds: f64) -> String {
    clock(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
