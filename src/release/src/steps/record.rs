//! Step 8: the record and a release manifest to S3.
//!
//! The file on this machine is written while things happen ([`crate::record`]); here it is closed
//! with its summary, and a copy is stored beside the `AppSpecs`, where colleagues find it.

use std::path::Path;
use std::time::Duration;

use rollout::Timestamp;
use rollout::event::{Entry, Event, RequestCounts};
use serde::Serialize;

use super::Release;
use crate::announce::Announcer;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::record;

/// What is known at the end besides the outcome.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Real time since the first event.
    pub real: Duration,
    /// Outcomes of all generated requests.
    pub requests: RequestCounts,
    /// When the first request was lost.
    pub first_loss: Option<Timestamp>,
    /// When the last one was.
    pub last_loss: Option<Timestamp>,
    /// What to do next.
    pub next: Vec<String>,
}

/// The release manifest: what was released, in one small file that tools read.
#[derive(Debug, Serialize)]
struct Manifest<'a> {
    version: &'a str,
    bundle: String,
    image: String,
    revision: &'a str,
    target: &'a str,
    deployment: Option<&'a str>,
    exit_code: u8,
    outcome: &'a str,
    record: &'a str,
}

/// Closes the record, stores both, and announces the summary as the last event.
pub async fn run(
    release: &Release<'_>,
    outcome: &Outcome,
    ending: Ending,
    path: &Path,
) -> Result<(), Error> {
    let step = "record".to_owned();
    release
        .announcer
        .event(Event::StepStarted { step: step.clone() });
    let sentence = outcome.sentence(release.version());
    let finished = |detail: String| Event::StepFinished {
        step: step.clone(),
        detail,
    };
    let summary = Event::Summary {
        exit_code: outcome.exit_code(),
        outcome: sentence.clone(),
        real_seconds: (ending.real.as_secs_f64() * 1000.0).round() / 1000.0,
        requests: ending.requests,
        first_loss: ending.first_loss,
        last_loss: ending.last_loss,
        record: Some(path.display().to_string()),
        next: ending.next,
    };
    let stored = store(release, outcome, &sentence, &finished, &summary, path).await;
    release.announcer.event(finished(match stored {
        Ok(detail) => detail,
        // The deployment's outcome stands, whether or not a copy of its record does.
        Err(error) => format!("kept on this machine only: {error}"),
    }));
    release.announcer.event(summary);
    Ok(())
}

/// Closes the record of a run that ended without an outcome.
pub fn fail(announcer: &Announcer, error: &Error, ending: Ending, path: &Path) {
    announcer.event(Event::Summary {
        exit_code: error.exit_code(),
        outcome: error.to_string(),
        real_seconds: (ending.real.as_secs_f64() * 1000.0).round() / 1000.0,
        requests: ending.requests,
        first_loss: ending.first_loss,
        last_loss: ending.last_loss,
        record: Some(path.display().to_string()),
        next: ending.next,
    });
}

async fn store(
    release: &Release<'_>,
    outcome: &Outcome,
    sentence: &str,
    finished: &impl Fn(String) -> Event,
    summary: &Event,
    path: &Path,
) -> Result<String, Error> {
    let s3 = &release.clients.s3;
    let name = release.deployment.get().cloned().unwrap_or_else(|| {
        format!(
            "{}-{}",
            release.version(),
            release.announcer.now().as_millis()
        )
    });
    let key = format!("records/{name}.jsonl");
    let place = format!("s3://{}/{key}", s3.bucket());
    // The copy gets the lines that the file here will end with.
    release.announcer.flushed().await;
    let mut body = tokio::fs::read_to_string(path)
        .await
        .map_err(Error::io("read the record", path))?;
    let now = release.announcer.now();
    body.push_str(&record::line(&Entry::new(now, finished(place.clone()))));
    body.push_str(&record::line(&Entry::new(now, summary.clone())));
    let manifest = Manifest {
        version: release.version(),
        bundle: release.package.bundle.digest().to_string(),
        image: release.package.image(release.target),
        revision: release.package.bundle.revision(),
        target: &release.target.name,
        deployment: release.deployment.get().map(String::as_str),
        exit_code: outcome.exit_code(),
        outcome: sentence,
        record: &place,
    };
    let manifest = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    let manifest_key = format!("releases/{name}.json");
    tokio::try_join!(
        s3.put(&key, "application/x-ndjson", None, body.into_bytes()),
        s3.put(&manifest_key, "application/json", None, manifest),
    )?;
    Ok(place)
}
