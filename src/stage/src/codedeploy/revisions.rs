//! Revisions: what a deployment deploys, and where it is read from
//!
//! `RegisterApplicationRevision`, `GetApplicationRevision`, `BatchGetApplicationRevisions`,
//! `ListApplicationRevisions`
//!
//! The text of an AppSpec is given to nobody who asks for a deployment: `GetDeployment` shows its
//! sha256 only, and `GetApplicationRevision` gives the text for it.

use rollout::{
    Timestamp,
    appspec::AppSpec,
    deployment::{ErrorCode, ErrorInformation},
};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Answer, CodeDeploy, list_answer, names, page, refuse,
    state::{Application, RegisteredRevision},
};
use crate::wire::{
    ApiError,
    json::{read, time},
};

/// A revision that has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Revision {
    /// An object in S3.
    S3 {
        bucket: String,
        key: String,
        bundle_type: String,
        version: Option<String>,
        etag: Option<String>,
    },
    /// The AppSpec itself; `string` if it came as the deprecated `String` type.
    Content {
        content: String,
        sha256: String,
        string: bool,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the API")]
pub(super) struct Location {
    revision_type: Option<String>,
    s3_location: Option<S3Location>,
    app_spec_content: Option<Content>,
    string: Option<Content>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Location {
    bucket: Option<String>,
    key: Option<String>,
    bundle_type: Option<String>,
    version: Option<String>,
    e_tag: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Content {
    content: Option<String>,
    sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    application_name: Option<String>,
    description: Option<String>,
    revision: Option<Location>,
    #[serde(default)]
    revisions: Vec<Location>,
    sort_order: Option<String>,
    s3_bucket: Option<String>,
    s3_key_prefix: Option<String>,
    deployed: Option<String>,
    next_token: Option<String>,
}

fn invalid(message: impl Into<String>) -> ApiError {
    refuse("InvalidRevisionException", message)
}

fn sha256_of(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

impl Revision {
    /// Checks a location given to `CreateDeployment` or `RegisterApplicationRevision`.
    ///
    /// # Errors
    /// `RevisionRequiredException`, `InvalidRevisionException`.
    pub fn read(location: Option<Location>) -> Result<Self, ApiError> {
        let location = location.ok_or_else(|| {
            refuse(
                "RevisionRequiredException",
                "The revision ID was not specified.",
            )
        })?;
        match location.revision_type.as_deref() {
            Some("S3") => Self::read_s3(location.s3_location),
            Some("AppSpecContent") => Self::read_content(location.app_spec_content, false),
            Some("String") => Self::read_content(location.string, true),
            Some("GitHub") => Err(invalid(
                "GitHub revisions are not supported for ECS deployments.",
            )),
            Some(other) => Err(invalid(format!("'{other}' is not a type of revision"))),
            None => Err(refuse(
                "RevisionRequiredException",
                "The revision type was not specified.",
            )),
        }
    }

    fn read_s3(location: Option<S3Location>) -> Result<Self, ApiError> {
        let location = location.ok_or_else(|| invalid("s3Location is missing"))?;
        let (Some(bucket), Some(key)) = (location.bucket, location.key) else {
            return Err(invalid("s3Location needs bucket and key"));
        };
        let bundle_type = location.bundle_type.unwrap_or_default();
        if !matches!(bundle_type.as_str(), "YAML" | "JSON") {
            return Err(invalid("BundleType must be either YAML or JSON"));
        }
        let etag = location.e_tag.map(|etag| etag.trim_matches('"').to_owned());
        Ok(Self::S3 {
            bucket,
            key,
            bundle_type,
            version: location.version,
            etag,
        })
    }

    fn read_content(content: Option<Content>, string: bool) -> Result<Self, ApiError> {
        let content = content.ok_or_else(|| invalid("the content of the AppSpec is missing"))?;
        let text = content
            .content
            .ok_or_else(|| invalid("the content of the AppSpec is missing"))?;
        let sha256 = sha256_of(&text);
        if content
            .sha256
            .as_ref()
            .is_some_and(|given| *given != sha256)
        {
            return Err(invalid(format!(
                "The sha256 of the AppSpec content does not match: it is {sha256}"
            )));
        }
        Ok(Self::Content {
            content: text,
            sha256,
            string,
        })
    }

    /// As `deploymentInfo.revision` shows it: without the text.
    pub fn show(&self) -> Value {
        self.shown(false)
    }

    fn shown(&self, with_content: bool) -> Value {
        match self {
            Self::S3 {
                bucket,
                key,
                bundle_type,
                version,
                etag,
            } => {
                let mut location =
                    json!({ "bucket": bucket, "key": key, "bundleType": bundle_type });
                if let Some(version) = version {
                    location["version"] = json!(version);
                }
                if let Some(etag) = etag {
                    location["eTag"] = json!(etag);
                }
                json!({ "revisionType": "S3", "s3Location": location })
            }
            Self::Content {
                content,
                sha256,
                string,
            } => {
                let (kind, member) = if *string {
                    ("String", "string")
                } else {
                    ("AppSpecContent", "appSpecContent")
                };
                let shown = if with_content {
                    json!(content)
                } else {
                    Value::Null
                };
                json!({
                    "revisionType": kind,
                    member: { "content": shown, "sha256": sha256 },
                })
            }
        }
    }

    /// Whether `location` names this revision: by bucket and key, or by sha256.
    fn is(&self, location: &Location) -> bool {
        match self {
            Self::S3 { bucket, key, .. } => location.s3_location.as_ref().is_some_and(|s3| {
                s3.bucket.as_ref() == Some(bucket) && s3.key.as_ref() == Some(key)
            }),
            Self::Content { sha256, string, .. } => {
                let given = if *string {
                    &location.string
                } else {
                    &location.app_spec_content
                };
                given.as_ref().is_some_and(|given| {
                    let hash = given.sha256.clone();
                    hash.or_else(|| given.content.as_deref().map(sha256_of))
                        .as_ref()
                        == Some(sha256)
                })
            }
        }
    }
}

impl Application {
    /// Registers a revision, or finds it registered.
    pub fn register(&mut self, revision: &Revision, now: Timestamp) -> &mut RegisteredRevision {
        let known = self
            .revisions
            .iter()
            .position(|one| one.revision == *revision);
        let index = known.unwrap_or_else(|| {
            self.revisions.push(RegisteredRevision {
                revision: revision.clone(),
                description: None,
                registered: now,
                first_used: None,
                last_used: None,
                groups: Vec::new(),
            });
            self.revisions.len() - 1
        });
        &mut self.revisions[index]
    }

    fn revision(&self, location: &Location) -> Result<&RegisteredRevision, ApiError> {
        self.revisions
            .iter()
            .find(|one| one.revision.is(location))
            .ok_or_else(|| {
                refuse(
                    "RevisionDoesNotExistException",
                    "The named revision does not exist with the user or AWS account.",
                )
            })
    }
}

fn info(revision: &RegisteredRevision) -> Value {
    let mut info = json!({
        "deploymentGroups": revision.groups,
        "registerTime": time(revision.registered),
    });
    if let Some(description) = &revision.description {
        info["description"] = json!(description);
    }
    for (name, at) in [
        ("firstUsedTime", revision.first_used),
        ("lastUsedTime", revision.last_used),
    ] {
        if let Some(at) = at {
            info[name] = time(at);
        }
    }
    info
}

impl CodeDeploy {
    pub(super) fn register_application_revision(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        let revision = Revision::read(input.revision)?;
        let mut state = self.state();
        let application = state.application_mut(name, &self.stack.account_id)?;
        let registered = application.register(&revision, self.clock.now());
        if input.description.is_some() {
            registered.description = input.description;
        }
        Ok(json!({}))
    }

    pub(super) fn get_application_revision(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        let location = input.revision.ok_or_else(|| {
            refuse(
                "RevisionRequiredException",
                "The revision ID was not specified.",
            )
        })?;
        let state = self.state();
        let application = state.application(name, &self.stack.account_id)?;
        let found = application.revision(&location)?;
        Ok(json!({
            "applicationName": name,
            "revision": found.revision.shown(true),
            "revisionInfo": info(found),
        }))
    }

    pub(super) fn batch_get_application_revisions(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        if input.revisions.is_empty() {
            return Err(refuse(
                "RevisionRequiredException",
                "The revision ID was not specified.",
            ));
        }
        if input.revisions.len() > 25 {
            return Err(refuse(
                "BatchLimitExceededException",
                "The maximum number of names or IDs allowed for this request (25) was exceeded.",
            ));
        }
        let state = self.state();
        let application = state.application(name, &self.stack.account_id)?;
        let mut found = Vec::new();
        for location in &input.revisions {
            let revision = application.revision(location)?;
            found.push(json!({
                "revisionLocation": revision.revision.shown(true),
                "genericRevisionInfo": info(revision),
            }));
        }
        Ok(json!({ "applicationName": name, "errorMessage": "", "revisions": found }))
    }

    pub(super) fn list_application_revisions(&self, input: Value) -> Answer {
        let input: Input = read(input)?;
        let name = names::application(input.application_name.as_deref())?;
        let state = self.state();
        let application = state.application(name, &self.stack.account_id)?;
        let target = |revision: &Revision| {
            application
                .groups
                .values()
                .any(|group| group.target_revision.as_ref() == Some(revision))
        };
        let mut shown: Vec<Value> = application
            .revisions
            .iter()
            .filter(
                |one| match (&one.revision, &input.s3_bucket, &input.s3_key_prefix) {
                    (_, None, None) => true,
                    (Revision::S3 { bucket, key, .. }, wanted, prefix) => {
                        wanted.as_ref().is_none_or(|wanted| wanted == bucket)
                            && prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
                    }
                    (Revision::Content { .. }, ..) => false,
                },
            )
            .filter(|one| match input.deployed.as_deref() {
                Some("include") => target(&one.revision),
                Some("exclude") => !target(&one.revision),
                _ => true,
            })
            .map(|one| one.revision.show())
            .collect();
        if input.sort_order.as_deref() == Some("descending") {
            shown.reverse();
        }
        let (shown, next) = page(shown, input.next_token.as_deref(), 100)?;
        Ok(list_answer("revisions", &shown, next))
    }

    /// Reads a revision and its AppSpec. A failure fails the deployment, not the request.
    pub(super) async fn read_appspec(
        &self,
        revision: &Revision,
    ) -> Result<AppSpec, ErrorInformation> {
        let error = |code, message: String| ErrorInformation { code, message };
        let text = match revision {
            Revision::Content { content, .. } => content.clone(),
            Revision::S3 {
                bucket,
                key,
                etag,
                version,
                ..
            } => {
                let object = self.objects.get(bucket, key).await.ok_or_else(|| {
                    error(
                        ErrorCode::RevisionMissing,
                        format!(
                            "The object with key '{key}' in bucket '{bucket}' could not be found"
                        ),
                    )
                })?;
                if version.is_some() {
                    return Err(error(
                        ErrorCode::RevisionMissing,
                        format!("the bucket '{bucket}' of this stage keeps no versions"),
                    ));
                }
                if etag.as_ref().is_some_and(|etag| *etag != object.etag) {
                    return Err(error(
                        ErrorCode::RevisionMissing,
                        format!(
                            "The eTag of the object with key '{key}' in bucket '{bucket}' is {}, not \
                             the one of the revision",
                            object.etag
                        ),
                    ));
                }
                String::from_utf8(object.bytes).map_err(|_| {
                    error(
                        ErrorCode::InvalidRevision,
                        format!("The AppSpec file '{key}' is not text"),
                    )
                })?
            }
        };
        AppSpec::parse(&text).map_err(|problem| {
            error(
                ErrorCode::InvalidRevision,
                format!("The AppSpec file is either missing or invalid: {problem}"),
            )
        })
    }
}
