//! How the parts of a stage are put together.
//!
//! What takes long (PostgreSQL, finding out how tasks can be isolated) is started first and at the
//! same time; the port of the API is bound before, since the names of images carry it. Whatever
//! fails, what was started before ends with the values that are dropped.

use std::{
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::net::TcpListener;

use crate::{
    Options, Stage, StageError,
    account::{self, Account},
    clock::Clock,
    cloudwatch::{Alarms, AlarmsOptions, Metrics, api::CloudWatch},
    codedeploy::{self, CodeDeploy},
    ecs::{self, Ecs},
    elb::{self, LoadBalancer},
    events::Events,
    front::{Balancer, Front},
    functions::{Functions, Place},
    leftovers::Claim,
    postgres::{Postgres, PostgresOptions},
    registry::Registry,
    runtime::{ImageStore, Runtime, RuntimeOptions},
    s3::ObjectStore,
    secrets::Secrets,
    wire::{Credentials, Routes, Server},
};

/// How the directories of stages begin that were not told where to write.
const PREFIX: &str = "serein-stage-";
/// A directory of a stage that is younger may be one that is being started.
const ABANDONED_AFTER: Duration = Duration::from_mins(1);

impl Stage {
    /// Starts everything: the database, the load balancer, the alarms and the API.
    ///
    /// Returns when the API answers. Services are not created: that is done through the API.
    ///
    /// # Errors
    /// The variants of [`StageError`] say which part did not start; the others have been ended.
    #[expect(clippy::too_many_lines, reason = "the parts, each in its place")]
    pub async fn start(options: Options) -> Result<Self, StageError> {
        options.validate()?;
        let mut stack = options.stack.clone();
        let credentials = Credentials {
            access_key: options.access_key.clone(),
            secret_key: options.secret_key.clone(),
            region: stack.region.clone(),
        };
        let found = match &options.upstream {
            None => None,
            Some(url) => {
                let found = account::Found::at(url, credentials.clone()).await;
                let found = found.map_err(|error| StageError::Upstream(error.to_string()))?;
                stack.account_id.clone_from(&found.account_id);
                Some(found)
            }
        };
        let (claim, made) = directory(options.dir.as_deref())?;
        // From here on the directory is removed when something fails.
        let made = made.map(Made);
        let dir = claim.dir().to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.ports.api))
            .await
            .map_err(|source| StageError::Port {
                port: options.ports.api,
                source,
            })?;
        let api = listener.local_addr().map_err(|source| StageError::Port {
            port: options.ports.api,
            source,
        })?;

        let clock = Clock::new(options.speed);
        let events = Events::new(clock);
        let metrics = Metrics::new();
        let load_balancer = load_balancer(&options, clock, &metrics, &events)?;
        let front = Front::new(Balancer::of(&stack, load_balancer));
        let postgres = Postgres::start(PostgresOptions {
            bin: options.postgres_bin.clone(),
            port: options.ports.postgres,
            claim: Some(claim.clone()),
            ..PostgresOptions::new(dir.join("postgres"))
        });
        let (postgres, runtime) = tokio::join!(postgres, runtime(&options, &claim));
        let (postgres, runtime) = (postgres?, runtime?);

        let alarms = Alarms::start(
            clock,
            metrics.clone(),
            events.clone(),
            AlarmsOptions {
                metric_delay: stack.metric_delay,
            },
        );
        for definition in &stack.alarms {
            alarms
                .put(definition.clone())
                .map_err(|error| StageError::Option {
                    what: "alarm",
                    problem: format!("{}: {error}", definition.name),
                })?;
        }
        let in_dir = |source| StageError::Directory {
            dir: dir.clone(),
            source,
        };
        std::fs::create_dir_all(dir.join("logs")).map_err(in_dir)?;
        let registry = Registry::open(&dir.join("registry")).map_err(in_dir)?;
        let secrets = Secrets::new();
        let functions = Functions::new(Place {
            claim: claim.clone(),
            endpoint_url: format!("http://{api}"),
            region: stack.region.clone(),
            account_id: stack.account_id.clone(),
            access_key: options.access_key.clone(),
            secret_key: options.secret_key.clone(),
        });
        let account = found.map(|found| {
            let parts = account::Parts {
                clock,
                metrics: metrics.clone(),
                events: events.clone(),
                alarms: alarms.clone(),
                front: front.clone(),
                secrets: secrets.clone(),
                functions: functions.clone(),
                dir: dir.clone(),
                postgres: postgres.clone(),
                registry: api,
                idle_timeout: stack.idle_timeout,
            };
            Account::new(found, parts)
        });
        let objects = ObjectStore::open(
            &dir.join("s3"),
            &options.access_key,
            &options.secret_key,
            &stack.buckets,
        )
        .map_err(in_dir)?;
        let ecs = Ecs::new(ecs::Parts {
            clock,
            events: events.clone(),
            stack: stack.clone(),
            runtime: runtime.clone(),
            images: ImageStore::new(&dir.join("images"))?,
            registry: registry.clone(),
            registry_host: api.to_string(),
            secrets: secrets.clone(),
            front: front.clone(),
            account: account.clone(),
            dir: dir.clone(),
            reach: vec![postgres.address()],
        });
        let codedeploy = CodeDeploy::new(codedeploy::Parts {
            clock,
            events: events.clone(),
            stack: stack.clone(),
            ecs: ecs.clone(),
            front: front.clone(),
            account: account.clone(),
            alarms: alarms.clone(),
            objects: objects.clone(),
            functions: functions.clone(),
        });
        let routes = Routes {
            json: vec![
                std::sync::Arc::new(codedeploy.clone()),
                std::sync::Arc::new(ecs.clone()),
                std::sync::Arc::new(CloudWatch {
                    clock,
                    metrics: metrics.clone(),
                    delay: stack.metric_delay,
                }),
            ],
            counters: elb::counters::handler(front.clone()),
            registry: registry.handler(),
            rest: match &account {
                None => objects.handler(),
                Some(account) => account.handler(&objects),
            },
            everything_else: account.is_some(),
            credentials,
        };
        let server = Server::start(listener, routes);
        Ok(Self {
            stack,
            clock,
            events,
            metrics,
            alarms,
            front,
            runtime,
            secrets,
            functions,
            ecs,
            codedeploy,
            server: Some(server),
            api,
            postgres,
            claim,
            made: made.map(Made::keep),
        })
    }
}

