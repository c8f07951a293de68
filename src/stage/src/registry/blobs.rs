//! Blobs: looked up, mounted, uploaded whole or in chunks.
//!
//! An upload is a file that is hashed while it grows. It becomes a blob by a rename, once its digest
//! is what the client said, so a blob is always whole.

use std::{io::SeekFrom, path::PathBuf};

use futures_util::TryStreamExt as _;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

use super::{
    Answer, Digest, Registry, digest::digest, error::RegistryError, query_parameter, response,
    set_headers,
};
use crate::wire::{Body, uuid};

/// A blob on its way.
#[derive(Clone)]
pub(super) struct Upload {
    repository: String,
    path: PathBuf,
    received: u64,
    hash: Sha256,
    /// A request is writing to it.
    busy: bool,
}

impl Registry {
    /// `GET`/`HEAD /v2/<name>/blobs/<digest>`, with a `Range` if wanted.
    pub(super) async fn blob<B>(&self, name: &str, wanted: &str, request: &Request<B>) -> Answer {
        let digest = digest(wanted)?;
        if !self.has_blob(name, &digest) {
            return Err(RegistryError::blob_unknown(wanted));
        }
        let reading = |error: std::io::Error| RegistryError::io("reading a blob", &error);
        let mut file = tokio::fs::File::open(self.blob_path(&digest))
            .await
            .map_err(reading)?;
        let size = file.metadata().await.map_err(reading)?.len();
        let mut headers = vec![
            ("docker-content-digest", digest.to_string()),
            ("content-type", "application/octet-stream".into()),
            ("accept-ranges", "bytes".into()),
        ];
        let (status, first, length) = match range(request.headers(), size) {
            None => (StatusCode::OK, 0, size),
            Some(Ok((first, last))) => {
                headers.push(("content-range", format!("bytes {first}-{last}/{size}")));
                (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
            }
            Some(Err(())) => {
                return Err(RegistryError::range(format!("the blob has {size} bytes")));
            }
        };
        headers.push(("content-length", length.to_string()));
        let mut response = response(status, &headers);
        if request.method() == http::Method::GET {
            file.seek(SeekFrom::Start(first)).await.map_err(reading)?;
            let chunks = ReaderStream::with_capacity(file.take(length), 64 * 1024);
            let frames = chunks.map_ok(Frame::data).map_err(Into::into);
            *response.body_mut() = StreamBody::new(frames).boxed_unsync();
        }
        Ok(response)
    }

    pub(super) fn has_blob(&self, name: &str, digest: &Digest) -> bool {
        self.state()
            .repositories
            .get(name)
            .is_some_and(|repository| {
                repository.blobs.contains(digest) || repository.manifests.contains_key(digest)
            })
    }

    /// `DELETE /v2/<name>/blobs/<digest>`: the repository forgets it; the file stays.
    pub(super) fn delete_blob(&self, name: &str, wanted: &str) -> Answer {
        let digest = digest(wanted)?;
        let mut state = self.state();
        let repository = state
            .repositories
            .get_mut(name)
            .ok_or_else(|| RegistryError::blob_unknown(wanted))?;
        if !repository.blobs.remove(&digest) {
            return Err(RegistryError::blob_unknown(wanted));
        }
        Ok(response(
            StatusCode::ACCEPTED,
            &[("content-length", "0".into())],
        ))
    }

    /// `POST /v2/<name>/blobs/uploads/`: mounts, takes the whole blob, or starts an upload.
    pub(super) async fn start_upload(&self, name: &str, request: Request<Incoming>) -> Answer {
        let query = request.uri().query().unwrap_or_default().to_owned();
        if let Some(mount) = query_parameter(&query, "mount") {
            let digest = digest(&mount)?;
            let from = query_parameter(&query, "from");
            if self.mount(name, &digest, from.as_deref()) {
                return Ok(created(name, &digest));
            }
        }
        let id = uuid();
        let path = self.0.dir.join("uploads").join(&id);
        tokio::fs::File::create(&path)
            .await
            .map_err(|error| RegistryError::io("starting an upload", &error))?;
        let upload = Upload {
            repository: name.to_owned(),
            path,
            received: 0,
            hash: Sha256::new(),
            busy: false,
        };
        self.state().uploads.insert(id.clone(), upload);
        if let Some(wanted) = query_parameter(&query, "digest") {
            self.receive(name, &id, request).await?;
            return self.complete(name, &id, &wanted).await;
        }
        Ok(self.progress(name, &id, StatusCode::ACCEPTED, 0))
    }

    /// Makes a blob that another repository has one of this repository too.
    fn mount(&self, name: &str, digest: &Digest, from: Option<&str>) -> bool {
        let mut state = self.state();
        let found = match from {
            Some(from) => state
                .repositories
                .get(from)
                .is_some_and(|r| r.blobs.contains(digest)),
            None => state
                .repositories
                .values()
                .any(|r| r.blobs.contains(digest)),
        };
        if found {
            state
                .repositories
                .entry(name.to_owned())
                .or_default()
                .blobs
                .insert(digest.clone());
        }
        found
    }

    /// `GET /v2/<name>/blobs/uploads/<id>`
    pub(super) fn upload_status(&self, name: &str, id: &str) -> Answer {
        let received = self.upload(name, id)?.received;
        Ok(self.progress(name, id, StatusCode::NO_CONTENT, received))
    }

    /// `PATCH /v2/<name>/blobs/uploads/<id>`
    pub(super) async fn continue_upload(
        &self,
        name: &str,
        id: &str,
        request: Request<Incoming>,
    ) -> Answer {
        let received = self.receive(name, id, request).await?;
        Ok(self.progress(name, id, StatusCode::ACCEPTED, received))
    }

    /// `PUT /v2/<name>/blobs/uploads/<id>?digest=…`, perhaps with the last chunk.
    pub(super) async fn finish_upload(
        &self,
        name: &str,
        id: &str,
        request: Request<Incoming>,
    ) -> Answer {
        let query = request.uri().query().unwrap_or_default();
        let wanted = query_parameter(query, "digest").ok_or_else(|| {
            RegistryError::digest_invalid("an upload is finished with ?digest=sha256:…")
        })?;
        self.receive(name, id, request).await?;
        self.complete(name, id, &wanted).await
    }

    /// `DELETE /v2/<name>/blobs/uploads/<id>`
    pub(super) fn cancel_upload(&self, name: &str, id: &str) -> Answer {
        let upload = self.upload(name, id)?;
        self.state().uploads.remove(id);
        let _ = std::fs::remove_file(upload.path);
        Ok(response(StatusCode::NO_CONTENT, &[]))
    }

    fn upload(&self, name: &str, id: &str) -> Result<Upload, RegistryError> {
        let state = self.state();
        let upload = state
            .uploads
            .get(id)
            .filter(|upload| upload.repository == name);
        upload
            .cloned()
            .ok_or_else(|| RegistryError::upload_unknown(id))
    }

    /// Appends a request's body to an upload; the number of bytes that it then has.
    async fn receive(
        &self,
        name: &str,
        id: &str,
        request: Request<Incoming>,
    ) -> Result<u64, RegistryError> {
        let mut upload = self.upload(name, id)?;
        if let Some(first) = chunk_start(request.headers())?
            && first != upload.received
        {
            return Err(RegistryError::range(format!(
                "the chunk starts at {first}, but {} bytes are here",
                upload.received
            )));
        }
        {
            let mut state = self.state();
            let entry = state
                .uploads
                .get_mut(id)
                .ok_or_else(|| RegistryError::upload_unknown(id))?;
            if std::mem::replace(&mut entry.busy, true) {
                return Err(RegistryError::upload_invalid(
                    "another request is writing to this upload",
                ));
            }
        }
        let result = append(&mut upload, request.into_body()).await;
        upload.busy = false;
        let received = upload.received;
        match result {
            Ok(()) => {
                self.state().uploads.insert(id.to_owned(), upload);
                Ok(received)
            }
            Err(error) => {
                // Some bytes may have been written: what the file holds is not known any more.
                self.state().uploads.remove(id);
                let _ = std::fs::remove_file(&upload.path);
                Err(error)
            }
        }
    }

    async fn complete(&self, name: &str, id: &str, wanted: &str) -> Answer {
        let upload = self.upload(name, id)?;
        let digest = digest(wanted)?;
        let found = Digest::from_hash(&upload.hash.finalize());
        self.state().uploads.remove(id);
        if found != digest {
            let _ = tokio::fs::remove_file(&upload.path).await;
            return Err(RegistryError::digest_invalid(format!(
                "the upload's digest is {found}, not {digest}"
            )));
        }
        tokio::fs::rename(&upload.path, self.blob_path(&digest))
            .await
            .map_err(|error| RegistryError::io("keeping a blob", &error))?;
        let mut state = self.state();
        state
            .repositories
            .entry(name.to_owned())
            .or_default()
            .blobs
            .insert(digest.clone());
        Ok(created(name, &digest))
    }

    #[expect(clippy::unused_self, reason = "reads as one of the registry's answers")]
    fn progress(&self, name: &str, id: &str, status: StatusCode, received: u64) -> Response<Body> {
        response(
            status,
            &[
                ("location", format!("/v2/{name}/blobs/uploads/{id}")),
                ("docker-upload-uuid", id.to_owned()),
                // The last byte that is here; with none the protocol's own servers say 0-0.
                ("range", format!("0-{}", received.saturating_sub(1))),
                ("content-length", "0".into()),
            ],
        )
    }
}

async fn append(upload: &mut Upload, mut body: Incoming) -> Result<(), RegistryError> {
    let writing = |error: std::io::Error| RegistryError::io("writing an upload", &error);
    let mut file = tokio::fs::OpenOptions::new()
        .append(true)
        .open(&upload.path)
        .await
        .map_err(writing)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            RegistryError::upload_invalid(format!("the upload was cut off: {error}"))
        })?;
        if let Some(data) = frame.data_ref() {
            upload.hash.update(data);
            upload.received += data.len() as u64;
            file.write_all(data).await.map_err(writing)?;
        }
    }
    file.flush().await.map_err(writing)
}

