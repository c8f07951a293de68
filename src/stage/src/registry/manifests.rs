//! Manifests and tags.

use http::{HeaderValue, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::{
    Answer, Digest, Registry,
    digest::{digest, is_tag},
    error::RegistryError,
    json_response, query_parameter, read_body, response,
};
use crate::wire::full_body;

pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// The largest manifest that a registry must take ("OCI distribution specification, Pushing
/// manifests").
const MANIFEST_LIMIT: usize = 4 * 1024 * 1024;

impl Registry {
    /// `GET`/`HEAD /v2/<name>/manifests/<reference>`
    pub(super) fn manifest(&self, name: &str, reference: &str, head: bool) -> Answer {
        let (digest, media_type) = self
            .find_manifest(name, reference)
            .ok_or_else(|| RegistryError::manifest_unknown(reference))?;
        let bytes = std::fs::read(self.blob_path(&digest))
            .map_err(|error| RegistryError::io("reading a manifest", &error))?;
        let mut answer = response(
            StatusCode::OK,
            &[
                ("docker-content-digest", digest.to_string()),
                ("content-type", media_type),
                ("content-length", bytes.len().to_string()),
            ],
        );
        if !head {
            *answer.body_mut() = full_body(bytes);
        }
        Ok(answer)
    }

    /// The digest and media type of the manifest that a tag or digest names.
    pub(super) fn find_manifest(&self, name: &str, reference: &str) -> Option<(Digest, String)> {
        let state = self.state();
        let repository = state.repositories.get(name)?;
        let digest = match Digest::parse(reference) {
            Some(digest) => digest,
            None => repository.tags.get(reference)?.clone(),
        };
        let media_type = repository.manifests.get(&digest)?.clone();
        Some((digest, media_type))
    }

    /// `PUT /v2/<name>/manifests/<reference>`
    pub(super) async fn put_manifest(
        &self,
        name: &str,
        reference: &str,
        request: Request<Incoming>,
    ) -> Answer {
        let wanted = if reference.contains(':') {
            Some(digest(reference)?)
        } else {
            None
        };
        if wanted.is_none() && !is_tag(reference) {
            return Err(RegistryError::tag_invalid(reference));
        }
        let content_type = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| {
                value
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned()
            });
        let bytes = read_body(request, MANIFEST_LIMIT).await?;
        let found = Digest::of(&bytes);
        if let Some(wanted) = wanted
            && wanted != found
        {
            return Err(RegistryError::digest_invalid(format!(
                "the manifest's digest is {found}, not {wanted}"
            )));
        }
        let manifest: Value = serde_json::from_slice(&bytes)
            .map_err(|error| RegistryError::manifest_invalid(format!("not JSON: {error}")))?;
        let media_type = media_type(&manifest, content_type.as_deref())?;
        for (digest, is_manifest) in named_digests(&manifest, &media_type)? {
            let state = self.state();
            let known = state.repositories.get(name).is_some_and(|repository| {
                if is_manifest {
                    repository.manifests.contains_key(&digest)
                } else {
                    repository.blobs.contains(&digest)
                }
            });
            if !known {
                return Err(RegistryError::manifest_blob_unknown(&digest.to_string()));
            }
        }

        // Under another name first: whoever reads a manifest reads a whole one.
        let writing = |error: std::io::Error| RegistryError::io("keeping a manifest", &error);
        let draft = self.0.dir.join("uploads").join(crate::wire::uuid());
        tokio::fs::write(&draft, &bytes).await.map_err(writing)?;
        tokio::fs::rename(&draft, self.blob_path(&found))
            .await
            .map_err(writing)?;

        let mut state = self.state();
        let repository = state.repositories.entry(name.to_owned()).or_default();
        repository.manifests.insert(found.clone(), media_type);
        if !reference.contains(':') {
            repository.tags.insert(reference.to_owned(), found.clone());
        }
        Ok(response(
            StatusCode::CREATED,
            &[
                ("location", format!("/v2/{name}/manifests/{found}")),
                ("docker-content-digest", found.to_string()),
                ("content-length", "0".into()),
            ],
        ))
    }

    /// `DELETE /v2/<name>/manifests/<reference>`: a tag, or a manifest with its tags.
    pub(super) fn delete_manifest(&self, name: &str, reference: &str) -> Answer {
        let mut state = self.state();
        let unknown = || RegistryError::manifest_unknown(reference);
        let repository = state.repositories.get_mut(name).ok_or_else(unknown)?;
        if let Some(digest) = Digest::parse(reference) {
            repository.manifests.remove(&digest).ok_or_else(unknown)?;
            repository.tags.retain(|_, tagged| *tagged != digest);
        } else {
            repository.tags.remove(reference).ok_or_else(unknown)?;
        }
        Ok(response(
            StatusCode::ACCEPTED,
            &[("content-length", "0".into())],
        ))
    }

    /// `GET /v2/<name>/tags/list?n=…&last=…`, in lexical order.
    pub(super) fn tags(&self, name: &str, query: &str) -> Answer {
        let state = self.state();
        let repository = state
            .repositories
            .get(name)
            .ok_or_else(|| RegistryError::name_unknown(name))?;
        let last = query_parameter(query, "last").unwrap_or_default();
        let limit = query_parameter(query, "n").and_then(|n| n.parse::<usize>().ok());
        let mut tags: Vec<&String> = repository
            .tags
            .keys()
            .filter(|tag| last.is_empty() || **tag > last)
            .collect();
        let more = limit.is_some_and(|limit| tags.len() > limit);
        tags.truncate(limit.unwrap_or(usize::MAX));
        let mut answer = json_response(&json!({ "name": name, "tags": tags }));
        if let (true, Some(limit), Some(last)) = (more, limit, tags.last()) {
            let link = format!("</v2/{name}/tags/list?n={limit}&last={last}>; rel=\"next\"");
            if let Ok(link) = HeaderValue::from_str(&link) {
                answer.headers_mut().insert(http::header::LINK, link);
            }
        }
        Ok(answer)
    }
}

