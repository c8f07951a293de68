//! A function that is created ([`super::forward`]) is made here, too: CodeDeploy's hooks are called here.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::Account;
use crate::functions::FunctionOptions;

/// The path of `CreateFunction` (Lambda API reference).
pub(super) const CREATE: &str = "/2015-03-31/functions";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CreateFunction {
    function_name: String,
    code: Code,
    timeout: Option<u64>,
    memory_size: Option<u32>,
    environment: Option<Environment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Code {
    zip_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Environment {
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

impl Account {
    /// Makes the function of a `CreateFunction` that was answered. What its role, its VPC or its layers
    /// would do to it is not tried.
    pub(super) fn make_function(&self, request: &[u8]) -> Result<(), String> {
        let request: CreateFunction = serde_json::from_slice(request)
            .map_err(|error| format!("CreateFunction cannot be read: {error}"))?;
        let name = &request.function_name;
        let zip = request.code.zip_file.unwrap_or_default();
        let zip = STANDARD
            .decode(zip)
            .map_err(|error| format!("the package of {name} cannot be read: {error}"))?;
        let kept = |error: std::io::Error| format!("the package of {name} cannot be kept: {error}");
        let package = tempfile::NamedTempFile::new_in(&self.0.parts.dir).map_err(kept)?;
        std::fs::write(package.path(), zip).map_err(kept)?;
        let mut options = FunctionOptions::new(package.path());
        if let Some(timeout) = request.timeout {
            options.timeout = Duration::from_secs(timeout);
        }
        options.memory_mb = request.memory_size.unwrap_or(options.memory_mb);
        options.environment = request
            .environment
            .map(|environment| environment.variables)
            .unwrap_or_default();
        let made = self.0.parts.functions.create(name, options);
        made.map(drop).map_err(|error| error.to_string())
    }
}
