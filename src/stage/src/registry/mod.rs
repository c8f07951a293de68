//! The image registry: the OCI distribution protocol under `/v2/`.
//!
//! Stands where ECR stands: a release pushes its image here, and tasks are started from what is
//! here, by digest. It is small because it keeps nothing but what its clients need: blobs are files
//! named by their digest (the layout of an OCI image, so that an image can be handed to the runtime
//! without copying it first), and which blobs, manifests and tags a repository has is kept in
//! memory, for a stage does not survive its process.
//!
//! Every byte that comes in is hashed, and a digest that does not agree with its bytes is refused,
//! as is a manifest that names blobs that are not there. So a digest in a task definition means on
//! the stage what it means on AWS. A repository comes into being with the first push to it.
//!
//! There are no credentials: the port is loopback's, and ECR's login would be a second protocol to
//! imitate. Clients that send some are answered all the same.

mod blobs;
mod digest;
mod error;
mod export;
mod manifests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use self::{blobs::Upload, digest::is_name, error::RegistryError};
use crate::wire::{Body, Handler, empty_body, full_body};

pub(crate) use self::digest::Digest;

/// The registry. Clones share everything.
#[derive(Clone)]
pub(crate) struct Registry(Arc<Inner>);

struct Inner {
    /// An OCI image layout's directory: `blobs/sha256/…`; uploads are beside, in `uploads`.
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    uploads: BTreeMap<String, Upload>,
}

/// What one repository has.
#[derive(Default)]
struct Repository {
    blobs: BTreeSet<Digest>,
    /// Manifests with their media types.
    manifests: BTreeMap<Digest, String>,
    tags: BTreeMap<String, Digest>,
}

type Answer = Result<Response<Body>, RegistryError>;

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("dir", &self.0.dir)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// An empty registry that keeps its blobs in `dir`, which is made.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir.join("blobs/sha256"))?;
        std::fs::create_dir_all(dir.join("uploads"))?;
        Ok(Self(Arc::new(Inner {
            dir: dir.to_owned(),
            state: Mutex::default(),
        })))
    }

    /// What answers requests to `/v2/`.
    pub fn handler(&self) -> Handler {
        let registry = self.clone();
        Box::new(move |request| {
            let registry = registry.clone();
            Box::pin(async move {
                let head = request.method() == Method::HEAD;
                let mut response = match registry.answer(request).await {
                    Ok(response) => response,
                    Err(error) => {
                        tracing::debug!(%error, "the registry refused a request");
                        error.response()
                    }
                };
                if head && response.status().is_client_error() {
                    *response.body_mut() = empty_body();
                }
                response.headers_mut().insert(
                    HeaderName::from_static("docker-distribution-api-version"),
                    HeaderValue::from_static("registry/2.0"),
                );
                response
            })
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        let rest = path
            .strip_prefix("/v2")
            .unwrap_or_default()
            .trim_start_matches('/');
        if rest.is_empty() {
            return Ok(json_response(&json!({})));
        }
        if rest == "_catalog" {
            let state = self.state();
            let names: Vec<_> = state.repositories.keys().collect();
            return Ok(json_response(&json!({ "repositories": names })));
        }
        // A repository's name may have any number of components, so the route is read from its end.
        let segments: Vec<&str> = rest.split('/').collect();
        let method = request.method().clone();
        match segments.as_slice() {
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                let name = repository_name(name)?;
                match method {
                    Method::POST => self.start_upload(&name, request).await,
                    _ => Err(unsupported(&method, &path)),
                }
            }
            [name @ .., "blobs", "uploads", id] => {
                let name = repository_name(name)?;
                match method {
                    Method::GET => self.upload_status(&name, id),
                    Method::PATCH => self.continue_upload(&name, id, request).await,
                    Method::PUT => self.finish_upload(&name, id, request).await,
                    Method::DELETE => self.cancel_upload(&name, id),
                    _ => Err(unsupported(&method, &path)),
                }
            }
            [name @ .., "blobs", digest] => {
                let name = repository_name(name)?;
                match method {
                    Method::GET | Method::HEAD => self.blob(&name, digest, &request).await,
                    Method::DELETE => self.delete_blob(&name, digest),
                    _ => Err(unsupported(&method, &path)),
                }
            }
            [name @ .., "manifests", reference] => {
                let name = repository_name(name)?;
                match method {
                    Method::GET | Method::HEAD => {
                        self.manifest(&name, reference, method == Method::HEAD)
                    }
                    Method::PUT => self.put_manifest(&name, reference, request).await,
                    Method::DELETE => self.delete_manifest(&name, reference),
                    _ => Err(unsupported(&method, &path)),
                }
            }
            [name @ .., "tags", "list"] if method == Method::GET => self.tags(
                &repository_name(name)?,
                request.uri().query().unwrap_or_default(),
            ),
            [name @ .., "referrers", digest] if method == Method::GET => {
                repository_name(name)?;
                digest::digest(digest)?;
                let mut response = json_response(&json!({
                    "schemaVersion": 2,
                    "mediaType": manifests::OCI_INDEX,
                    "manifests": [],
                }));
                response.headers_mut().insert(
                    http::header::CONTENT_TYPE,
                    HeaderValue::from_static(manifests::OCI_INDEX),
                );
                Ok(response)
            }
            _ => Err(unsupported(&method, &path)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.0.dir.join("blobs/sha256").join(digest.hex())
    }
}

fn repository_name(segments: &[&str]) -> Result<String, RegistryError> {
    let name = segments.join("/");
    if is_name(&name) {
        Ok(name)
    } else {
        Err(RegistryError::name_invalid(&name))
    }
}

fn unsupported(method: &Method, path: &str) -> RegistryError {
    RegistryError::unsupported(format!("this registry has no {method} {path}"))
}

/// The value of a parameter in a query, decoded.
fn query_parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        if let Some(byte) = escaped {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn json_response(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full_body(value.to_string()));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// An empty answer with headers.
fn response(status: StatusCode, headers: &[(&'static str, String)]) -> Response<Body> {
    let mut response = Response::new(empty_body());
    *response.status_mut() = status;
    set_headers(&mut response, headers);
    response
}

fn set_headers(response: &mut Response<Body>, headers: &[(&'static str, String)]) {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
    }
}

/// Reads a whole body of at most `limit` bytes.
async fn read_body(
    request: Request<Incoming>,
    limit: usize,
) -> Result<bytes::Bytes, RegistryError> {
    http_body_util::Limited::new(request.into_body(), limit)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|error| RegistryError::manifest_invalid(format!("cannot read the body: {error}")))
}