fn created(name: &str, digest: &Digest) -> Response<Body> {
    let mut answer = response(StatusCode::CREATED, &[("content-length", "0".into())]);
    set_headers(
        &mut answer,
        &[
            ("location", format!("/v2/{name}/blobs/{digest}")),
            ("docker-content-digest", digest.to_string()),
        ],
    );
    answer
}

/// The first byte of a chunk, from `Content-Range: <first>-<last>`.
fn chunk_start(headers: &HeaderMap) -> Result<Option<u64>, RegistryError> {
    let Some(value) = headers.get(http::header::CONTENT_RANGE) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let text = text
        .strip_prefix("bytes ")
        .or_else(|| text.strip_prefix("bytes="))
        .unwrap_or(text);
    let first = text.split('-').next().and_then(|first| first.parse().ok());
    first.map(Some).ok_or_else(|| {
        RegistryError::upload_invalid(format!("cannot read the Content-Range '{text}'"))
    })
}

/// The bytes that `Range: bytes=first-last` asks for, both included. `Err`: there are none such.
fn range(headers: &HeaderMap, size: u64) -> Option<Result<(u64, u64), ()>> {
    let spec = headers
        .get(http::header::RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes=")?;
    let (first, last) = spec.split_once('-')?;
    let bounds = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first, last.min(size.saturating_sub(1))),
        (Ok(first), Err(_)) if last.is_empty() => (first, size.saturating_sub(1)),
        (Err(_), Ok(suffix)) if first.is_empty() => {
            (size.saturating_sub(suffix), size.saturating_sub(1))
        }
        _ => return None,
    };
    Some(if bounds.0 < size && bounds.0 <= bounds.1 {
        Ok(bounds)
    } else {
        Err(())
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn asked(text: &str, size: u64) -> Option<Result<(u64, u64), ()>> {
        let mut headers = HeaderMap::new();
        headers.insert("range", text.parse().unwrap());
        range(&headers, size)
    }

    #[test]
    fn ranges() {
        assert_eq!(asked("bytes=0-4", 10), Some(Ok((0, 4))));
        assert_eq!(asked("bytes=5-", 10), Some(Ok((5, 9))));
        assert_eq!(asked("bytes=-3", 10), Some(Ok((7, 9))));
        assert_eq!(asked("bytes=8-99", 10), Some(Ok((8, 9))));
        assert_eq!(asked("bytes=10-11", 10), Some(Err(())));
        assert_eq!(asked("bytes=0-0", 0), Some(Err(())));
        assert_eq!(asked("lines=0-4", 10), None);
    }
}