/// A directory that is removed unless the start succeeds.
struct Made(PathBuf);

impl Made {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = crate::runtime::remove_tree(&self.0);
        }
    }
}

/// The stage's directory: the given one, or a new one, which is returned a second time.
fn directory(given: Option<&Path>) -> Result<(Claim, Option<PathBuf>), StageError> {
    if let Some(dir) = given {
        let (claim, swept) = Claim::of(dir)?;
        if !swept.processes.is_empty() || !swept.paths.is_empty() {
            tracing::info!(?swept, "removed what a stage that was killed had left");
        }
        return Ok((claim, None));
    }
    let parent = std::env::temp_dir();
    remove_abandoned(&parent);
    let dir = tempfile::Builder::new()
        .prefix(PREFIX)
        // PostgreSQL's user must be able to pass, where that is another one.
        .permissions(std::fs::Permissions::from_mode(0o711))
        .tempdir_in(&parent)
        .map_err(|source| StageError::Directory {
            dir: parent,
            source,
        })?
        .keep();
    match Claim::of(&dir) {
        Ok((claim, _)) => Ok((claim, Some(dir))),
        Err(error) => {
            let _ = std::fs::remove_dir_all(&dir);
            Err(error.into())
        }
    }
}

/// Removes the directories of stages that were killed, and ends what they had started.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .is_some_and(|age| age > ABANDONED_AFTER);
        if !(ours && old) {
            continue;
        }
        // Whoever gets the claim knows that its owner is dead; another user's is left alone.
        if let Ok((claim, swept)) = Claim::of(&entry.path()) {
            drop(claim);
            let _ = crate::runtime::remove_tree(&entry.path());
            tracing::info!(?swept, dir = %entry.path().display(), "removed the directory of a stage that was killed");
        }
    }
}

async fn runtime(options: &Options, claim: &Claim) -> Result<Runtime, StageError> {
    let options = RuntimeOptions {
        kind: options.runtime,
        claim: Some(claim.clone()),
        ..RuntimeOptions::new(claim.dir().join("runtime"))
    };
    match tokio::task::spawn_blocking(move || Runtime::new(options)).await {
        Ok(runtime) => Ok(runtime?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn load_balancer(
    options: &Options,
    clock: Clock,
    metrics: &Metrics,
    events: &Events,
) -> Result<LoadBalancer, StageError> {
    let stack = &options.stack;
    let check = &stack.health_check;
    let matcher = check
        .matcher
        .parse()
        .map_err(|error: elb::MatcherError| StageError::Option {
            what: "health check",
            problem: error.to_string(),
        })?;
    let health_check = elb::HealthCheck {
        path: check.path.clone(),
        interval: check.interval,
        timeout: check.timeout,
        healthy_threshold: check.healthy,
        unhealthy_threshold: check.unhealthy,
        matcher,
    };
    let groups = stack
        .target_groups
        .iter()
        .map(|name| elb::TargetGroupOptions {
            name: name.clone(),
            dimension: stack.target_group_dimension(name),
            health_check: health_check.clone(),
            deregistration_delay: stack.deregistration_delay,
        });
    let [first, second] = &stack.target_groups;
    let balancer = LoadBalancer::start(
        elb::Options {
            dimension: stack.load_balancer_dimension(),
            production_port: options.ports.production,
            test_port: options.ports.test,
            idle_timeout: stack.idle_timeout,
            groups: groups.collect(),
            production: vec![(first.clone(), 100)],
            // The empty group: 503 until AllowTestTraffic.
            test: vec![(second.clone(), 100)],
            ..elb::Options::default()
        },
        clock,
        metrics,
        events,
    )?;
    Ok(balancer)
}
