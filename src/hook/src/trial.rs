//! The trial: probes in random order at a limited rate, until it is decided.
//!
//! First the load balancer is given time to lead to green, without counting anything: a rule that
//! CodeDeploy has changed a moment ago may take a moment to hold everywhere, and says nothing about
//! green. Then every probe counts. Endpoints are drawn in rounds, each in a random order, so that every
//! endpoint is asked equally often and no pattern of green's own (one bad host in two) meets the same
//! endpoint every time.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::uri::PathAndQuery;
use rand::seq::SliceRandom as _;
use rollout::judge::Decision;
use rollout::smoke::{Reason, Smoke, SmokeError};
use tokio::time::MissedTickBehavior;

use crate::config::Config;
use crate::probe::{Outcome, Probe};

/// What a trial came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// How it was decided.
    pub verdict: Verdict,
    /// Probes that were counted.
    pub probes: u32,
    /// Those that failed.
    pub failed: u32,
    /// The log-likelihood ratio of "bad" to "good".
    pub llr: f64,
    /// How long the load balancer took to lead to green.
    pub settled: Duration,
    /// What each endpoint did, in the order of the settings.
    pub endpoints: Vec<Tally>,
    /// Critical endpoints that have not answered well.
    pub unproven: Vec<String>,
}

/// How a trial ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Green answers as a good version does.
    Pass,
    /// Green fails as a bad version does.
    Abort,
    /// All probes were sent, and it is not known.
    Inconclusive,
    /// Time ran out before it was known.
    OutOfTime,
}

/// What one endpoint did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Good answers.
    pub good: u32,
    /// The others, by what became of them.
    pub failures: BTreeMap<String, u32>,
    /// The slowest of all.
    pub slowest: Duration,
}

/// Between two looks while the load balancer is waited for.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries green for at most `limit`; `ask` sends one probe.
pub async fn run<R: Future<Output = Probe>>(
    config: &Config,
    limit: Duration,
    ask: impl Fn(PathAndQuery) -> R,
) -> Result<Trial, SmokeError> {
    let end = tokio::time::Instant::now() + limit;
    let critical = config.endpoints.iter().filter(|endpoint| endpoint.critical);
    let critical = critical.map(|endpoint| endpoint.path.to_string());
    let mut smoke = Smoke::new(config.smoke)?.with_critical(critical);
    let mut endpoints = vec![Tally::default(); config.endpoints.len()];

    let settled = settle(config, limit, &ask).await;
    let mut order = Order::of(config.endpoints.len());
    let mut under_way = FuturesUnordered::new();
    let mut sent = 0;
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / config.rate));
    // After a pause no burst: green may just be starting.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while smoke.decision() == Decision::Continue {
        let may_send = under_way.len() < config.concurrency && sent < config.smoke.max_probes;
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(end) => break,
            Some(ended) = under_way.next(), if !under_way.is_empty() => {
                let (index, probe): (usize, Probe) = ended;
                let failed = endpoints[index].count(config, &probe);
                smoke.probe_endpoint(config.endpoints[index].path.as_str(), failed);
            }
            _ = pace.tick(), if may_send => {
                let index = order.next();
                let probe = ask(config.endpoints[index].path.clone());
                under_way.push(async move { (index, probe.await) });
                sent += 1;
            }
        }
    }
    let (failed, probes) = smoke.probes();
    Ok(Trial {
        verdict: verdict(&smoke),
        probes,
        failed,
        llr: smoke.llr(),
        settled,
        endpoints,
        unproven: smoke.unproven().map(str::to_owned).collect(),
    })
}

fn verdict(smoke: &Smoke) -> Verdict {
    match smoke.verdict() {
        None => Verdict::OutOfTime,
        Some(verdict) => match (verdict.decision, verdict.reason) {
            (Decision::Pass, _) => Verdict::Pass,
            (_, Reason::Inconclusive) => Verdict::Inconclusive,
            _ => Verdict::Abort,
        },
    }
}

impl Tally {
    /// Counts a probe; returns whether it failed.
    fn count(&mut self, config: &Config, probe: &Probe) -> bool {
        self.slowest = self.slowest.max(probe.took);
        let good = match &probe.outcome {
            Outcome::Answered(status) => config.good.contains(&status.as_u16()),
            Outcome::Broken(_) | Outcome::TimedOut => false,
        };
        if good {
            self.good += 1;
        } else {
            let outcome = probe.outcome.to_string();
            *self.failures.entry(outcome).or_default() += 1;
        }
        !good
    }
}

/// Waits until a target answers, whatever it says; returns how long that took. Nothing counts.
async fn settle<R: Future<Output = Probe>>(
    config: &Config,
    limit: Duration,
    ask: &impl Fn(PathAndQuery) -> R,
) -> Duration {
    let begun = Instant::now();
    let Some(first) = config
        .endpoints
        .first()
        .filter(|_| !config.settle.is_zero())
    else {
        return Duration::ZERO;
    };
    let wait = async {
        while ask(first.path.clone()).await.outcome.is_of_nobody() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    // In time or not: what is not there now will fail its probes.
    let _ = tokio::time::timeout(config.settle.min(limit), wait).await;
    begun.elapsed()
}

/// Endpoints, round after round, each round in a random order.
struct Order {
    count: usize,
    round: VecDeque<usize>,
}

impl Order {
    fn of(count: usize) -> Order {
        Order {
            count,
            round: VecDeque::new(),
        }
    }

    fn next(&mut self) -> usize {
        if self.round.is_empty() {
            let mut round: Vec<usize> = (0..self.count).collect();
            round.shuffle(&mut rand::rng());
            self.round = round.into();
        }
        self.round.pop_front().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
