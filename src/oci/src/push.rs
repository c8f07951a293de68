//! Pushing an image to a registry, unchanged.
//!
//! `docker push` and `podman push` write a manifest of their own, and so the image gets another digest
//! than the one that was built and tested. Here the archive's bytes are sent as they are, blobs first
//! and the manifest last, and the registry is asked for the digest that it serves: it must be the
//! archive's.
//!
//! Blobs go up with POST and one PUT (distribution specification, "Pushing a blob monolithically"), as
//! the oras client does it, which is known to work with ECR; the client's default, many small `PATCH` requests,
//! is the form that registries get wrong. Registries on loopback are spoken to over plain HTTP and never
//! through a proxy; all others over TLS.

use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use futures_util::stream;
use oci_client::Reference;
use oci_client::RegistryOperation;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;

use crate::Digest;
use crate::archive::{Archive, Descriptor};
use crate::model::MEDIA_MANIFEST;

/// Bytes of a blob that are read and sent at once.
const CHUNK: usize = 256 * 1024;

/// Who pushes.
#[derive(Clone)]
pub enum Credentials {
    /// Nobody in particular.
    Anonymous,
    /// A user, as ECR's `GetAuthorizationToken` gives (`AWS` and a token).
    Basic {
        /// User name.
        user: String,
        /// Password or token.
        password: String,
    },
}

/// Why an image was not pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// A reference that does not say where to.
    #[error("{reference:?} does not name a registry and a repository: {reason}")]
    Reference {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The archive could not be read any more.
    #[error("cannot read {what} of {archive}: {error}")]
    Read {
        /// Which part.
        what: String,
        /// The archive.
        archive: std::path::PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The registry could not be reached, or refused.
    #[error("cannot push {what} to {reference}: {error}")]
    Registry {
        /// Which part.
        what: String,
        /// The reference.
        reference: String,
        /// What the registry or the connection said.
        error: String,
    },
    /// The registry serves something else than what was sent.
    #[error(
        "{reference} now has the digest {found}, the image has {expected}: something on the way changed it; do not deploy it"
    )]
    OtherDigest {
        /// The reference.
        reference: String,
        /// The archive's digest.
        expected: Digest,
        /// The registry's.
        found: String,
    },
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's digest, as the registry answered it; equal to the archive's.
    pub digest: Digest,
    /// Blobs that were sent.
    pub sent: usize,
    /// Blobs that were there already.
    pub present: usize,
}

/// Pushes the image unchanged to `reference`, such as `127.0.0.1:5000/app:2.0.0`. Blobs that the
/// registry has are not sent again.
pub async fn push(
    archive: &Archive,
    reference: &str,
    credentials: &Credentials,
) -> Result<Pushed, PushError> {
    let image = parse(reference)?;
    let client = client(image.resolve_registry());
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error| PushError::Registry {
            what,
            reference: reference.to_owned(),
            error: explain(&error),
        }
    };
    let auth = match credentials {
        Credentials::Anonymous => RegistryAuth::Anonymous,
        Credentials::Basic { user, password } => {
            RegistryAuth::Basic(user.clone(), password.clone())
        }
    };
    client
        .auth(&image, &auth, RegistryOperation::Push)
        .await
        .map_err(failed("anything"))?;

    let (mut sent, mut present) = (0, 0);
    let config = [("the configuration".to_owned(), &archive.manifest().config)];
    let layers = archive.layers().iter().enumerate();
    let layers =
        layers.map(|(index, layer)| (format!("layer {} ({})", index + 1, layer.digest), layer));
    for (what, blob) in layers.chain(config) {
        let digest = blob.digest.to_string();
        if client
            .blob_exists(&image, &digest)
            .await
            .map_err(failed(&what))?
        {
            present += 1;
            continue;
        }
        let content = chunks(archive, blob, &what)?;
        let pushed = client
            .push_blob_stream(&image, content, &digest, Some(blob.size))
            .await;
        pushed.map_err(failed(&what))?;
        sent += 1;
    }

    let descriptor = archive.manifest_descriptor();
    let mut manifest = Vec::new();
    let unread = |error| PushError::Read {
        what: "the manifest".into(),
        archive: archive.path().to_owned(),
        error,
    };
    let mut blob = archive
        .blob(descriptor.digest)
        .ok_or_else(|| unread(io::ErrorKind::NotFound.into()))?;
    io::Read::read_to_end(&mut blob, &mut manifest).map_err(unread)?;
    let media_type = http::HeaderValue::from_static(MEDIA_MANIFEST);
    client
        .push_manifest_raw(&image, manifest, media_type)
        .await
        .map_err(failed("the manifest"))?;

    let found = client
        .fetch_manifest_digest(&image, &auth)
        .await
        .map_err(failed("the manifest"))?;
    match found.parse() {
        Ok(digest) if digest == descriptor.digest => Ok(Pushed {
            digest,
            sent,
            present,
        }),
        _ => Err(PushError::OtherDigest {
            reference: reference.to_owned(),
            expected: descriptor.digest,
            found,
        }),
    }
}

