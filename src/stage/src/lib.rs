//! The local AWS on which a release is rehearsed.
//!
//! A rehearsal is worth something only if what is rehearsed is the release itself: the same
//! bundle, the same templates, the same program, the same API calls. So the stage does not offer
//! an interface of its own to the release program. It speaks the protocols that the AWS SDKs speak
//! on one loopback port, and behind them stand real parts: tasks are processes started from the
//! image, the load balancer carries real requests, the database is PostgreSQL, alarms are evaluated
//! on what the load balancer counted. What a deployment *is* (which events, which weights, when
//! to roll back) is not decided here at all: [`rollout`] decides it, and the stage carries it out.
//!
//! There is a room for each AWS service:
//!
//! | room | AWS service |
//! | --- | --- |
//! | [`codedeploy`] | CodeDeploy: applications, groups, configurations, deployments |
//! | [`ecs`] | ECS on Fargate: clusters, task definitions, services with task sets, tasks |
//! | [`s3`] | S3 |
//! | [`registry`] | ECR, as an OCI distribution registry |
//! | [`functions`] | Lambda, as far as CodeDeploy's hooks need it |
//!
//! and [`wire`] is the door to them. How the stage differs from AWS is listed, line by line, in
//! `docs/parity.md`.
//!
//! ```no_run
//! # async fn example() -> Result<(), stage::StageError> {
//! let stage = stage::Stage::start(stage::Options { speed: 10.0, ..Default::default() }).await?;
//! println!("{}", stage.endpoint_url());
//! stage.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod clock;
pub mod cloudwatch;
pub mod codedeploy;
pub mod ecs;
pub mod elb;
pub mod events;
pub mod functions;
pub mod leftovers;
mod options;
pub mod postgres;
pub mod registry;
pub mod runtime;
pub mod s3;
pub mod secrets;
pub mod traffic;
pub mod wire;

use std::{net::SocketAddr, path::PathBuf};

pub use options::{HealthCheck, Options, Ports, Stack};

/// A running stage. Dropping it without [`Stage::stop`] ends its tasks, but not gracefully.
#[derive(Debug)]
pub struct Stage {
    stack: Stack,
    api: SocketAddr,
    production: SocketAddr,
    test: SocketAddr,
    dir: PathBuf,
}

/// Why a stage could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The directory of the stage cannot be made or written.
    #[error("cannot use {} as the stage's directory: {source}; name another one", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A port cannot be bound.
    #[error(
        "cannot listen on 127.0.0.1:{port} for {purpose}: {source}; choose another port, or 0 for any"
    )]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What it was wanted for.
        purpose: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value in [`Options`] makes no sense.
    #[error("cannot start the stage with {what}: {problem}")]
    Option {
        /// The option.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Stage {
    /// Starts everything: the database, the load balancer, the alarms and the API.
    ///
    /// Returns when the API answers. Services are not created: that is done through the API.
    ///
    /// # Errors
    /// The variants of [`StageError`] say which part did not start; the others have been ended.
    #[expect(
        clippy::unused_async,
        reason = "the parts are started here as they land"
    )]
    pub async fn start(options: Options) -> Result<Self, StageError> {
        options.validate()?;
        Err(StageError::Option {
            what: "this build",
            problem: "the stage is not wired yet".into(),
        })
    }

    /// The names and ARNs of the stack on this stage.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Where the AWS APIs answer: `http://127.0.0.1:PORT`.
    ///
    /// The host is an address and not `localhost`, so that S3 clients use path-style requests.
    pub fn endpoint_url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The production listener of the load balancer: `http://127.0.0.1:PORT`.
    pub fn production_url(&self) -> String {
        format!("http://{}", self.production)
    }

    /// The test listener of the load balancer: `http://127.0.0.1:PORT`.
    pub fn test_url(&self) -> String {
        format!("http://{}", self.test)
    }

    /// The image registry, `127.0.0.1:PORT`, as it stands in an image's name.
    pub fn registry(&self) -> String {
        self.api.to_string()
    }

    /// The directory that holds everything this stage writes.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Ends every task, the load balancer, the database and the API, and removes the directory if
    /// the stage made it. Returns when nothing runs any more.
    #[expect(clippy::unused_async, reason = "the parts are ended here as they land")]
    pub async fn stop(self) {}
}
