//! The web application that gets released: `/` shows a message from the database.
//!
//! It is small, and otherwise as an application on Fargate behind a load balancer should be; each
//! module opens with what that means for its part.

mod config;
mod connection;
mod database;
mod healthcheck;
mod log;
mod migrate;
mod random;
mod serve;
mod version;
mod web;

#[cfg(test)]
#[path = "../tests/it/support/postgres.rs"]
#[expect(
    clippy::unwrap_used,
    dead_code,
    reason = "shared with the integration tests, which use all of it"
)]
mod postgres;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::config::Reader;
use crate::migrate::Limits;

/// The system's allocator costs a fifth of the requests, and musl's much more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves a message from a PostgreSQL database.
#[derive(Parser)]
#[command(name = "app", version = version::NUMBER, after_long_help = config::HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Answer requests (the default). Never changes the schema.
    Serve,
    /// Run the expand migrations that the database lacks and this version needs.
    Migrate(Migrate),
    /// Ask the server on HOST and PORT whether it is ready: exit 0 or 1.
    Healthcheck,
}

#[derive(Args)]
struct Migrate {
    /// Print the steps of this version and their kind as JSON, and connect to nothing.
    #[arg(long)]
    list: bool,
    /// Seconds to wait for another migration to end.
    #[arg(long, default_value = "60", value_parser = seconds)]
    wait: Duration,
    /// Seconds to wait for a lock on a table before the step is tried again.
    #[arg(long, default_value = "3", value_parser = seconds)]
    lock_timeout: Duration,
    /// Seconds that one statement of a step may take.
    #[arg(long, default_value = "300", value_parser = seconds)]
    statement_timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("not a number of seconds, 0 to 86400".to_owned()),
    }
}

/// A wrong command line or environment, in the exit codes that serein's programs share.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().verb.unwrap_or(Verb::Serve) {
        Verb::Serve => serve(),
        Verb::Migrate(arguments) => migrate(&arguments),
        Verb::Healthcheck => healthcheck(),
    }
}

fn serve() -> ExitCode {
    let mut reader = Reader::of_process();
    let (log, config) = (reader.log(), reader.serve());
    let (log, config) = match reader.finish(log.zip(config)) {
        Ok(read) => read,
        Err(problems) => return wrong_usage(&problems),
    };
    log::start(log);
    end(runtime().and_then(|runtime| Ok(runtime.block_on(serve::run(config))?)))
}

fn migrate(arguments: &Migrate) -> ExitCode {
    if arguments.list {
        let steps: Vec<_> = version::STEPS
            .iter()
            .map(|step| json!({ "number": step.number, "step": step.name, "kind": step.kind }))
            .collect();
        println!("{}", json!({ "version": version::NUMBER, "steps": steps }));
        return ExitCode::SUCCESS;
    }
    let mut reader = Reader::of_process();
    let (log, database) = (reader.log(), reader.database());
    let (log, database) = match reader.finish(log.zip(database)) {
        Ok(read) => read,
        Err(problems) => return wrong_usage(&problems),
    };
    log::start(log);
    let limits = Limits {
        connect: Duration::from_secs(10),
        wait: arguments.wait,
        lock: arguments.lock_timeout,
        statement: arguments.statement_timeout,
    };
    end(runtime().and_then(|runtime| {
        runtime.block_on(async {
            let mut signals = serve::Signals::install()?;
            tokio::select! {
                report = migrate::run(&database, limits) => {
                    println!("{}", json!({ "version": version::NUMBER, "steps": report? }));
                    Ok(())
                }
                signal = signals.next() => {
                    Err(format!("migrate: {signal}; the step that was running is rolled back").into())
                }
            }
        })
    }))
}

fn healthcheck() -> ExitCode {
    let mut reader = Reader::of_process();
    let address = reader.probe();
    match reader.finish(address) {
        Ok(address) => end(healthcheck::run(address).map_err(Into::into)),
        Err(problems) => wrong_usage(&problems),
    }
}

type AnyError = Box<dyn std::error::Error>;

fn runtime() -> Result<Runtime, AnyError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("start the threads that serve: {error}").into())
}

fn end(result: Result<(), AnyError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("app: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wrong_usage(problems: &config::Problems) -> ExitCode {
    eprintln!("app: {problems}");
    ExitCode::from(WRONG_USAGE)
}
