//! Step 4: the task definition, unless the latest revision already equals it.

use super::preflight::Ground;
use super::{Done, Release, short};
use crate::error::Error;

pub async fn run(release: &Release<'_>, ground: &Ground) -> Result<Done<String>, Error> {
    if let Some(arn) = &ground.registered {
        return Done::new(arn.clone(), format!("{} is equal already", short(arn)));
    }
    let wanted = release.package.definition(release.target)?;
    let arn = release.clients.ecs.register(wanted).await?;
    let detail = short(&arn).to_owned();
    Done::new(arn, detail)
}
