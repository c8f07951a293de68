//! Step 6: the AppSpec to S3, and `CreateDeployment`.

use aws_sdk_codedeploy::types as cd;
use sha2::{Digest as _, Sha256};

use super::preflight::{Ground, another};
use super::watch::Running;
use super::{Done, Release};
use crate::aws::codedeploy::Created;
use crate::error::Error;

/// CodeDeploy's limited service role reads only objects with this tag.
const TAG: &str = "UseWithCodeDeploy=true";

pub async fn run(
    release: &Release<'_>,
    ground: &Ground,
    definition: &str,
) -> Result<Done<Running>, Error> {
    let wanted = release.package.definition(release.target)?;
    let appspec = release
        .package
        .appspec(release.target, release.hooks, &wanted, definition)?;
    let key = key(release, &appspec);
    let clients = release.clients;
    clients
        .s3
        .put(&key, "application/yaml", Some(TAG), appspec.into_bytes())
        .await?;
    let description = format!(
        "{} of bundle {}",
        release.version(),
        release.package.bundle.digest()
    );
    let created = clients
        .codedeploy
        .create(
            clients.s3.bucket(),
            &key,
            release.deployment_config,
            &description,
        )
        .await?;
    let (deployment_id, detail) = match created {
        Created::Deployment(id) => {
            let detail = format!("{id} with {}", release.deployment_config);
            (id, detail)
        }
        Created::Busy(message) => {
            let id = lost_the_race(release, &key, &message).await?;
            let detail = format!("{id} deploys the same revision already: it is watched");
            (id, detail)
        }
    };
    Done::new(
        Running {
            deployment_id,
            definition: definition.to_owned(),
            plan: ground.plan.clone(),
        },
        detail,
    )
}

/// Where the AppSpec lies. The name is made of the content, so the same revision has the same
/// place, and a running deployment can be recognised as ours.
pub fn key(release: &Release<'_>, appspec: &str) -> String {
    let hash = hex::encode(Sha256::digest(appspec.as_bytes()));
    format!("appspecs/{}/{hash}.yaml", release.version())
}

/// Whether a deployment is of the AppSpec at `key`, and so is the one that would be created.
pub fn is_of(release: &Release<'_>, deployment: &cd::DeploymentInfo, key: &str) -> bool {
    let location = deployment
        .revision()
        .and_then(|revision| revision.s3_location());
    location.is_some_and(|location| {
        location.key() == Some(key) && location.bucket() == Some(release.clients.s3.bucket())
    })
}

/// Somebody else created a deployment after preflight. If it is of the same revision, its id;
/// else the same refusal as in preflight. The service's text names the deployment, but its wording
/// has changed once; asking is better.
async fn lost_the_race(release: &Release<'_>, key: &str, message: &str) -> Result<String, Error> {
    if let Ok(Some(active)) = release.clients.codedeploy.active().await {
        return match active.deployment_id() {
            Some(id) if is_of(release, &active, key) => Ok(id.to_owned()),
            _ => Err(another(release, &active)),
        };
    }
    let id = message
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("d-") && word.len() > 2);
    Err(match id {
        Some(id) => Error::AnotherDeployment {
            deployment_id: id.to_owned(),
            application: release.target.application.clone(),
            group: release.target.deployment_group.clone(),
            status: "active".to_owned(),
            about: String::new(),
        },
        None => Error::Refused(message.to_owned()),
    })
}
