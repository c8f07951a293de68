//! `release help [TOPIC]`: the command line, or a page about one thing.

use clap::{Args, CommandFactory as _, ValueEnum};

use crate::cli::Cli;
use crate::error::Error;
use crate::exit_codes;

/// Show the command line, or a page about one topic
#[derive(Debug, Args)]
pub struct Arguments {
    /// What to read about.
    topic: Option<Topic>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Topic {
    /// What the program's exit code says.
    ExitCodes,
}

pub fn run(arguments: &Arguments) -> Result<u8, Error> {
    let text = match arguments.topic {
        None => Cli::command().render_long_help().to_string(),
        Some(Topic::ExitCodes) => exit_code_page(),
    };
    crate::verbs::print(&text)?;
    Ok(exit_codes::SUCCESS)
}

fn exit_code_page() -> String {
    exit_codes::TABLE.iter().fold(
        "The exit code answers one question: who has the traffic?\n\n".to_owned(),
        |page, (code, sentence)| format!("{page}{code:>5}  {sentence}\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_exit_codes() {
        insta::assert_snapshot!(exit_code_page());
    }
}
