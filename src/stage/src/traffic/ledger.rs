//! Bookkeeping: outcomes on one side, the access log on the other, joined by trace identifier.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rollout::{Timestamp, event::RequestCounts};

/// The outcome of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered to the end.
    Status(u16),
    /// Refused, reset or closed early.
    Connection,
    /// Not answered to the end in time.
    Timeout,
}

impl Outcome {
    fn is_lost(self) -> bool {
        !matches!(self, Self::Status(..500))
    }

    fn add_to(self, counts: &mut RequestCounts) {
        match self {
            Self::Status(..500) => counts.ok += 1,
            Self::Status(_) => counts.server_error += 1,
            Self::Connection => counts.connection_error += 1,
            Self::Timeout => counts.timed_out += 1,
        }
    }
}

/// What generated traffic saw.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Requests that were due. Those still open have no outcome yet.
    pub sent: u64,
    /// All outcomes.
    pub outcomes: RequestCounts,
    /// Outcomes by target group.
    pub groups: BTreeMap<String, RequestCounts>,
    /// Outcomes of requests that reached no target group, as far as is known.
    pub unattributed: RequestCounts,
    /// Of the timed out ones, those that were never sent because too many were open.
    pub not_sent: u64,
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// When the first request was lost, virtual.
    pub first_loss: Option<Timestamp>,
    /// When the last request was lost, virtual.
    pub last_loss: Option<Timestamp>,
    /// From the time a request was due to its outcome, in microseconds of real time.
    pub latency: Histogram<u64>,
}

#[derive(Debug)]
enum Half {
    /// The log was first.
    Logged(Option<String>),
    /// The outcome was first.
    Ended(Outcome, Instant),
}

#[derive(Debug, Default)]
struct Period {
    groups: BTreeMap<String, RequestCounts>,
    unattributed: RequestCounts,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Distinguishes this traffic from any other.
    nonce: u32,
    joins: bool,
    halves: HashMap<u64, Half>,
    period: Period,
    totals: Totals,
}

impl Ledger {
    pub(super) fn new(joins: bool) -> Self {
        Self {
            nonce: rand::random(),
            joins,
            halves: HashMap::new(),
            period: Period::default(),
            totals: Totals {
                sent: 0,
                outcomes: RequestCounts::default(),
                groups: BTreeMap::new(),
                unattributed: RequestCounts::default(),
                not_sent: 0,
                statuses: BTreeMap::new(),
                first_loss: None,
                last_loss: None,
                latency: histogram(),
            },
        }
    }

    /// What comes before the request's number in a trace identifier.
    pub(super) fn trace_prefix(&self) -> String {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        format!("Root=1-{:08x}-{:08x}", now.as_secs(), self.nonce)
    }

    fn id_in(&self, trace_id: &str) -> Option<u64> {
        let root = trace_id
            .split(';')
            .find_map(|field| field.trim().strip_prefix("Root=1-"))?;
        let (_time, id) = root.split_once('-')?;
        let (nonce, number) = id.split_at_checked(8)?;
        (u32::from_str_radix(nonce, 16) == Ok(self.nonce))
            .then(|| u64::from_str_radix(number, 16).ok())?
    }

    /// A request is due; returns its number.
    pub(super) fn sent(&mut self) -> u64 {
        self.totals.sent += 1;
        self.totals.sent
    }

    /// A request that was due could not be sent.
    pub(super) fn not_sent(&mut self, _id: u64, at: Timestamp) {
        self.totals.not_sent += 1;
        self.count(Outcome::Timeout, at);
        self.attribute(Outcome::Timeout, None);
    }

    /// A request has its outcome.
    pub(super) fn ended(&mut self, id: u64, outcome: Outcome, at: Timestamp, latency: Duration) {
        self.count(outcome, at);
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.totals.latency.saturating_record(micros.max(1));
        if let Outcome::Status(status) = outcome {
            *self.totals.statuses.entry(status).or_default() += 1;
        }
        if !self.joins {
            self.attribute(outcome, None);
            return;
        }
        match self.halves.remove(&id) {
            Some(Half::Logged(group)) => self.attribute(outcome, group),
            _ => {
                self.halves.insert(id, Half::Ended(outcome, Instant::now()));
            }
        }
    }

    /// The access log has an entry.
    pub(super) fn logged(&mut self, trace_id: &str, group: Option<&str>) {
        let Some(id) = self.id_in(trace_id) else {
            return;
        };
        let group = group.map(str::to_owned);
        match self.halves.remove(&id) {
            Some(Half::Ended(outcome, _)) => self.attribute(outcome, group),
            // A request that was repeated may be logged twice: what came last counts.
            _ => {
                self.halves.insert(id, Half::Logged(group));
            }
        }
    }

