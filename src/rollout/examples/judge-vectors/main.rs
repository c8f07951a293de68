//! Runs test vectors: `cargo run -p rollout --example judge-vectors -- IN_DIR OUT_DIR`.
//!
//! Every `*.json` of `IN_DIR` is one case in the format of `tests/vectors/canary/README.md`; for
//! each a file of the same name is written to `OUT_DIR`, in the shape of its `expected`. What
//! cannot be run (unknown fields, an unknown kind, a configuration that is refused) is told on
//! the standard error by file; the others are run all the same, and the exit code is 1.

mod vectors;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vectors::VectorError;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [input, output] = arguments.as_slice() else {
        eprintln!("usage: judge-vectors IN_DIR OUT_DIR");
        return ExitCode::from(2);
    };
    match all(input, output) {
        Ok((_, 0)) => ExitCode::SUCCESS,
        Ok((done, failed)) => {
            eprintln!("{done} vectors were run, {failed} could not be");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How many were run, and how many could not be.
fn all(input: &Path, output: &Path) -> Result<(usize, usize), VectorError> {
    let files = vectors::files(input)?;
    std::fs::create_dir_all(output).map_err(|error| VectorError::io(output, error))?;
    let (mut done, mut failed) = (0, 0);
    for file in files {
        match one(&file, output) {
            Ok(()) => done += 1,
            Err(error) => {
                eprintln!("{error}");
                failed += 1;
            }
        }
    }
    Ok((done, failed))
}

fn one(file: &Path, output: &Path) -> Result<(), VectorError> {
    let result = vectors::run(&vectors::read(file)?, file)?;
    let to = output.join(file.file_name().unwrap_or_default());
    let mut text = serde_json::to_string_pretty(&result).map_err(|error| VectorError::Invalid {
        file: file.to_owned(),
        reason: error.to_string(),
    })?;
    text.push('\n');
    std::fs::write(&to, text).map_err(|error| VectorError::io(&to, error))
}
