//! The stage's secret store: what Secrets Manager and the Parameter Store are to ECS.
//!
//! A container definition names a secret by `valueFrom`; ECS resolves it when the task starts, and
//! the task fails to start if that is not possible. The text of that failure is all a person sees,
//! in `stoppedReason`, so it is kept here in ECS's form. A value is never shown: no type here prints
//! one, and no message quotes one.
//!
//! Forms of `valueFrom` (ECS developer guide, "Pass Secrets Manager secrets through Amazon ECS
//! environment variables" and "Pass Systems Manager parameters …"):
//!
//! | form | names |
//! | --- | --- |
//! | `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME` | a secret as a whole |
//! | the same`:KEY:STAGE:ID` | a member of its JSON, a version by stage or by id; each may be empty |
//! | `arn:aws:ssm:REGION:ACCOUNT:parameter/NAME` | a parameter |
//! | `NAME` | a parameter of the stage's own region |

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::Value;

/// Secrets by ARN, and parameters by ARN or name. Clones share everything.
#[derive(Clone, Default)]
pub struct Secrets {
    secrets: Arc<RwLock<BTreeMap<String, Versions>>>,
}

/// A secret keeps what it was before: Secrets Manager's stages AWSCURRENT and AWSPREVIOUS.
struct Versions {
    count: u64,
    current: String,
    previous: Option<String>,
}

/// Why a secret could not be resolved; the text is the `stoppedReason` of an ECS task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "ResourceInitializationError: unable to pull secrets or registry auth: execution resource \
     retrieval failed: unable to retrieve {0}"
)]
pub struct SecretError(String);

/// ECS has tried no more than once when the answer leaves no hope.
const TRIES: &str = "service call has been retried 1 time(s)";

impl Secrets {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a secret or a parameter under its ARN; returns the id of the new version. Tasks that run
    /// keep the value that they were started with.
    pub fn put(&self, arn: impl Into<String>, value: impl Into<String>) -> String {
        let (arn, value) = (arn.into(), value.into());
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.entry(arn.clone()).or_insert_with(|| Versions {
            count: 0,
            current: String::new(),
            previous: None,
        });
        if secret.count > 0 {
            secret.previous = Some(std::mem::take(&mut secret.current));
        }
        secret.current = value;
        secret.count += 1;
        version_id(&arn, secret.count)
    }

    /// Removes a secret; returns whether it was there.
    pub fn delete(&self, arn: &str) -> bool {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        secrets.remove(arn).is_some()
    }

    /// The value that a container definition's `valueFrom` names.
    ///
    /// # Errors
    /// What is not there: the secret, the version, or the key in its JSON.
    pub fn resolve(&self, value_from: &str) -> Result<String, SecretError> {
        if value_from.starts_with("arn:") && value_from.contains(":secretsmanager:") {
            self.secret(value_from)
        } else {
            self.parameter(value_from)
        }
    }

    fn secret(&self, value_from: &str) -> Result<String, SecretError> {
        let parts: Vec<&str> = value_from.split(':').collect();
        let (arn, rest) = parts.split_at(parts.len().min(7));
        let arn = arn.join(":");
        let failed = |problem: String| SecretError(format!("secret from asm: {problem}"));
        let fetch = |problem: &str| {
            failed(format!(
                "{TRIES}: failed to fetch secret {arn} from secrets manager: \
                 ResourceNotFoundException: {problem}"
            ))
        };
        // Either nothing follows the ARN, or all three.
        let [key, stage, id] = match rest {
            [] => [""; 3],
            [key, stage, id] => [*key, *stage, *id],
            _ => {
                let form = "an ARN, or an ARN with :json-key:version-stage:version-id";
                return Err(failed(format!(
                    "invalid valueFrom {value_from}: want {form}"
                )));
            }
        };
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let secret = secrets
            .get(&arn)
            .ok_or_else(|| fetch("Secrets Manager can't find the specified secret."))?;
        let by_stage = match stage {
            "" | "AWSCURRENT" => Some((secret.count, &secret.current)),
            "AWSPREVIOUS" => secret
                .previous
                .as_ref()
                .map(|value| (secret.count - 1, value)),
            _ => None,
        };
        let by_id = |id: &str| {
            let current = (secret.count, Some(&secret.current));
            let previous = (secret.count - 1, secret.previous.as_ref());
            [current, previous].into_iter().find_map(|(count, value)| {
                value
                    .filter(|_| version_id(&arn, count) == id)
                    .map(|value| (count, value))
            })
        };
        let found = match (stage, id) {
            (_, "") => by_stage,
            ("", id) => by_id(id),
            // Both must mean the same version.
            (_, id) => by_stage.filter(|(count, _)| version_id(&arn, *count) == id),
        };
        let (_, value) = found.ok_or_else(|| {
            let (what, which) = if id.is_empty() {
                ("staging label", stage)
            } else {
                ("VersionId", id)
            };
            fetch(&format!(
                "Secrets Manager can't find the specified secret value for {what}: {which}"
            ))
        })?;
        if key.is_empty() {
            return Ok(value.clone());
        }
        let missing = |problem: &str| failed(format!("{TRIES}: {problem}"));
        // Not the parser's own message: it may quote the value.
        let Ok(Value::Object(members)) = serde_json::from_str(value) else {
            return Err(missing(&format!(
                "retrieved secret from Secrets Manager is not a JSON object, and the key {key} was \
                 asked for"
            )));
        };
        match members.get(key) {
            None => Err(missing(&format!(
                "retrieved secret from Secrets Manager did not contain json key {key}"
            ))),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Ok(other.to_string()),
        }
    }

