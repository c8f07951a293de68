//! Lambda, as far as CodeDeploy's hooks need it.
//!
//! CodeDeploy calls a function by name or ARN with exactly two fields, the deployment's id and the
//! execution's id, ignores what it returns, and waits for somebody to answer
//! `PutLifecycleEventHookExecutionStatus` with that id (CodeDeploy user guide, "AppSpec 'hooks'
//! section"). So whatever becomes of a function is only logged here: if it crashes, or is silent, the
//! deployment goes on waiting until its hour is over, as on AWS.
//!
//! A function is the deployment package that Lambda would get, a zip with its `bootstrap`: the very file
//! is unpacked and run as a process of its own, which asks the Lambda runtime API for its events
//! ([`runtime_api`]) as it does there. For tests a function can also be an asynchronous closure.

mod definition;
mod environment;
mod program;
mod runtime_api;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use futures_util::future::BoxFuture;
use serde_json::Value;

pub use definition::{FunctionError, FunctionOptions};

use crate::{leftovers::Claim, runtime::spawn::Spawner};
use definition::Definition;
use program::Program;

/// What functions must know of the stage that they are on.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The stage's directory.
    pub claim: Claim,
    /// Where the AWS APIs answer.
    pub endpoint_url: String,
    pub region: String,
    pub account_id: String,
    pub access_key: String,
    pub secret_key: String,
}

type Closure = Arc<dyn Fn(Value) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

enum Function {
    Closure(Closure),
    Program(Program),
}

struct Inner {
    place: Place,
    functions: RwLock<BTreeMap<String, Function>>,
    // Dropped last: its end kills what is left.
    spawner: OnceLock<Arc<Spawner>>,
}

/// The functions of the stage, by name. Clones share everything.
#[derive(Clone)]
pub struct Functions(Arc<Inner>);

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions").finish_non_exhaustive()
    }
}

impl Functions {
    /// No functions.
    pub(crate) fn new(place: Place) -> Self {
        Self(Arc::new(Inner {
            place,
            functions: RwLock::default(),
            spawner: OnceLock::new(),
        }))
    }

    /// Puts a closure, or replaces what has the name.
    pub fn put<F, R>(&self, name: impl Into<String>, function: F)
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let function = Arc::new(move |payload| Box::pin(function(payload)) as BoxFuture<_>);
        self.insert(name.into(), Function::Closure(function));
    }

    /// Makes a function of a deployment package, as `CreateFunction` does, or replaces what has the name.
    /// Returns its ARN. Its process is started by the first call.
    ///
    /// Needs a Tokio runtime.
    ///
    /// # Errors
    /// What Lambda would refuse, and a package that cannot be unpacked.
    pub fn create(&self, name: &str, options: FunctionOptions) -> Result<String, FunctionError> {
        let spawner = self.spawner()?;
        let definition = Definition::new(name, options, &self.0.place)?;
        let arn = definition.arn.clone();
        let program = Program::new(definition, self.0.place.clone(), spawner);
        self.insert(name.to_owned(), Function::Program(program));
        Ok(arn)
    }

    /// Where a function's output is kept, and what Lambda says about its calls.
    pub fn log(&self, name: &str) -> PathBuf {
        definition::log(&self.0.place, function_name(name))
    }

    /// Begins a call, as CodeDeploy does: nobody waits for its result. `false`: there is no such function.
    pub fn invoke(&self, name_or_arn: &str, payload: Value) -> bool {
        let name = function_name(name_or_arn).to_owned();
        let functions = self.0.functions.read();
        let functions = functions.unwrap_or_else(PoisonError::into_inner);
        match functions.get(&name) {
            None => return false,
            Some(Function::Program(program)) => program.invoke(payload),
            Some(Function::Closure(function)) => {
                let function = Arc::clone(function);
                tokio::spawn(async move {
                    if let Err(error) = function(payload).await {
                        tracing::warn!(%name, %error, "a hook function failed");
                    }
                });
            }
        }
        true
    }

    /// Ends every function's process. Returns when they are gone.
    pub(crate) async fn shutdown(&self) {
        for function in self.take() {
            if let Function::Program(program) = function {
                program.end().await;
            }
        }
    }

    /// Ends every function's process, without waiting.
    pub(crate) fn close(&self) {
        drop(self.take());
    }

    fn take(&self) -> Vec<Function> {
        let functions = self.0.functions.write();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *functions).into_values().collect()
    }

    fn insert(&self, name: String, function: Function) {
        let functions = self.0.functions.write();
        let mut functions = functions.unwrap_or_else(PoisonError::into_inner);
        functions.insert(name, function);
    }

    /// The thread that makes the processes; there is none on a stage without such functions.
    fn spawner(&self) -> Result<Arc<Spawner>, FunctionError> {
        if let Some(spawner) = self.0.spawner.get() {
            return Ok(Arc::clone(spawner));
        }
        let spawner = Spawner::new().map_err(FunctionError::Thread)?;
        Ok(Arc::clone(self.0.spawner.get_or_init(|| Arc::new(spawner))))
    }
}

/// `name` of `name`, `name:alias` and `arn:aws:lambda:<region>:<account>:function:name[:alias]`.
fn function_name(name_or_arn: &str) -> &str {
    let rest = match name_or_arn.split_once(":function:") {
        Some((_, rest)) => rest,
        None => name_or_arn,
    };
    rest.split(':').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_name_alias_and_arn() {
        for given in [
            "CodeDeployHook_x",
            "CodeDeployHook_x:live",
            "arn:aws:lambda:eu-west-1:000000000000:function:CodeDeployHook_x",
            "arn:aws:lambda:eu-west-1:000000000000:function:CodeDeployHook_x:3",
        ] {
            assert_eq!(function_name(given), "CodeDeployHook_x");
        }
    }
}
