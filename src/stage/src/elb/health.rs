//! Health checks: the state machine of a target, and the requests that drive it.
//!
//! The machine ([`Health`]) is pure and small, so that each row of "Health checks for your target
//! groups" (ALB guide) is a line of its tests. The driver ([`check_forever`]) opens a connection of
//! its own for each check, as ELB does, on a schedule that does not depend on how long the answers
//! take.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;

use super::options::HealthCheck;
use crate::{clock::Clock, runtime::Dial};

/// The state of a target, as `DescribeTargetHealth` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetState {
    /// Registered, and no check has passed or failed often enough yet.
    Initial,
    /// Takes requests.
    Healthy,
    /// Takes requests only if no target of its group is healthy.
    Unhealthy,
    /// In no listener's target group, or not registered.
    Unused,
    /// Deregistered; running requests may finish.
    Draining,
}

impl TargetState {
    /// ELB's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unused => "unused",
            Self::Draining => "draining",
        }
    }
}

/// Why a target is in its state, as `DescribeTargetHealth` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `initial`: the load balancer has not begun to check it.
    RegistrationInProgress,
    /// `initial`: checks are running.
    InitialHealthChecking,
    /// `unhealthy`: it answers, with a status that does not pass.
    ResponseCodeMismatch,
    /// `unhealthy`: it does not answer in time.
    Timeout,
    /// `unhealthy`: it refuses or breaks the connection, or answers what is not HTTP.
    FailedHealthChecks,
    /// `unused`: no listener forwards to its group.
    NotInUse,
    /// `unused`: it is not registered (any more).
    NotRegistered,
    /// `draining`.
    DeregistrationInProgress,
}

impl Reason {
    /// ELB's code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RegistrationInProgress => "Elb.RegistrationInProgress",
            Self::InitialHealthChecking => "Elb.InitialHealthChecking",
            Self::ResponseCodeMismatch => "Target.ResponseCodeMismatch",
            Self::Timeout => "Target.Timeout",
            Self::FailedHealthChecks => "Target.FailedHealthChecks",
            Self::NotInUse => "Target.NotInUse",
            Self::NotRegistered => "Target.NotRegistered",
            Self::DeregistrationInProgress => "Target.DeregistrationInProgress",
        }
    }
}

/// The health of one target, as `DescribeTargetHealth` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetHealth {
    /// The target.
    pub id: String,
    /// Its state.
    pub state: TargetState,
    /// Why; none when healthy.
    pub reason: Option<Reason>,
    /// The status codes that did not pass, for [`Reason::ResponseCodeMismatch`].
    pub codes: Option<u16>,
}

impl TargetHealth {
    /// ELB's sentence for people.
    pub fn description(&self) -> Option<String> {
        Some(match self.reason? {
            Reason::RegistrationInProgress => "Target registration is in progress".into(),
            Reason::InitialHealthChecking => "Initial health checks in progress".into(),
            Reason::ResponseCodeMismatch => format!(
                "Health checks failed with these codes: [{}]",
                self.codes.unwrap_or_default()
            ),
            Reason::Timeout => "Request timed out".into(),
            Reason::FailedHealthChecks => "Health checks failed".into(),
            Reason::NotInUse => {
                "Target group is not configured to receive traffic from the load balancer".into()
            }
            Reason::NotRegistered => "Target is not registered to the target group".into(),
            Reason::DeregistrationInProgress => "Target deregistration is in progress".into(),
        })
    }
}

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A status; whether it passes is the matcher's business.
    Status(u16),
    Timeout,
    Failed,
}

/// The state machine of one target.
#[derive(Clone, Debug)]
pub(super) struct Health {
    pub(super) state: TargetState,
    pub(super) reason: Option<Reason>,
    pub(super) code: Option<u16>,
    passed: u32,
    failed: u32,
}

impl Health {
    /// A target that has just been registered in a group that is in use, or is not.
    pub(super) fn registered(in_use: bool) -> Self {
        let (state, reason) = if in_use {
            (TargetState::Initial, Reason::RegistrationInProgress)
        } else {
            (TargetState::Unused, Reason::NotInUse)
        };
        Self {
            state,
            reason: Some(reason),
            code: None,
            passed: 0,
            failed: 0,
        }
    }

    /// The first check is under way.
    pub(super) fn checking(&mut self) {
        if self.reason == Some(Reason::RegistrationInProgress) {
            self.reason = Some(Reason::InitialHealthChecking);
        }
    }

    pub(super) fn draining(&mut self) {
        self.state = TargetState::Draining;
        self.reason = Some(Reason::DeregistrationInProgress);
        self.code = None;
    }

    /// Takes in a check's outcome; says whether state, reason or code have changed.
    pub(super) fn observe(&mut self, outcome: Outcome, rules: &HealthCheck) -> bool {
        let before = (self.state, self.reason, self.code);
        let failure = match outcome {
            Outcome::Status(code) if rules.matcher.matches(code) => None,
            Outcome::Status(code) => Some((Reason::ResponseCodeMismatch, Some(code))),
            Outcome::Timeout => Some((Reason::Timeout, None)),
            Outcome::Failed => Some((Reason::FailedHealthChecks, None)),
        };
        match failure {
            None => {
                self.failed = 0;
                self.passed = self.passed.saturating_add(1);
                // One passed check is enough for a target that has just been registered.
                let needed = match self.state {
                    TargetState::Unhealthy => rules.healthy_threshold,
                    _ => 1,
                };
                if self.passed >= needed {
                    (self.state, self.reason, self.code) = (TargetState::Healthy, None, None);
                }
            }
            Some((reason, code)) => {
                self.passed = 0;
                self.failed = self.failed.saturating_add(1);
                if self.failed >= rules.unhealthy_threshold || self.state == TargetState::Unhealthy
                {
                    self.state = TargetState::Unhealthy;
                    (self.reason, self.code) = (Some(reason), code);
                }
            }
        }
        before != (self.state, self.reason, self.code)
    }
}

