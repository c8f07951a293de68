//! Hook functions: what stands in for Lambda.
//!
//! CodeDeploy calls a function by name or ARN with exactly two fields, the deployment's id and the
//! execution's id, ignores what it returns, and waits for somebody to answer
//! `PutLifecycleEventHookExecutionStatus` with that id (CodeDeploy user guide, "AppSpec 'hooks'
//! section"). So a function here is an asynchronous closure that gets that payload and may answer
//! through the API as on AWS. One that fails is only logged: the deployment goes on waiting.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use futures_util::future::BoxFuture;
use serde_json::Value;

type Function = Arc<dyn Fn(Value) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The functions of the stage, by name. Clones share everything.
#[derive(Clone, Default)]
pub struct Functions(Arc<RwLock<BTreeMap<String, Function>>>);

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions").finish_non_exhaustive()
    }
}

impl Functions {
    /// No functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a function, or replaces it.
    pub fn put<F, R>(&self, name: impl Into<String>, function: F)
    where
        F: Fn(Value) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut functions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        functions.insert(
            name.into(),
            Arc::new(move |payload| Box::pin(function(payload))),
        );
    }

    /// Begins an invocation. `false`: there is no such function.
    pub(crate) fn invoke(&self, name_or_arn: &str, payload: Value) -> bool {
        let name = function_name(name_or_arn).to_owned();
        let functions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(function) = functions.get(&name).cloned() else {
            return false;
        };
        tokio::spawn(async move {
            if let Err(error) = function(payload).await {
                tracing::warn!(%name, %error, "a hook function failed");
            }
        });
        true
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
