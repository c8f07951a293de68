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
//! | `account` | everything else, where another endpoint serves it |
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

mod account;
pub mod clock;
pub mod cloudwatch;
pub mod codedeploy;
pub mod ecs;
pub mod elb;
pub mod events;
mod front;
pub mod functions;
pub mod leftovers;
mod options;
pub mod postgres;
pub mod registry;
pub mod runtime;
pub mod s3;
pub mod secrets;
mod start;
pub mod traffic;
pub mod wire;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use options::{HealthCheck, Options, Ports, Stack};

use clock::Clock;
use cloudwatch::{Alarms, Metrics};
use elb::LoadBalancer;
use events::Events;
use front::Front;
use functions::Functions;
use leftovers::Claim;
use postgres::Postgres;
use runtime::{Isolation, Runtime};
use secrets::Secrets;

/// A running stage. Dropping it without [`Stage::stop`] ends its parts too, but not gracefully.
#[derive(Debug)]
pub struct Stage {
    stack: Stack,
    clock: Clock,
    events: Events,
    metrics: Metrics,
    alarms: Alarms,
    front: Front,
    runtime: Runtime,
    secrets: Secrets,
    functions: Functions,
    ecs: ecs::Ecs,
    codedeploy: codedeploy::CodeDeploy,
    server: Option<wire::Server>,
    api: std::net::SocketAddr,
    postgres: Postgres,
    claim: Claim,
    /// Removed at the end; `None` where the directory was given.
    made: Option<PathBuf>,
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
        source: io::Error,
    },
    /// The directory belongs to another stage, or to somebody else.
    #[error(transparent)]
    Claim(#[from] leftovers::ClaimError),
    /// A port cannot be bound.
    #[error(
        "cannot listen on 127.0.0.1:{port} for the AWS APIs: {source}; choose another port, or 0 for any"
    )]
    Port {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The database did not start.
    #[error(transparent)]
    Postgres(#[from] postgres::PostgresError),
    /// The endpoint of the rest of the account is not there.
    #[error("{0}")]
    Upstream(String),
    /// The load balancer did not start: a port is taken, most likely.
    #[error(transparent)]
    LoadBalancer(#[from] elb::ElbError),
    /// Tasks cannot be isolated as asked.
    #[error(transparent)]
    Runtime(#[from] runtime::RuntimeError),
    /// The directory for images cannot be used.
    #[error(transparent)]
    Image(#[from] runtime::ImageError),
    /// A value in [`Options`] makes no sense.
    #[error("cannot start the stage with this {what}: {problem}")]
    Option {
        /// The option.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Stage {
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
        format!("http://{}", self.load_balancer().production_address())
    }

    /// The test listener of the load balancer: `http://127.0.0.1:PORT`.
    pub fn test_url(&self) -> String {
        format!("http://{}", self.load_balancer().test_address())
    }

    /// The image registry, `127.0.0.1:PORT`, as it stands in an image's name.
    pub fn registry(&self) -> String {
        self.api.to_string()
    }

    /// The directory that holds everything this stage writes. The logs of tasks are in `logs`, a
    /// file a container: `<family>-<revision>-<first 8 of the task's id>-<container>.log`.
    pub fn dir(&self) -> &Path {
        self.claim.dir()
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Everything that happens on the stage.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The load balancer. With [`Options::upstream`] it is another one after a service was created.
    pub fn load_balancer(&self) -> LoadBalancer {
        self.front.get().load_balancer.clone()
    }

    /// The metrics, as CloudWatch has them.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The alarms: CloudWatch's API is not served, so they are put here.
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// The secret store: Secrets Manager's API is not served, so secrets are put here.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The hook functions: Lambda's API is not served, so they are made here.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The database server.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// How tasks are isolated on this machine.
    pub fn isolation(&self) -> &Isolation {
        self.runtime.isolation()
    }

    /// Ends every task, the load balancer, the database and the API, and removes the directory if
    /// the stage made it. Returns when nothing runs any more.
    pub async fn stop(mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        self.codedeploy.shutdown();
        self.functions.shutdown().await;
        self.ecs.shutdown().await;
        self.load_balancer().stop().await;
        if let Err(error) = self.postgres.stop().await {
            tracing::warn!(%error, "PostgreSQL did not stop in order");
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.codedeploy.shutdown();
        self.functions.close();
        self.ecs.close();
        if let Some(dir) = self.made.take()
            && let Err(error) = runtime::remove_tree(&dir)
        {
            tracing::warn!(%error, dir = %dir.display(), "cannot remove the stage's directory");
        }
    }
}
