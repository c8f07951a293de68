//! The Lambda functions of a rehearsal: what Terraform makes at AWS, made on a stage.
//!
//! The stage runs the very package that Lambda would get. A strategy without hooks needs none, so a
//! missing package is no reason not to rehearse it.

use std::collections::BTreeMap;
use std::path::Path;

use stage::Stage;
use stage::functions::FunctionOptions;

use super::{Setting, logs};
use crate::config::{Config, Function};
use crate::error::Error;
use crate::target::{Target, function_name};

/// Which functions there are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Functions {
    /// These; a rehearsal fails without them.
    Needed(Vec<String>),
    /// All whose package is there: who will release here is not known yet.
    Available,
}

impl Functions {
    fn wants(&self, name: &str, package: &Path) -> bool {
        match self {
            Functions::Needed(names) => names.iter().any(|needed| needed == name),
            Functions::Available => package.is_file(),
        }
    }
}

/// The variable of `src/hook` that only the stage knows.
const TEST_URL: &str = "HOOK_TEST_URL";

/// Makes the functions; returns their ARNs by name.
pub fn make(
    config: &Config,
    setting: &Setting,
    stage: &Stage,
) -> Result<BTreeMap<String, String>, Error> {
    let mut made = BTreeMap::new();
    for (name, function) in &config.stage.functions {
        let package = setting.packages.join(&function.package);
        if !setting.functions.wants(name, &package) {
            continue;
        }
        if !package.is_file() {
            return Err(Error::NoPackage {
                name: name.clone(),
                path: package,
                dir: setting.packages.clone(),
            });
        }
        let options = options(function, &package, stage);
        let arn = stage
            .functions()
            .create(&function_name(&config.application.name, name), options)
            .map_err(|error| Error::Stage(error.to_string()))?;
        made.insert(name.clone(), arn);
    }
    Ok(made)
}

fn options(function: &Function, package: &Path, stage: &Stage) -> FunctionOptions {
    let mut options = FunctionOptions::new(package);
    options.timeout = function.timeout;
    options.memory_mb = function.memory;
    options.environment.clone_from(&function.environment);
    options
        .environment
        .entry(TEST_URL.to_owned())
        .or_insert_with(|| stage.test_url());
    options
}

/// What functions said last, a sentence each; nothing of one that was not called.
pub fn said<'a>(
    stage: &Stage,
    target: &Target,
    names: impl IntoIterator<Item = &'a String>,
) -> Vec<String> {
    names
        .into_iter()
        .filter_map(|name| {
            let log = stage.functions().log(target.hooks.get(name)?);
            let said = last_words(&logs::end_of(&log))?;
            Some(format!("the function {name} said: {said}"))
        })
        .collect()
}

/// The `message` of the last JSON object in a log, or what Lambda says of a call that failed after it.
fn last_words(lines: &[String]) -> Option<String> {
    lines.iter().rev().find_map(|line| {
        let json: Option<serde_json::Value> = serde_json::from_str(line).ok();
        if let Some(message) = json.as_ref().and_then(|json| json.get("message")) {
            return message.as_str().map(str::to_owned);
        }
        let failed = line.contains(" Error: ") || line.contains(" Task timed out after ");
        failed.then(|| line.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(log: &str) -> Option<String> {
        last_words(&log.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_functions_last_words() {
        let verdict = "START RequestId: a Version: $LATEST\n\
            {\"level\":\"ERROR\",\"message\":\"green is refused\"}\n\
            END RequestId: a\nREPORT RequestId: a\tDuration: 1.00 ms\n";
        assert_eq!(words(verdict).as_deref(), Some("green is refused"));
        let crash = format!(
            "{verdict}RequestId: b Error: Runtime exited with error: signal 9\nRuntime.ExitError\nEND RequestId: b\n"
        );
        assert!(words(&crash).is_some_and(|words| words.contains("signal 9")));
        assert_eq!(words("START RequestId: a\nEND RequestId: a\n"), None);
        assert_eq!(words(""), None);
    }
}
