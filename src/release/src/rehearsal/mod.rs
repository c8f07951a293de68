//! A rehearsal: a stage of our own, the version before on it, users, and then the real release.
//!
//! Nothing here deploys. The stage is started, an "account" is set up on it through the same APIs
//! that a release uses ([`provision`]), the baseline is brought up with the very steps of a release
//! ([`crate::steps`]), generated traffic begins; then the release program runs as it would against
//! AWS. What the stage sees besides (tasks, alarms, requests) is relayed to the same audience.

pub mod account;
mod functions;
pub mod logs;
pub mod provision;

use std::path::PathBuf;
use std::time::Duration;

use rollout::event::{Entry, Event};
use stage::Stage;
use stage::traffic::{Totals, Traffic, TrafficOptions};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::announce::Announcer;
use crate::aws::Clients;
use crate::config::Config;
use crate::error::Error;
use crate::package::Package;
use crate::target::{StageInfo, Target};

pub use functions::Functions;

/// How the stage is to be.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Virtual seconds in a real one.
    pub speed: f64,
    /// Loopback ports; 0 for any.
    pub ports: stage::Ports,
    /// Where the stage writes; a temporary directory if none.
    pub directory: Option<PathBuf>,
    /// How tasks are isolated.
    pub runtime: stage::runtime::Kind,
    /// Where PostgreSQL's programs are, if not where they are looked for.
    pub postgres_bin: Option<PathBuf>,
    /// Where relative packages of functions are: the directory of bundles.
    pub packages: PathBuf,
    /// Which functions there are to be.
    pub functions: Functions,
}

/// A stage with a target on it.
#[derive(Debug)]
pub struct Rehearsal {
    stage: Stage,
    /// Where to release to.
    pub target: Target,
    /// Its APIs.
    pub clients: Clients,
    relay: JoinHandle<()>,
    traffic: Option<Traffic>,
}

/// Which events of the stage are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relay {
    /// What the watch of a release cannot see by itself.
    BesidesTheDeployment,
    /// Everything: somebody else releases here.
    Everything,
}

impl Rehearsal {
    /// Starts the stage. Returns when its APIs answer; nothing is deployed yet.
    pub async fn start(
        config: &Config,
        setting: &Setting,
        announcer: &Announcer,
        relay: Relay,
    ) -> Result<Rehearsal, Error> {
        let step = "stage".to_owned();
        announcer.event(Event::StepStarted { step: step.clone() });
        let begun = std::time::Instant::now();
        let stage = Stage::start(provision::options(config, setting))
            .await
            .map_err(|error| Error::Stage(error.to_string()))?;
        let relay = tokio::spawn(tell(stage.events().subscribe(), announcer.clone(), relay));
        let made = match functions::make(config, setting, &stage) {
            Ok(hooks) => provision::database(config, &stage)
                .await
                .map(|database| (database, hooks)),
            Err(error) => Err(error),
        };
        let (database, hooks) = match made {
            Ok(made) => made,
            Err(error) => {
                stage.stop().await;
                return Err(error);
            }
        };
        let target = Target {
            hooks,
            ..provision::target(config, &stage, database)
        };
        announcer.follow_clock(target.stage.as_ref().map(StageInfo::clock));
        let clients = Clients::of(&target).await;
        announcer.event(Event::StepFinished {
            step,
            detail: provision::description(&stage, begun.elapsed()),
        });
        Ok(Rehearsal {
            stage,
            target,
            clients,
            relay,
            traffic: None,
        })
    }

    /// Brings the baseline up: its image, its schema, the service with its first tasks, the
    /// deployment group. Returns when the load balancer finds it healthy.
    pub async fn serve(&self, baseline: &Package, announcer: &Announcer) -> Result<(), Error> {
        let step = "baseline".to_owned();
        announcer.event(Event::StepStarted { step: step.clone() });
        let detail = provision::baseline(self, baseline, announcer).await?;
        announcer.event(Event::StepFinished { step, detail });
        Ok(())
    }

    /// Lets users come, at a rate in requests a real second.
    pub fn start_traffic(&mut self, rate: f64, path: &str) -> Result<(), Error> {
        if rate > 0.0 {
            self.traffic = Some(users(&self.stage, rate, path)?);
        }
        Ok(())
    }

    /// Sends the users away, and says what they saw.
    pub async fn stop_traffic(&mut self) -> Option<Totals> {
        match self.traffic.take() {
            Some(traffic) => Some(traffic.stop().await),
            None => None,
        }
    }

    /// Lets virtual time pass.
    pub async fn sleep(&self, duration: Duration) {
        self.stage.clock().sleep(duration).await;
    }

    /// The stage itself.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// What functions said last, a sentence each: they are the target's by these names.
    pub fn said<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> Vec<String> {
        functions::said(&self.stage, &self.target, names)
    }

    /// Tells nothing more of what happens on the stage: its end is no part of the release.
    pub fn hush(&self) {
        self.relay.abort();
    }

    /// Ends everything that was started. Nothing runs any more when it returns.
    pub async fn stop(mut self) {
        drop(self.traffic.take());
        self.relay.abort();
        // What does not stop in time is killed by the kernel when this process ends.
        let _ = tokio::time::timeout(STOPPING, self.stage.stop()).await;
    }
}

/// How many entries of the access log may wait to be counted.
const ACCESS_LOG: usize = 65_536;

/// How long the stage may take to stop (real).
const STOPPING: Duration = Duration::from_secs(20);

/// How often traffic is reported (virtual).
const PERIOD: Duration = Duration::from_secs(30);

/// Generated traffic to the production listener, at a rate in requests a real second.
fn users(stage: &Stage, rate: f64, path: &str) -> Result<Traffic, Error> {
    let balancer = stage.load_balancer();
    let mut options = TrafficOptions::new(balancer.production_address(), rate);
    path.clone_into(&mut options.path);
    options.period = PERIOD;
    let traffic = Traffic::start(
        options,
        *stage.clock(),
        stage.events().clone(),
        Some(balancer.access_log(ACCESS_LOG)),
    );
    traffic.map_err(|error| Error::Stage(error.to_string()))
}

/// Tells the stage's events to the audience.
async fn tell(
    mut events: tokio::sync::broadcast::Receiver<Entry>,
    announcer: Announcer,
    relay: Relay,
) {
    loop {
        match events.recv().await {
            Ok(entry) if relay == Relay::Everything || is_besides(&entry.event) => {
                announcer.entry(entry);
            }
            // Too slow for a burst (Lagged): what was lost is lost, the rest goes on.
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// Whether the watch, which asks CodeDeploy and ECS, cannot know it.
fn is_besides(event: &Event) -> bool {
    matches!(
        event,
        Event::AlarmStateChanged { .. }
            | Event::TaskStarted { .. }
            | Event::TaskStopped { .. }
            | Event::TargetHealthChanged { .. }
            | Event::TargetGroupPeriod { .. }
            | Event::TestTrafficChanged { .. }
            | Event::HookInvoked { .. }
            | Event::HookAnswered { .. }
            | Event::Traffic { .. }
    )
}
