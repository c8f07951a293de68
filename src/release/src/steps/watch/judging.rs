//! The judge at work: it reads both sides' counters, judges batch after batch, and stops the
//! deployment of a version that it finds bad.
//!
//! All mathematics is in [`rollout::judge`]; here is what surrounds it: where the counts come from, when
//! one batch ends and the next begins, and what is told. It begins when green gets its first users
//! and goes on until the deployment ends, the termination wait included: a PASS is never the last
//! word. Its state is stored beside the records after every batch, so that a release that was
//! killed and is resumed, here or on another machine, judges on instead of anew.

use std::time::Duration;

use rollout::Timestamp;
use rollout::deployment::Roles;
use rollout::event::{Event, TaskSetDescription};
use rollout::judge::counters::Sample;
use rollout::judge::cut::complete_periods;
use rollout::judge::trial::{Judged, Trial};
use rollout::judge::{Batch, Decision, Histogram, Side};
use serde::{Deserialize, Serialize};
use stage::elb::{self, GroupCounters};

use super::super::Release;
use crate::aws::cloudwatch::{CloudWatch, PERIOD};
use crate::config::judge::{self, Mode};
use crate::counters::StageCounters;

/// The judge of one deployment.
#[derive(Debug)]
pub struct Judging {
    mode: Mode,
    interval: Duration,
    source: Source,
    deployment_id: String,
    latency: bool,
    state: State,
    looked: Timestamp,
    told: Decision,
    stopped: bool,
}

/// Where the counts come from.
#[derive(Debug)]
enum Source {
    /// A stage's load balancer, which can be asked at any moment.
    LoadBalancer(StageCounters),
    /// Minutes, each complete when the next one is over.
    CloudWatch(CloudWatch),
}

/// What a resumed release goes on with.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    trial: Trial,
    /// Until when counts are in a batch; since the first look at green with users.
    taken: Option<Timestamp>,
}

impl Judging {
    /// The judge of a deployment, or none where nothing is judged. It goes on where an earlier run
    /// of the same deployment was.
    pub async fn of(release: &Release<'_>, deployment_id: &str) -> Option<Judging> {
        let config = &release.package.config.judge;
        let mode = release.judge_mode();
        if mode == Mode::Off {
            return None;
        }
        let source = Source::of(release, config.source)?;
        let judge = config.config();
        let trial = match stored(release, deployment_id).await {
            Some(State { trial, taken }) => trial.resumed_under(&judge).ok().zip(Some(taken)),
            None => None,
        };
        let (trial, taken) = match trial {
            Some(resumed) => resumed,
            None => (Trial::new(judge).ok()?, None),
        };
        let state = State { trial, taken };
        let mut judging = Judging {
            mode,
            interval: config.interval,
            latency: state.trial.judge().config().latency.is_some(),
            source,
            deployment_id: deployment_id.to_owned(),
            told: Decision::Continue,
            state,
            looked: Timestamp::default(),
            stopped: false,
        };
        // What was decided before has been told; an ABORT may not have been carried out.
        judging.told = judging.state.trial.judge().standing();
        Some(judging)
    }

    /// Reads what was counted, and judges if a batch is full. Nothing that fails here fails a
    /// release: what could not be read now is in the next batch. `green` is green's share of the
    /// production traffic in percent.
    pub async fn look(
        &mut self,
        release: &Release<'_>,
        roles: &Roles<TaskSetDescription>,
        green: u8,
    ) {
        let now = release.announcer.now();
        let judged = match &self.source {
            Source::LoadBalancer(source) => match source.read().await {
                Ok(counters) => self.take(&counters, roles),
                Err(error) => {
                    tracing::debug!(%error, "nothing to judge this time");
                    return;
                }
            },
            Source::CloudWatch(source) => {
                if now - self.looked < self.interval {
                    return;
                }
                self.looked = now;
                let source = source.clone();
                self.take_minutes(&source, roles, green, now).await
            }
        };
        if !judged.is_empty() {
            self.announce(release, &judged);
            self.store(release).await;
        }
    }

    /// The minutes that are complete, each once.
    async fn take_minutes(
        &mut self,
        source: &CloudWatch,
        roles: &Roles<TaskSetDescription>,
        green: u8,
        now: Timestamp,
    ) -> Vec<Judged> {
        let trial = &mut self.state.trial;
        trial.weight(now, green);
        let Some(taken) = self.state.taken else {
            if green > 0 {
                self.state.taken = Some(now);
            }
            return Vec::new();
        };
        let periods: Vec<_> = complete_periods(taken, now, PERIOD, PERIOD).collect();
        let (Some((start, _)), Some((_, end))) = (periods.first(), periods.last()) else {
            return Vec::new();
        };
        let groups = [
            roles.blue.target_group.as_str(),
            roles.green.target_group.as_str(),
        ];
        let latency = trial.judge().config().latency.as_ref();
        let bounds = latency.map(|latency| latency.bounds_ms.as_slice());
        let mut minutes = match source.minutes(groups, (*start, *end), bounds).await {
            Ok(minutes) => minutes,
            Err(error) => {
                tracing::debug!(%error, "nothing to judge this time");
                return Vec::new();
            }
        };
        self.state.taken = Some(*end);
        let mut judged = Vec::new();
        for (start, end) in periods {
            let [baseline, candidate] = minutes.remove(&start).unwrap_or_default();
            let batch = Batch {
                baseline,
                candidate,
            };
            // A minute in which the weights changed is dropped.
            judged.extend(trial.period(start, end, batch).unwrap_or_default());
        }
        judged
    }

