//! A stage under an account that Terraform makes: nothing is on it until Terraform has been there.
//!
//! The stage serves CodeDeploy, ECS and the registry, passes everything else on to an emulator, and
//! takes over what is made there (`stage::Options::upstream`). Who releases to it uses Terraform's own
//! output as the target, and the endpoint of the environment, as with any other account.

use std::time::{Duration, Instant};

use rollout::event::Event;
use stage::elb::{Listener, TargetState};
use stage::traffic::Traffic;
use stage::{Options, Stack, Stage};
use tokio::task::JoinHandle;

use super::{Relay, STOPPING, Setting, provision, tell, users};
use crate::announce::{Announcer, StageClock};
use crate::config::Config;
use crate::error::Error;

/// Between two looks whether users may come (real).
const PAUSE: Duration = Duration::from_millis(100);

/// A stage in front of the rest of an account.
#[derive(Debug)]
pub struct Account {
    stage: Stage,
    relay: JoinHandle<()>,
}

impl Account {
    /// Starts the stage in front of the endpoint `upstream`. Returns when its APIs answer.
    pub async fn start(
        config: &Config,
        setting: &Setting,
        upstream: &str,
        announcer: &Announcer,
    ) -> Result<Account, Error> {
        let step = "stage".to_owned();
        announcer.event(Event::StepStarted { step: step.clone() });
        let begun = Instant::now();
        let mut stack = Stack::named(&config.application.name);
        stack.metric_delay = config.stage.metric_delay;
        let stage = Stage::start(Options {
            dir: setting.directory.clone(),
            speed: setting.speed,
            ports: setting.ports,
            runtime: setting.runtime,
            postgres_bin: setting.postgres_bin.clone(),
            upstream: Some(upstream.to_owned()),
            stack,
            ..Options::default()
        })
        .await
        .map_err(|error| Error::Stage(error.to_string()))?;
        let clock = StageClock::now(stage.clock().speed(), stage.clock().now());
        announcer.follow_clock(Some(clock));
        let relay = tell(
            stage.events().subscribe(),
            announcer.clone(),
            Relay::Everything,
        );
        announcer.event(Event::StepFinished {
            step,
            detail: provision::description(&stage, begun.elapsed()),
        });
        Ok(Account {
            relay: tokio::spawn(relay),
            stage,
        })
    }

    /// The stage itself.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Lets users come as soon as every target group that production traffic goes to has somebody
    /// who answers: the first release of all has nobody to lose.
    pub async fn users(&self, rate: f64, path: &str) -> Result<Traffic, Error> {
        loop {
            let balancer = self.stage.load_balancer();
            let healthy = |group: &str| {
                let targets = balancer.target_health(group).unwrap_or_default();
                targets
                    .iter()
                    .any(|target| target.state == TargetState::Healthy)
            };
            let weights = balancer.weights(Listener::Production);
            let mut wanted = weights.iter().filter(|(_, weight)| *weight > 0).peekable();
            if wanted.peek().is_some() && wanted.all(|(group, _)| healthy(group)) {
                return users(&self.stage, rate, path);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends everything that was started.
    pub async fn stop(self) {
        self.relay.abort();
        let _ = tokio::time::timeout(STOPPING, self.stage.stop()).await;
    }
}