fn parse(reference: &str) -> Result<Reference, PushError> {
    let refuse = |reason: String| PushError::Reference {
        reference: reference.to_owned(),
        reason,
    };
    // Without a registry, the grammar means Docker Hub; nobody here does.
    let registry = reference
        .split_once('/')
        .map_or("", |(registry, _)| registry);
    if registry != "localhost" && !registry.contains(['.', ':']) {
        return Err(refuse(
            "expected REGISTRY/REPOSITORY:TAG, such as 127.0.0.1:5000/app:2.0.0".into(),
        ));
    }
    reference.parse().map_err(|e| refuse(format!("{e}")))
}

fn client(registry: &str) -> Client {
    let mut config = ClientConfig {
        use_monolithic_push: true,
        protocol: ClientProtocol::Https,
        ..ClientConfig::default()
    };
    if is_loopback(registry) {
        config.protocol = ClientProtocol::Http;
        // Any proxy of its own keeps the client from the environment's; this one is used for nothing.
        config.http_proxy = Some("http://127.0.0.1:1".into());
        config.no_proxy = Some("localhost,127.0.0.0/8,::1".into());
    }
    Client::new(config)
}

/// Whether a registry (`host` or `host:port`) is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

type Chunk = Result<Bytes, OciDistributionError>;

/// A blob's bytes in pieces. They are read from a file on this machine, so nobody waits for them.
fn chunks(
    archive: &Archive,
    blob: &Descriptor,
    what: &str,
) -> Result<impl stream::Stream<Item = Chunk> + Send + use<>, PushError> {
    let unread = |error| PushError::Read {
        what: what.to_owned(),
        archive: archive.path().to_owned(),
        error,
    };
    let mut read = archive.detached_blob(blob.digest).map_err(unread)?;
    let mut buffer = vec![0; CHUNK];
    let chunks = std::iter::from_fn(move || match io::Read::read(&mut read, &mut buffer) {
        Ok(0) => None,
        Ok(n) => Some(Ok(Bytes::copy_from_slice(&buffer[..n]))),
        Err(error) => Some(Err(error.into())),
    });
    Ok(stream::iter(chunks))
}

/// An error with its causes: the outer ones alone say little ("error sending request").
fn explain(error: &OciDistributionError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.8.7",
            "[::1]:5000",
        ] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in [
            "10.0.0.1:5000",
            "registry.example.com",
            "127.0.0.1.example.com",
            "localhost.example.com:443",
            "[2001:db8::1]:5000",
        ] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }

    #[test]
    fn a_reference_names_its_registry() {
        assert!(parse("127.0.0.1:5000/app:2.0.0").is_ok());
        assert!(parse("000000000000.dkr.ecr.eu-west-1.amazonaws.com/app:2.0.0").is_ok());
        for wrong in [
            "app:2.0.0",
            "library/app:2.0.0",
            "",
            "127.0.0.1:5000/APP:1",
            "127.0.0.1:5000/",
        ] {
            assert!(
                matches!(parse(wrong), Err(PushError::Reference { .. })),
                "{wrong}"
            );
        }
    }
}
