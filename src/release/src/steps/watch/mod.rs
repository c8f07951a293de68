//! Step 7: follow our own deployment until its end.
//!
//! Polling is our own. The SDK's waiter for deployments gives up after thirty minutes, which is
//! shorter than many canaries with their termination wait, and it sleeps for minutes between two
//! looks; the one for services never succeeds with CodeDeploy's controller. The deployment that is
//! watched is the one that was created, by its id: a `Succeeded` rollback is the newest deployment
//! of the group, and a failed release.

mod install;
mod judging;
mod seen;

use std::time::{Duration, Instant};

use aws_sdk_codedeploy::types as cd;
use rollout::deployment::{Roles, StopReason};
use rollout::event::{Entry, Event, TaskSetDescription};
use rollout::lifecycle::DeploymentStatus;
use rollout::traffic::TrafficRouting;

use self::install::Install;
use self::judging::Judging;
use self::seen::Seen;
use super::Release;
use crate::aws::AwsError;
use crate::error::Error;
use crate::outcome::Outcome;

/// Between two looks at AWS.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two looks at a stage, in its time: a look costs less there, and shows more.
const STAGE_PAUSE: Duration = Duration::from_secs(1);
/// How long, in real time, a deployment is watched without one answer.
const DEAF: Duration = Duration::from_mins(2);
/// How long a rollback deployment may take to appear (ecspresso waits about as long).
const ROLLBACK_APPEARS: Duration = Duration::from_secs(100);

/// How a deployment will go, as far as that can be known before.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How production traffic moves.
    pub routing: TrafficRouting,
    /// How long it may wait for `ContinueDeployment`.
    pub ready_wait: Duration,
    /// How long blue stays after the shift.
    pub termination_wait: Duration,
    /// What makes CodeDeploy roll back by itself.
    pub rollback: Vec<cd::AutoRollbackEvent>,
}

impl Plan {
    /// The longest that a healthy deployment can take: an hour to install and an hour of hooks are
    /// CodeDeploy's own limits.
    fn longest(&self) -> Duration {
        const HOUR: Duration = Duration::from_hours(1);
        HOUR * 2 + self.ready_wait + self.routing.duration() + self.termination_wait + HOUR / 2
    }

    fn rolls_back(&self, reason: StopReason) -> bool {
        let event = match reason {
            StopReason::Alarm => cd::AutoRollbackEvent::DeploymentStopOnAlarm,
            StopReason::Request | StopReason::ReadyWaitExpired => {
                cd::AutoRollbackEvent::DeploymentStopOnRequest
            }
            StopReason::Failure => cd::AutoRollbackEvent::DeploymentFailure,
        };
        self.rollback.contains(&event)
    }
}

/// A deployment that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// Its id.
    pub deployment_id: String,
    /// The task definition it brings.
    pub definition: String,
    /// How it will go.
    pub plan: Plan,
}

/// Watches to the end, and says what it means.
pub async fn run(release: &Release<'_>, running: Running) -> Result<Outcome, Error> {
    let _ = release.deployment.set(running.deployment_id.clone());
    let step = "watch".to_owned();
    release
        .announcer
        .event(Event::StepStarted { step: step.clone() });
    let mut watch = Watch::new(release, &running).await;
    let ended = watch.until_the_end().await?;
    if let Some(judging) = &mut watch.judging {
        judging.ended(release);
    }
    let outcome = watch.outcome(&ended).await?;
    release.announcer.event(Event::StepFinished {
        step,
        detail: outcome.sentence(release.version()),
    });
    Ok(outcome)
}

struct Watch<'a> {
    release: &'a Release<'a>,
    running: &'a Running,
    seen: Seen,
    install: Install,
    roles: Option<Roles<TaskSetDescription>>,
    judging: Option<Judging>,
    heard: Instant,
}

/// The deployment's last state.
struct Ended {
    status: DeploymentStatus,
    info: cd::DeploymentInfo,
}

