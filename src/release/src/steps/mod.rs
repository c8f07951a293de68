//! A release, step by step. Each step is idempotent, and each is announced.
//!
//! `preflight` looks at everything and changes nothing; what it refuses has had no effect. Then
//! `push`, `publish`, `register`, `migrate` and `deploy` change one thing each, and `watch` follows
//! the deployment to its end. Run again after a crash, the steps find where they were: the registry
//! has the image, the revision is registered, and a running deployment of the same revision is
//! watched and not doubled. The same code runs against a stage and against AWS.

mod deploy;
mod migrate;
mod preflight;
mod publish;
mod push;
pub mod record;
mod register;
mod watch;

use std::sync::OnceLock;
use std::time::Duration;

use rollout::event::Event;

use crate::announce::Announcer;
use crate::aws::Clients;
use crate::config::Hooks;
use crate::config::judge::Mode;
use crate::error::Error;
use crate::outcome::Outcome;
use crate::package::Package;
use crate::target::Target;

/// What all steps work with.
#[derive(Debug)]
pub struct Release<'a> {
    /// What is released.
    pub package: &'a Package,
    /// Where to.
    pub target: &'a Target,
    /// The target's APIs.
    pub clients: &'a Clients,
    /// Where events go.
    pub announcer: &'a Announcer,
    /// The CodeDeploy deployment configuration of the strategy.
    pub deployment_config: &'a str,
    /// The functions that the strategy hooks in.
    pub hooks: &'a Hooks,
    /// What an ABORT of the judge leads to, if it was said on the command line.
    pub judge: Option<Mode>,
    /// How long to watch at most, in the target's time; without it, what the plan can take.
    pub timeout: Option<Duration>,
    /// The command that follows the deployment from another terminal.
    pub follow: String,
    /// The deployment, as soon as there is one.
    pub deployment: OnceLock<String>,
}

impl Release<'_> {
    /// Runs all steps up to the end of the deployment.
    pub async fn run(&self) -> Result<Outcome, Error> {
        let ground = self.step("preflight", preflight::run(self)).await?;
        if let Some(running) = ground.running {
            return watch::run(self, running).await;
        }
        self.step("push", push::run(self)).await?;
        if self.package.bundle.static_files().next().is_some() {
            self.step("publish", publish::run(self)).await?;
        }
        let definition = self.step("register", register::run(self, &ground)).await?;
        if ground.serving == definition {
            return Ok(Outcome::NothingToDo);
        }
        self.step("migrate", migrate::run(self, &definition))
            .await?;
        let deployment = self
            .step("deploy", deploy::run(self, &ground, &definition))
            .await?;
        watch::run(self, deployment).await
    }

    /// The steps of a release that change nothing for users, unannounced: what the baseline of a
    /// rehearsal needs before there is a service. Returns the task definition.
    pub async fn prepare(&self) -> Result<String, Error> {
        push::run(self).await?;
        publish::run(self).await?;
        let wanted = self.package.definition(self.target)?;
        let definition = self.clients.ecs.register(wanted).await?;
        migrate::run(self, &definition).await?;
        Ok(definition)
    }

    /// What an ABORT of the judge leads to. On a stage it is enforced, so that everybody sees
    /// what it does; at AWS it has to be asked for.
    pub fn judge_mode(&self) -> Mode {
        let otherwise = match self.target.stage {
            Some(_) => Mode::Enforce,
            None => Mode::Observe,
        };
        self.judge
            .or(self.package.config.judge.mode)
            .unwrap_or(otherwise)
    }

    /// The version that is released.
    pub fn version(&self) -> &str {
        self.package.bundle.version()
    }

    /// Runs one step between its two announcements. What a step did is said in words by the step.
    async fn step<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<Done<T>, Error>>,
    ) -> Result<T, Error> {
        let step = name.to_owned();
        self.announcer
            .event(Event::StepStarted { step: step.clone() });
        let Done { detail, result } = work.await?;
        self.announcer.event(Event::StepFinished { step, detail });
        Ok(result)
    }

    /// How long to sleep between two looks at something that takes `virtual_` of the target's time
    /// at AWS: scaled on a stage, but never so short that polling itself is the load.
    fn pause(&self, at_aws: Duration) -> Duration {
        self.announcer
            .real(at_aws)
            .clamp(Duration::from_millis(50).min(at_aws), at_aws)
    }
}

/// A finished step: what it did in words, and what the next steps need of it.
#[derive(Debug)]
pub struct Done<T> {
    detail: String,
    result: T,
}

impl<T> Done<T> {
    #[expect(
        clippy::unnecessary_wraps,
        reason = "it is the end of every step, which may fail"
    )]
    fn new(result: T, detail: impl Into<String>) -> Result<Done<T>, Error> {
        Ok(Done {
            detail: detail.into(),
            result,
        })
    }
}

/// `3 tasks`, `1 task`.
fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// The last part of an ARN: `family:7` of a task definition, the id of a task.
pub fn short(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