    /// How many outcomes wait for the log.
    pub(super) fn waiting(&self) -> usize {
        let ended = |half: &&Half| matches!(half, Half::Ended(..));
        self.halves.values().filter(ended).count()
    }

    /// Gives up on the log for outcomes that have waited for `grace`.
    pub(super) fn expire(&mut self, grace: Duration) {
        let given_up: Vec<(u64, Outcome)> = self
            .halves
            .iter()
            .filter_map(|(id, half)| match half {
                Half::Ended(outcome, since) if since.elapsed() >= grace => Some((*id, *outcome)),
                _ => None,
            })
            .collect();
        for (id, outcome) in given_up {
            self.halves.remove(&id);
            self.attribute(outcome, None);
        }
    }

    fn count(&mut self, outcome: Outcome, at: Timestamp) {
        outcome.add_to(&mut self.totals.outcomes);
        if outcome.is_lost() {
            self.totals.first_loss = Some(self.totals.first_loss.map_or(at, |first| first.min(at)));
            self.totals.last_loss = self.totals.last_loss.max(Some(at));
        }
    }

    fn attribute(&mut self, outcome: Outcome, group: Option<String>) {
        let (period, total) = if let Some(group) = group {
            (
                self.period.groups.entry(group.clone()).or_default(),
                self.totals.groups.entry(group).or_default(),
            )
        } else {
            (&mut self.period.unattributed, &mut self.totals.unattributed)
        };
        outcome.add_to(period);
        outcome.add_to(total);
    }

    /// What has been attributed since the last call; none if nothing has.
    pub(super) fn take_period(
        &mut self,
    ) -> Option<(BTreeMap<String, RequestCounts>, RequestCounts)> {
        let Period {
            groups,
            unattributed,
        } = std::mem::take(&mut self.period);
        (!groups.is_empty() || !unattributed.is_empty()).then_some((groups, unattributed))
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals.clone()
    }
}

fn histogram() -> Histogram<u64> {
    // One microsecond to ten minutes, to three digits.
    Histogram::new_with_bounds(1, 600_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .expect("three digits are within what histograms allow")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn trace(ledger: &Ledger, id: u64) -> String {
        format!("Self=1-0-0;{}{id:016x}", ledger.trace_prefix())
    }

    #[test]
    fn outcomes_and_log_join_in_either_order() {
        let mut ledger = Ledger::new(true);
        let (first, second) = (ledger.sent(), ledger.sent());
        let (first_trace, second_trace) = (trace(&ledger, first), trace(&ledger, second));
        ledger.logged(&first_trace, Some("blue"));
        ledger.ended(first, Outcome::Status(200), at(1), Duration::from_millis(3));
        ledger.ended(
            second,
            Outcome::Status(500),
            at(2),
            Duration::from_millis(3),
        );
        assert_eq!(ledger.waiting(), 1);
        ledger.logged(&second_trace, Some("green"));
        let totals = ledger.totals();
        assert_eq!(
            totals.groups["blue"],
            RequestCounts {
                ok: 1,
                ..Default::default()
            }
        );
        assert_eq!(
            totals.groups["green"],
            RequestCounts {
                server_error: 1,
                ..Default::default()
            }
        );
        assert_eq!(
            (totals.first_loss, totals.last_loss),
            (Some(at(2)), Some(at(2)))
        );
    }

    #[test]
    fn what_the_log_never_tells_is_unattributed() {
        let mut ledger = Ledger::new(true);
        let id = ledger.sent();
        ledger.ended(id, Outcome::Connection, at(5), Duration::from_millis(1));
        ledger.expire(Duration::from_hours(1));
        assert_eq!(ledger.waiting(), 1);
        ledger.expire(Duration::ZERO);
        let totals = ledger.totals();
        assert_eq!(totals.unattributed.connection_error, 1);
        assert_eq!(totals.outcomes.total(), totals.sent);
    }

    #[test]
    fn requests_of_others_are_not_counted() {
        let mut ledger = Ledger::new(true);
        for foreign in [
            "",
            "Root=1-0-00",
            "Root=1-67891233-abcdef012345678912345678",
            "Root=x",
        ] {
            ledger.logged(foreign, Some("blue"));
        }
        assert!(ledger.halves.is_empty());
        assert_eq!(ledger.take_period(), None);
    }

    #[test]
    fn a_period_is_reported_once() {
        let mut ledger = Ledger::new(false);
        let id = ledger.sent();
        ledger.ended(id, Outcome::Timeout, at(1), Duration::from_secs(1));
        let id = ledger.sent();
        ledger.not_sent(id, at(2));
        let (groups, unattributed) = ledger.take_period().expect("a period");
        assert!(groups.is_empty());
        assert_eq!(unattributed.timed_out, 2);
        assert_eq!(ledger.take_period(), None);
        assert_eq!(ledger.totals().not_sent, 1);
    }
}
