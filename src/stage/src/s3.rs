//! S3, served by s3s on files.
//!
//! The protocol is s3s's, with its verification of signatures (header, query and chunked), and the
//! objects are the files of s3s-fs under the stage's directory: a bucket is a directory, an object
//! a file, so that what a release wrote can be looked at with `ls`. Path-style requests only,
//! which is what SDKs send to an endpoint whose host is an address.
//!
//! CodeDeploy reads revisions through [`ObjectStore::get`], on the same files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use s3s::{S3, S3Request, auth::SimpleAuth, dto, service::S3Service, service::S3ServiceBuilder};
use s3s_fs::FileSystem;

use crate::wire::{Body, Handler, full_body};

/// The buckets of the stage.
#[derive(Clone)]
pub(crate) struct ObjectStore {
    root: PathBuf,
    service: S3Service,
    files: Arc<FileSystem>,
}

impl std::fmt::Debug for ObjectStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStore")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// An object, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its entity tag, without quotes.
    pub etag: String,
}

/// Objects larger than this are not revisions.
const REVISION_LIMIT: usize = 4 * 1024 * 1024;

/// A bucket's name as that of a directory: one that leads nowhere else.
fn plain(bucket: &str) -> std::io::Result<&str> {
    let name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if bucket.bytes().all(name) && bucket.bytes().any(|byte| byte != b'.') {
        return Ok(bucket);
    }
    Err(std::io::Error::other(format!(
        "{bucket:?} does not name a bucket"
    )))
}

impl ObjectStore {
    /// Opens the store under `root`, which is made, with the buckets that exist from the start.
    pub fn open(
        root: &Path,
        access_key: &str,
        secret_key: &str,
        buckets: &[String],
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(root)?;
        for bucket in buckets {
            std::fs::create_dir_all(root.join(bucket))?;
        }
        let open =
            || FileSystem::new(root).map_err(|error| std::io::Error::other(format!("{error:?}")));
        let mut builder = S3ServiceBuilder::new(open()?);
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        Ok(Self {
            root: root.to_owned(),
            service: builder.build(),
            files: Arc::new(open()?),
        })
    }

    /// Makes a bucket; one that is there already is left as it is.
    pub fn make_bucket(&self, bucket: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(self.root.join(plain(bucket)?))
    }

    /// Removes a bucket with everything in it.
    pub fn remove_bucket(&self, bucket: &str) -> std::io::Result<()> {
        match std::fs::remove_dir_all(self.root.join(plain(bucket)?)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// What answers requests.
    pub fn handler(&self) -> Handler {
        let service = self.service.clone();
        Box::new(move |request: Request<Incoming>| {
            let service = service.clone();
            Box::pin(async move {
                match service.call(request.map(s3s::Body::from)).await {
                    Ok(response) => response.map(http_body_util::BodyExt::boxed_unsync),
                    Err(error) => {
                        tracing::error!(?error, "S3 could not answer");
                        let mut response: Response<Body> = Response::new(full_body(""));
                        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                        response
                    }
                }
            })
        })
    }

    /// Reads an object. `None`: there is none.
    pub async fn get(&self, bucket: &str, key: &str) -> Option<Object> {
        if !self.root.join(bucket).is_dir() {
            return None;
        }
        let input = dto::GetObjectInput {
            bucket: bucket.into(),
            key: key.into(),
            ..Default::default()
        };
        let request = S3Request {
            input,
            method: Method::GET,
            uri: Uri::from_static("/"),
            headers: HeaderMap::new(),
            extensions: http::Extensions::new(),
            credentials: None,
            region: None,
            service: None,
            trailing_headers: None,
        };
        let output = self.files.get_object(request).await.ok()?.output;
        let mut bytes = Vec::new();
        let mut body = output.body?;
        while let Some(chunk) = body.try_next().await.ok()? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > REVISION_LIMIT {
                return None;
            }
        }
        let etag = output
            .e_tag
            .map(|etag| etag.value().to_owned())
            .unwrap_or_default();
        Some(Object { bytes, etag })
    }
}