/// Checks a target on its schedule until the future is dropped.
///
/// `observe` is called with `None` when the first check begins, and with each outcome.
pub(super) async fn check_forever(
    id: Arc<str>,
    dial: Arc<dyn Dial>,
    rules: HealthCheck,
    clock: Clock,
    observe: impl Fn(Option<Outcome>),
) {
    // Timers cannot go below a millisecond.
    let interval = clock.real(rules.interval).max(Duration::from_millis(1));
    let mut schedule = tokio::time::interval(interval);
    // A check that takes longer than the (scaled) interval delays the next one to the next beat.
    schedule.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut first = true;
    loop {
        schedule.tick().await;
        if std::mem::take(&mut first) {
            observe(None);
        }
        let outcome = tokio::time::timeout(rules.timeout, check(&id, &*dial, &rules.path)).await;
        observe(Some(outcome.unwrap_or(Outcome::Timeout)));
    }
}

/// The largest body that a check reads; what a target has to say about its health is short.
const MAX_BODY: usize = 1024 * 1024;

async fn check(id: &str, dial: &dyn Dial, path: &str) -> Outcome {
    let exchange = async {
        let stream = dial.dial().await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
                .await
                .ok()?;
        let request = Request::get(path)
            .header(
                header::HOST,
                HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static("target")),
            )
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, "ELB-HealthChecker/2.0")
            .header(header::ACCEPT_ENCODING, "gzip, compressed")
            .body(Empty::new())
            .ok()?;
        let answer = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            http_body_util::Limited::new(response.into_body(), MAX_BODY)
                .collect()
                .await
                .ok()?;
            Some(status)
        };
        let mut connection = std::pin::pin!(connection);
        let mut answer = std::pin::pin!(answer);
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                status = &mut answer => return status,
                _ = &mut connection, if open => open = false,
            }
        }
    };
    exchange.await.map_or(Outcome::Failed, Outcome::Status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> HealthCheck {
        HealthCheck {
            healthy_threshold: 3,
            unhealthy_threshold: 2,
            ..HealthCheck::default()
        }
    }

    /// Feeds outcomes and returns the state and reason after each.
    fn run(outcomes: &[Outcome]) -> Vec<(TargetState, Option<Reason>)> {
        let mut health = Health::registered(true);
        health.checking();
        outcomes
            .iter()
            .map(|outcome| {
                health.observe(*outcome, &rules());
                (health.state, health.reason)
            })
            .collect()
    }

    #[test]
    fn one_pass_makes_a_new_target_healthy() {
        assert_eq!(run(&[Outcome::Status(200)]), [(TargetState::Healthy, None)]);
    }

    #[test]
    fn a_new_target_stays_initial_until_the_unhealthy_threshold() {
        use {Reason::*, TargetState::*};
        assert_eq!(
            run(&[Outcome::Status(503), Outcome::Status(503)]),
            [
                (Initial, Some(InitialHealthChecking)),
                (Unhealthy, Some(ResponseCodeMismatch))
            ]
        );
    }

    #[test]
    fn one_failure_between_passes_changes_nothing() {
        let states = run(&[
            Outcome::Status(200),
            Outcome::Timeout,
            Outcome::Status(200),
            Outcome::Failed,
        ]);
        assert!(
            states
                .iter()
                .all(|state| *state == (TargetState::Healthy, None))
        );
    }

    #[test]
    fn an_unhealthy_target_needs_the_healthy_threshold_in_a_row() {
        use {Reason::*, TargetState::*};
        let outcomes = [
            Outcome::Timeout,
            Outcome::Timeout,
            Outcome::Status(200),
            Outcome::Status(200),
            Outcome::Failed,
            Outcome::Status(200),
            Outcome::Status(200),
            Outcome::Status(200),
        ];
        let unhealthy = |reason| (Unhealthy, Some(reason));
        assert_eq!(
            run(&outcomes),
            [
                (Initial, Some(InitialHealthChecking)),
                unhealthy(Timeout),
                unhealthy(Timeout),
                unhealthy(Timeout),
                unhealthy(FailedHealthChecks),
                unhealthy(FailedHealthChecks),
                unhealthy(FailedHealthChecks),
                (Healthy, None),
            ]
        );
    }

    #[test]
    fn a_target_of_a_group_without_listener_is_unused() {
        let health = Health::registered(false);
        assert_eq!(health.state, TargetState::Unused);
        assert_eq!(health.reason.map(Reason::as_str), Some("Target.NotInUse"));
    }

    #[test]
    fn descriptions_are_those_of_elb() {
        let mut health = TargetHealth {
            id: "10.0.0.1:80".into(),
            state: TargetState::Unhealthy,
            reason: Some(Reason::ResponseCodeMismatch),
            codes: Some(500),
        };
        let description = health.description();
        assert_eq!(
            description.as_deref(),
            Some("Health checks failed with these codes: [500]")
        );
        health.reason = None;
        assert_eq!(health.description(), None);
    }
}