    fn parameter(&self, value_from: &str) -> Result<String, SecretError> {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let name = |arn: &str| {
            let name = arn.split_once(":parameter/").map_or(arn, |(_, name)| name);
            name.trim_start_matches('/').to_owned()
        };
        // A name is one of the stage's region, and the stage has one region.
        let found = secrets.get(value_from).or_else(|| {
            let wanted = (!value_from.starts_with("arn:")).then(|| name(value_from))?;
            let mut parameters = secrets
                .iter()
                .filter(|(arn, _)| arn.contains(":parameter/"));
            parameters
                .find(|(arn, _)| name(arn) == wanted)
                .map(|(_, versions)| versions)
        });
        let invalid = || {
            SecretError(format!(
                "secrets from ssm: {TRIES}: invalid parameters: {value_from}"
            ))
        };
        found
            .map(|versions| versions.current.clone())
            .ok_or_else(invalid)
    }
}

/// A version's id, as a UUID looks, the same for the same secret and number.
fn version_id(arn: &str, number: u64) -> String {
    use sha2::{Digest as _, Sha256};
    let hash = Sha256::digest(format!("{arn} {number}"));
    let hex = hex::encode(&hash[..16]);
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-")
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(secrets.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ARN: &str = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:demo/db-AbCdEf";

    fn with(value: &str) -> Secrets {
        let secrets = Secrets::new();
        secrets.put(ARN, value);
        secrets
    }

    fn from(rest: &str) -> String {
        format!("{ARN}{rest}")
    }

    #[test]
    fn a_secret_as_a_whole_and_by_key() {
        let secrets = with(r#"{"password":"p:w","port":5432}"#);
        for (rest, value) in [
            ("", r#"{"password":"p:w","port":5432}"#),
            (":::", r#"{"password":"p:w","port":5432}"#),
            (":password::", "p:w"),
            (":password:AWSCURRENT:", "p:w"),
            (":port::", "5432"),
        ] {
            assert_eq!(secrets.resolve(&from(rest)).as_deref(), Ok(value), "{rest}");
        }
    }

    #[test]
    fn versions_by_stage_and_by_id() {
        let secrets = Secrets::new();
        let first = secrets.put(ARN, "one");
        assert!(
            secrets.resolve(&from("::AWSPREVIOUS:")).is_err(),
            "there is none yet"
        );
        let second = secrets.put(ARN, "two");
        for (rest, value) in [
            ("::AWSPREVIOUS:".into(), "one"),
            (format!(":::{first}"), "one"),
            (format!(":::{second}"), "two"),
            (format!("::AWSCURRENT:{second}"), "two"),
        ] {
            assert_eq!(
                secrets.resolve(&from(&rest)).as_deref(),
                Ok(value),
                "{rest}"
            );
        }
        let contradiction = from(&format!("::AWSCURRENT:{first}"));
        assert!(secrets.resolve(&contradiction).is_err());
    }

    #[test]
    fn what_is_missing_is_named_as_ecs_does() {
        let secrets = with(r#"{"password":"hunter2"}"#);
        let other = ARN.replace("demo", "other");
        for (value_from, words) in [
            (
                other,
                "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
            ),
            (from(":user::"), "did not contain json key user"),
            (from("::OLD:"), "staging label: OLD"),
            (from(":password"), "invalid valueFrom"),
            (
                "/no/such".into(),
                "secrets from ssm: service call has been retried 1 time(s): invalid parameters: /no/such",
            ),
        ] {
            let error = secrets.resolve(&value_from).unwrap_err().to_string();
            let start = "ResourceInitializationError: unable to pull secrets or registry auth: ";
            assert!(error.starts_with(start), "{error}");
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_value_is_never_shown() {
        let secrets = with("hunter2");
        let error = secrets.resolve(&from(":key::")).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let debug = format!("{secrets:?}");
        assert!(debug.contains(ARN) && !debug.contains("hunter2"), "{debug}");
    }

    #[test]
    fn parameters_by_arn_and_by_name() {
        let secrets = Secrets::new();
        let arn = "arn:aws:ssm:eu-west-1:000000000000:parameter/demo/token";
        secrets.put(arn, "t");
        for name in [arn, "demo/token", "/demo/token"] {
            assert_eq!(secrets.resolve(name).as_deref(), Ok("t"), "{name}");
        }
        assert!(secrets.resolve("token").is_err());
        assert!(secrets.delete(arn));
        assert!(secrets.resolve(arn).is_err());
    }
}
