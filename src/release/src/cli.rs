//! The command line: verbs, and `release VERSION` for the one that is used every day.

use clap::{Parser, Subcommand};

use crate::error::Error;
use crate::verbs;

/// Releases a web application on ECS with CodeDeploy, and rehearses it first.
///
/// `release VERSION` takes the bundle of that version through preflight, push, register, migrate,
/// deploy and watch. Without --target it does so on a stage of this machine: real containers, a
/// real database, real traffic, evaluated alarms and a real rollback.
#[derive(Debug, Parser)]
#[command(
    name = "release",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    deploy: verbs::deploy::Arguments,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Stage(verbs::stage::Arguments),
    Plan(verbs::plan::Arguments),
    Render(verbs::render::Arguments),
    Simulate(verbs::simulate::Arguments),
    Help(verbs::help::Arguments),
}

/// Runs what was asked for; the number is the exit code.
pub fn run(cli: Cli) -> Result<u8, Error> {
    match cli.verb {
        None => verbs::deploy::run(&cli.deploy),
        Some(Verb::Stage(arguments)) => verbs::stage::run(&arguments),
        Some(Verb::Plan(arguments)) => verbs::plan::run(&arguments),
        Some(Verb::Render(arguments)) => verbs::render::run(&arguments),
        Some(Verb::Simulate(arguments)) => verbs::simulate::run(&arguments),
        Some(Verb::Help(arguments)) => verbs::help::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
