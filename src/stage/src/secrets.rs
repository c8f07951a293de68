//! The stage's secret store: what Secrets Manager and the Parameter Store are to ECS.
//!
//! A container definition names a secret by `valueFrom`; ECS resolves it when the task starts, and
//! the task fails to start if that is not possible. The text of that failure is what a person
//! sees in `stoppedReason`, so it is kept here in ECS's form. Values are never shown: neither
//! type here prints one.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

/// Secrets by ARN (or parameter name). Clones share everything.
#[derive(Clone, Default)]
pub struct Secrets {
    values: Arc<RwLock<BTreeMap<String, String>>>,
}

/// Why a secret could not be resolved; the text is the `stoppedReason` of an ECS task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ResourceInitializationError: unable to pull secrets or registry auth: {0}")]
pub struct SecretError(String);

impl Secrets {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a secret, or replaces its value.
    pub fn put(&self, arn: impl Into<String>, value: impl Into<String>) {
        let mut values = self
            .values
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        values.insert(arn.into(), value.into());
    }

    /// The value that a container definition's `valueFrom` names.
    pub fn resolve(&self, value_from: &str) -> Result<String, SecretError> {
        let values = self
            .values
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        values
            .get(value_from)
            .cloned()
            .ok_or_else(|| SecretError(format!("ResourceNotFoundException: {value_from}")))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