impl<'a> Watch<'a> {
    async fn new(release: &'a Release<'a>, running: &'a Running) -> Watch<'a> {
        Watch {
            release,
            running,
            seen: Seen::new(&running.deployment_id, running.plan.clone()),
            install: Install::default(),
            roles: None,
            judging: Judging::of(release, &running.deployment_id).await,
            heard: Instant::now(),
        }
    }

    async fn until_the_end(&mut self) -> Result<Ended, Error> {
        let limit = self
            .release
            .timeout
            .unwrap_or_else(|| self.running.plan.longest());
        let begun = self.release.announcer.now();
        loop {
            if let Some(ended) = self.look().await? {
                return Ok(ended);
            }
            if self.release.announcer.now() - begun > limit {
                return Err(self.still_running(limit));
            }
            self.rest().await;
        }
    }

    /// One look: the deployment, then its target, so that the last states of events and weights
    /// are announced before the end.
    async fn look(&mut self) -> Result<Option<Ended>, Error> {
        let id = &self.running.deployment_id;
        let codedeploy = &self.release.clients.codedeploy;
        let Some(info) = self.heard(codedeploy.deployment(id).await)? else {
            return Ok(None);
        };
        let Some(target) = self.heard(codedeploy.target(id).await)? else {
            return Ok(None);
        };
        let now = self.release.announcer.now();
        let mut entries = self.seen.look(now, &info, target.as_ref());
        if self.seen.roles_are_open()
            && let Some(target) = &target
            && let Some(roles) = install::roles(self.release, self.running, target).await
        {
            self.seen.roles_are_known();
            self.roles = Some(roles.clone());
            entries.push(Entry::new(
                now,
                Event::RolesAssigned {
                    deployment_id: id.clone(),
                    roles,
                },
            ));
        }
        let ended = self.seen.ended();
        if ended.is_none()
            && let Some(since) = self.seen.installing_since()
        {
            self.install
                .look(self.release, self.running, now - since)
                .await?;
        }
        self.announce(entries);
        if ended.is_none() {
            self.let_judge().await?;
        }
        Ok(ended.map(|status| Ended { status, info }))
    }

    /// Lets the judge look, and does what it says.
    async fn let_judge(&mut self) -> Result<(), Error> {
        let (Some(judging), Some(roles)) = (&mut self.judging, &self.roles) else {
            return Ok(());
        };
        judging
            .look(self.release, roles, self.seen.green_share())
            .await;
        if judging.must_stop() {
            let codedeploy = &self.release.clients.codedeploy;
            let answer = codedeploy.stop(&self.running.deployment_id).await;
            if self.heard(answer)?.is_some()
                && let Some(judging) = &mut self.judging
            {
                judging.has_stopped();
            }
        }
        Ok(())
    }

    /// Why we stopped the deployment ourselves, as a clause.
    fn stopped_by_us(&self) -> Option<String> {
        let judged = || self.judging.as_ref().and_then(Judging::why);
        self.install.why().or_else(judged)
    }

    /// What the end means for the traffic. Waits for the rollback, if there is one.
    async fn outcome(&mut self, ended: &Ended) -> Result<Outcome, Error> {
        if ended.status == DeploymentStatus::Succeeded {
            return Ok(Outcome::Deployed);
        }
        let reason = self.seen.reason();
        let ours = self.stopped_by_us();
        let stopped_by_us = ours.is_some();
        let why = ours.unwrap_or_else(|| self.seen.why());
        let rolled_back = match self.rollback(ended, reason).await? {
            Some(rollback) => self.watch_rollback(&rollback, reason).await?,
            None => true,
        };
        let back = rolled_back && self.traffic_is_back().await?;
        Ok(match (back, reason) {
            (false, _) => Outcome::TrafficUnknown {
                why: format!("{why}; {}", self.seen.where_traffic_is()),
            },
            (true, StopReason::Request) if !stopped_by_us => Outcome::Stopped { why },
            (true, _) => Outcome::RolledBack { why },
        })
    }

    /// The id of the rollback deployment. It may appear a little after the end.
    async fn rollback(
        &mut self,
        ended: &Ended,
        reason: StopReason,
    ) -> Result<Option<String>, Error> {
        let id = |info: &cd::DeploymentInfo| {
            info.rollback_info()
                .and_then(|info| info.rollback_deployment_id())
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
        };
        if let Some(id) = id(&ended.info) {
            return Ok(Some(id));
        }
        if !self.running.plan.rolls_back(reason) && self.stopped_by_us().is_none() {
            return Ok(None);
        }
        let until = self.release.announcer.now() + ROLLBACK_APPEARS;
        while self.release.announcer.now() < until {
            self.rest().await;
            let codedeploy = &self.release.clients.codedeploy;
            let answer = codedeploy.deployment(&self.running.deployment_id).await;
            if let Some(info) = self.heard(answer)?
                && let Some(id) = id(&info)
            {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Watches the rollback deployment; whether it succeeded.
    async fn watch_rollback(&mut self, id: &str, reason: StopReason) -> Result<bool, Error> {
        let deployment_id = self.running.deployment_id.clone();
        self.announce(vec![Entry::new(
            self.release.announcer.now(),
            Event::RollbackStarted {
                deployment_id: deployment_id.clone(),
                rollback_deployment_id: id.to_owned(),
                reason,
            },
        )]);
        let limit = self.running.plan.longest();
        let begun = self.release.announcer.now();
        let mut seen = Seen::rollback(id, &deployment_id, self.running.plan.clone());
        loop {
            let codedeploy = &self.release.clients.codedeploy;
            let info = codedeploy.deployment(id).await;
            let target = codedeploy.target(id).await;
            if let (Some(info), Some(target)) = (self.heard(info)?, self.heard(target)?) {
                let now = self.release.announcer.now();
                let entries = seen.look(now, &info, target.as_ref());
                self.announce(entries);
                if let Some(status) = seen.ended() {
                    return Ok(status == DeploymentStatus::Succeeded);
                }
            }
            if self.release.announcer.now() - begun > limit {
                return Err(self.still_running(limit));
            }
            self.rest().await;
        }
    }

    /// Whether blue has all traffic, asked of CodeDeploy until it says so or time is up.
    async fn traffic_is_back(&mut self) -> Result<bool, Error> {
        const CHECKS: usize = 5;
        for check in 0..CHECKS {
            let codedeploy = &self.release.clients.codedeploy;
            let target = codedeploy.target(&self.running.deployment_id).await;
            if let Some(target) = self.heard(target)? {
                let now = self.release.announcer.now();
                let entries = target
                    .as_ref()
                    .map_or_else(Vec::new, |target| self.seen.weights(now, target));
                self.announce(entries);
                if self.seen.blue_has_all() {
                    return Ok(true);
                }
            }
            if check + 1 < CHECKS {
                self.rest().await;
            }
        }
        Ok(false)
    }

    /// Takes an answer. What may pass (no connection, throttled, a server's error) is `None`, until
    /// there was no answer for too long.
    fn heard<T>(&mut self, answer: Result<T, AwsError>) -> Result<Option<T>, Error> {
        match answer {
            Ok(answer) => {
                self.heard = Instant::now();
                Ok(Some(answer))
            }
            Err(error) if error.transient && self.heard.elapsed() < DEAF => Ok(None),
            Err(error) if error.transient => Err(Error::StillRunning {
                deployment_id: self.running.deployment_id.clone(),
                after: format!("{} s without an answer ({error})", DEAF.as_secs()),
                follow: self.release.follow.clone(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// The pause between two looks; longer while there is no answer.
    async fn rest(&self) {
        let at_aws = if self.release.target.stage.is_some() {
            STAGE_PAUSE
        } else {
            PAUSE
        };
        let pause = self.release.pause(at_aws);
        let deaf = self.heard.elapsed().min(DEAF) / 4;
        tokio::time::sleep(pause + deaf.saturating_sub(pause)).await;
    }

    fn still_running(&self, limit: Duration) -> Error {
        Error::StillRunning {
            deployment_id: self.running.deployment_id.clone(),
            after: format!("{} min", limit.as_secs() / 60),
            follow: self.release.follow.clone(),
        }
    }

    fn announce(&self, entries: Vec<Entry>) {
        for entry in entries {
            self.release.announcer.entry(entry);
        }
    }
}
