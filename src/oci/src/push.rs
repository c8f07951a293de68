//! Pushing to a registry (first version: signatures).

use crate::Digest;
use crate::archive::Archive;

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
    /// Not yet built.
    #[error("cannot push to {0}: pushing is not built yet")]
    NotBuilt(String),
}

/// What was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The manifest's digest, as the registry answered it; equal to the archive's.
    pub digest: Digest,
    /// Blobs that were sent.
    pub sent: usize,
    /// Blobs that were there already.
    pub present: usize,
}

/// Pushes the image unchanged to `reference`, such as `127.0.0.1:5000/app:2.0.0`.
#[expect(clippy::unused_async, reason = "first version")]
pub async fn push(
    archive: &Archive,
    reference: &str,
    credentials: &Credentials,
) -> Result<Pushed, PushError> {
    let _ = (archive, credentials);
    Err(PushError::NotBuilt(reference.to_owned()))
}
