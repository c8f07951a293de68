//! Step 5: the expand migrations, as a one-off task of the new image.
//!
//! The only step that touches the database. The application embeds its migrations and brings the
//! schema to what its version needs; run twice, the second time does nothing. A failure ends the
//! release with the exit code of a rollback: the version before has all traffic, and it survives
//! the migrations that did succeed, because each is an expand migration.

use std::time::Duration;

use super::{Done, Release, count, short};
use crate::aws::ecs::{TaskEnd, task_end};
use crate::error::Error;

/// The application's sub-command.
const COMMAND: &[&str] = &["migrate"];
/// How many of the task's last lines are shown when it failed.
const TAIL: usize = 20;

pub async fn run(release: &Release<'_>, definition: &str) -> Result<Done<()>, Error> {
    // A token a run: a repeated call of the SDK does not start a second task, a repeated release
    // does start a new one.
    let token = format!(
        "{}-{}",
        crate::announce::real_now().as_millis(),
        std::process::id()
    );
    let container = &release.package.config.application.container;
    let started_by = format!("release {}", release.version());
    let task = release
        .clients
        .ecs
        .run(definition, container, COMMAND, &started_by, &token)
        .await?;
    match wait(release, &task).await? {
        TaskEnd::Succeeded => {
            let migrations = release.package.bundle.migrations().len();
            Done::new(
                (),
                format!(
                    "{} in place (task {})",
                    count(migrations, "migration"),
                    short(&task)
                ),
            )
        }
        TaskEnd::Failed { reason } => Err(Error::Migration {
            version: release.version().to_owned(),
            reason,
            logs: logs(release, &task),
        }),
        TaskEnd::Running => unreachable_end(release, &task),
    }
}

fn unreachable_end(release: &Release<'_>, task: &str) -> Result<Done<()>, Error> {
    Err(Error::Migration {
        version: release.version().to_owned(),
        reason: format!("task {} is no longer known to ECS", short(task)),
        logs: String::new(),
    })
}

/// Polls until the task has stopped. The SDK's waiter sleeps up to ten minutes between two looks;
/// a release would notice a finished migration long after it.
async fn wait(release: &Release<'_>, task: &str) -> Result<TaskEnd, Error> {
    let pause = release.pause(Duration::from_secs(2));
    let mut unknown = 0;
    loop {
        match release.clients.ecs.task(task).await {
            Ok(Some(task)) => match task_end(&task) {
                TaskEnd::Running => {}
                end => return Ok(end),
            },
            // Just after RunTask, DescribeTasks may not know the task yet.
            Ok(None) if unknown < 30 => unknown += 1,
            Ok(None) => return Ok(TaskEnd::Running),
            Err(error) if error.transient && unknown < 30 => unknown += 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(pause).await;
    }
}

/// The task's last lines: from the stage's own file, or the command that shows them at AWS.
fn logs(release: &Release<'_>, task: &str) -> String {
    let Some(stage) = &release.target.stage else {
        return format!(
            "\n  its log: aws logs tail {} --region {} | grep {}",
            release.target.task.log_group,
            release.target.region,
            short(task)
        );
    };
    let lines = crate::rehearsal::logs::tail(&stage.directory, short(task), TAIL);
    if lines.is_empty() {
        return String::new();
    }
    lines
        .iter()
        .fold("\n  its last lines:".to_owned(), |text, line| {
            format!("{text}\n    {line}")
        })
}
