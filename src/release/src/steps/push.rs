//! Step 2: the image to the registry, by digest.

use oci::push::Credentials;

use super::{Done, Release};
use crate::aws::STAGE_KEY;
use crate::error::Error;

/// Environment variables with the registry's login, for registries that want one (for ECR: `AWS`
/// and the output of `aws ecr get-login-password`).
const USER: &str = "SEREIN_REGISTRY_USER";
const PASSWORD: &str = "SEREIN_REGISTRY_PASSWORD";

pub async fn run(release: &Release<'_>) -> Result<Done<()>, Error> {
    let repository = &release.target.repository;
    let failed = |message: String| Error::Push {
        repository: repository.clone(),
        message,
    };
    let bundle = &release.package.bundle;
    let archive = bundle.image().map_err(|error| Error::Bundle {
        dir: bundle.dir().to_owned(),
        message: error.to_string(),
    })?;
    let reference = format!("{repository}:{}", tag(bundle.version()));
    let pushed = oci::push::push(&archive, &reference, &credentials(release))
        .await
        .map_err(|error| failed(error.to_string()))?;
    if pushed.digest != bundle.image_digest() {
        return Err(failed(format!(
            "the registry answers {}, the bundle holds {}: somebody changed the image on its way",
            pushed.digest,
            bundle.image_digest()
        )));
    }
    let detail = if pushed.sent == 0 {
        format!("{} was there already", pushed.digest)
    } else {
        pushed.digest.to_string()
    };
    Done::new((), detail)
}

fn credentials(release: &Release<'_>) -> Credentials {
    let (user, password) = match (std::env::var(USER), std::env::var(PASSWORD)) {
        (Ok(user), Ok(password)) if !user.is_empty() => (user, password),
        _ if release.target.stage.is_some() => (STAGE_KEY.to_owned(), STAGE_KEY.to_owned()),
        _ => return Credentials::Anonymous,
    };
    Credentials::Basic { user, password }
}

/// A version as a tag: `+` is legal in a version and not in a tag.
fn tag(version: &str) -> String {
    version.replace('+', "-")
}