/// The manifest's media type: its own and the header's must not contradict each other.
fn media_type(manifest: &Value, content_type: Option<&str>) -> Result<String, RegistryError> {
    let own = manifest.get("mediaType").and_then(Value::as_str);
    match (own, content_type) {
        (Some(own), Some(header)) if own != header => Err(RegistryError::manifest_invalid(
            format!("the manifest says it is {own}, the Content-Type that it is {header}"),
        )),
        (Some(media_type), _) | (None, Some(media_type)) => Ok(media_type.to_owned()),
        (None, None) => Ok(OCI_MANIFEST.to_owned()),
    }
}

/// The digests that a manifest names, and whether each is a manifest itself.
fn named_digests(manifest: &Value, media_type: &str) -> Result<Vec<(Digest, bool)>, RegistryError> {
    let of = |descriptor: &Value| {
        let text = descriptor
            .get("digest")
            .and_then(Value::as_str)
            .ok_or_else(|| {
                RegistryError::manifest_invalid("a descriptor in the manifest has no digest")
            })?;
        digest(text)
    };
    let list = |member: &str| -> Result<&Vec<Value>, RegistryError> {
        manifest
            .get(member)
            .and_then(Value::as_array)
            .ok_or_else(|| {
                RegistryError::manifest_invalid(format!("the manifest has no list '{member}'"))
            })
    };
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST => {
            let config = manifest
                .get("config")
                .ok_or_else(|| RegistryError::manifest_invalid("the manifest has no 'config'"))?;
            let mut digests = vec![(of(config)?, false)];
            for layer in list("layers")? {
                digests.push((of(layer)?, false));
            }
            Ok(digests)
        }
        OCI_INDEX | DOCKER_LIST => list("manifests")?
            .iter()
            .map(|inner| Ok((of(inner)?, true)))
            .collect(),
        other => Err(RegistryError::manifest_invalid(format!(
            "this registry keeps image manifests and indexes, not {other}"
        ))),
    }
}