    /// What the counters complete: no batch most of the time.
    fn take(&mut self, counters: &elb::Counters, roles: &Roles<TaskSetDescription>) -> Vec<Judged> {
        let green = counters.share(&roles.green.target_group);
        let wait = match self.state.taken {
            // Before its first users green has answered testers at most.
            None => green == 0,
            Some(taken) => counters.weights_since <= taken && counters.at - taken < self.interval,
        };
        if wait {
            return Vec::new();
        }
        let sample = Sample::of_sides(
            self.side(counters, &roles.blue.target_group),
            self.side(counters, &roles.green.target_group),
        );
        self.state.taken = Some(counters.at);
        let trial = &mut self.state.trial;
        trial.weight_changed(counters.weights_since, green);
        // A period in which the weights changed is dropped: nobody can say which of its requests
        // came before.
        trial.sample(counters.at, &sample).unwrap_or_default()
    }

    fn side(&self, counters: &elb::Counters, group: &str) -> Option<Side> {
        let GroupCounters {
            answered,
            failed,
            response_times,
        } = counters.target_groups.get(group)?;
        let signed = |count: &u64| i64::try_from(*count).unwrap_or(i64::MAX);
        Some(Side {
            requests: signed(answered),
            errors: signed(failed),
            latency: self
                .latency
                .then(|| Histogram::Counts(response_times.iter().map(signed).collect())),
        })
    }

    /// Tells what a batch has changed.
    fn announce(&mut self, release: &Release<'_>, judged: &[Judged]) {
        for error in judged
            .iter()
            .filter_map(|judged| judged.outcome.as_ref().err())
        {
            tracing::debug!(%error, "a batch is not judged");
        }
        let judge = self.state.trial.judge();
        release.announcer.event(Event::Judged {
            deployment_id: self.deployment_id.clone(),
            batch: judge.batches(),
            baseline: judge.baseline(),
            candidate: judge.candidate(),
            log_e: judge.log_e(),
        });
        let standing = judge.standing();
        if standing != self.told {
            self.told = standing;
            self.tell(release);
        }
    }

    fn tell(&self, release: &Release<'_>) {
        release.announcer.event(Event::JudgeDecided {
            deployment_id: self.deployment_id.clone(),
            decision: self.told,
            evidence: self.state.trial.judge().evidence().to_string(),
            enforced: self.mode == Mode::Enforce && self.told == Decision::Abort,
        });
    }

    /// Whether the deployment has to be stopped, and was not yet.
    pub fn must_stop(&self) -> bool {
        self.mode == Mode::Enforce && self.told == Decision::Abort && !self.stopped
    }

    /// The deployment was stopped for the judge.
    pub fn has_stopped(&mut self) {
        self.stopped = true;
    }

    /// Why the deployment was stopped by us, as a clause.
    pub fn why(&self) -> Option<String> {
        self.stopped
            .then(|| format!("the judge: {}", self.state.trial.judge().evidence()))
    }

    /// The deployment has ended. That there was no decision is said, too.
    pub fn ended(&mut self, release: &Release<'_>) {
        if let Some(judged) = self.state.trial.finish() {
            self.announce(release, &[judged]);
        }
        if self.told == Decision::Continue && self.state.trial.judge().batches() > 0 {
            self.tell(release);
        }
    }

    async fn store(&self, release: &Release<'_>) {
        let Ok(body) = serde_json::to_vec(&self.state) else {
            return;
        };
        let (s3, key) = (&release.clients.s3, key(&self.deployment_id));
        if let Err(error) = s3.put(&key, "application/json", None, body).await {
            tracing::debug!(%error, "the judge's state is not stored");
        }
    }
}

impl Source {
    fn of(release: &Release<'_>, source: Option<judge::Source>) -> Option<Source> {
        let own = match (&release.target.stage, &release.target.endpoint_url) {
            (Some(_), Some(endpoint)) => Some(StageCounters::of(endpoint)),
            _ => None,
        };
        match own {
            Some(counters) if source != Some(judge::Source::Cloudwatch) => {
                Some(Source::LoadBalancer(counters))
            }
            _ => release.clients.cloudwatch.clone().map(Source::CloudWatch),
        }
    }
}

async fn stored(release: &Release<'_>, deployment_id: &str) -> Option<State> {
    let body = release.clients.s3.get(&key(deployment_id)).await.ok()??;
    serde_json::from_slice(&body).ok()
}

/// Where the judge's state is kept.
fn key(deployment_id: &str) -> String {
    format!("judge/{deployment_id}.json")
}

#[cfg(test)]
#[path = "judging_tests.rs"]
mod tests;
