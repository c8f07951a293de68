//! Step 6: the AppSpec to S3, and `CreateDeployment`.

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
        .appspec(release.target, &wanted, definition)?;
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
    let deployment_id = match created {
        Created::Deployment(id) => id,
        Created::Busy(message) => return Err(lost_the_race(release, &message).await),
    };
    let detail = format!("{deployment_id} with {}", release.deployment_config);
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

/// Somebody else created a deployment after preflight: the same refusal as in preflight. The
/// service's text names the deployment, but its wording has changed once; asking is better.
async fn lost_the_race(release: &Release<'_>, message: &str) -> Error {
    if let Ok(Some(active)) = release.clients.codedeploy.active().await {
        return another(release, &active);
    }
    let id = message
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| word.starts_with("d-") && word.len() > 2);
    match id {
        Some(id) => Error::AnotherDeployment {
            deployment_id: id.to_owned(),
            application: release.target.application.clone(),
            group: release.target.deployment_group.clone(),
            status: "active".to_owned(),
            about: String::new(),
        },
        None => Error::Refused(message.to_owned()),
    }
}
