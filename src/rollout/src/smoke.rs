//! Whether green answers at all, before any user meets it.
//!
//! Wald's sequential probability ratio test on probes through the test listener: it needs two
//! failures in a row to refuse a dead version, and 22 good probes to let a healthy one pass.
//! The bounds are the strict ones, `ln(1/alpha)` and `ln(beta)`, not Wald's approximations;
//! a test that has not decided after `max_probes` refuses too ("inconclusive").
//!
//! Because outcomes are only good or bad, what the test does to a version of any quality can be
//! computed exactly ([`characteristic`]): no simulation is needed to say what it is worth.
//!
//! Draw endpoints in random order. One dead endpoint of ten is only a failure share of 0.1, so
//! a PASS also needs one good probe of every critical endpoint ([`Smoke::with_critical`]).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::judge::Decision;
use crate::maths::count;

/// How sure a smoke test must be. The default is that of docs/judge.md.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The failure share of a good version, above 0.
    pub p0: f64,
    /// The failure share of a bad version, above `p0` and below 1.
    pub p1: f64,
    /// The probability of refusing a good version.
    pub alpha: f64,
    /// The probability of letting a bad version pass.
    pub beta: f64,
    /// After so many probes the test refuses; 1 to [`MAX_PROBES`].
    pub max_probes: u32,
}

/// The most probes a smoke test can be told to send.
pub const MAX_PROBES: u32 = 100_000;

impl Default for Config {
    fn default() -> Config {
        Config {
            p0: 0.01,
            p1: 0.2,
            alpha: 0.005,
            beta: 0.01,
            max_probes: 100,
        }
    }
}

/// Why a smoke test cannot be made, or asked about.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SmokeError {
    /// The two failure shares are not in order, or not strictly between 0 and 1.
    #[error("a smoke test tells p0 = {p0} from p1 = {p1}: give 0 < p0 < p1 < 1")]
    Shares {
        /// Of a good version.
        p0: f64,
        /// Of a bad version.
        p1: f64,
    },
    /// An error probability is not strictly between 0 and 1.
    #[error("{field} = {value} is not a probability: give more than 0 and less than 1")]
    Probability {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// No probe, or too many.
    #[error("max_probes = {0}: give 1 to {MAX_PROBES}")]
    Probes(u32),
    /// A failure share that is asked about is not within 0 to 1.
    #[error("{0} is not a share of failing probes: give 0 to 1")]
    Share(f64),
}

impl Config {
    /// Checks every field's range.
    pub fn validate(&self) -> Result<(), SmokeError> {
        let Config { p0, p1, .. } = *self;
        if !(p0 > 0.0 && p0 < p1 && p1 < 1.0) {
            return Err(SmokeError::Shares { p0, p1 });
        }
        for (field, value) in [("alpha", self.alpha), ("beta", self.beta)] {
            if !(value > 0.0 && value < 1.0) {
                return Err(SmokeError::Probability { field, value });
            }
        }
        if !(1..=MAX_PROBES).contains(&self.max_probes) {
            return Err(SmokeError::Probes(self.max_probes));
        }
        Ok(())
    }

    /// The log-likelihood ratio of "bad" to "good" after so many failures and successes.
    fn llr(&self, failures: u32, successes: u32) -> f64 {
        f64::from(failures) * (self.p1 / self.p0).ln()
            + f64::from(successes) * ((1.0 - self.p1) / (1.0 - self.p0)).ln()
    }

    /// What the boundaries say of a log-likelihood ratio.
    fn decide(&self, llr: f64) -> Decision {
        if llr >= -self.alpha.ln() {
            Decision::Abort
        } else if llr <= self.beta.ln() {
            Decision::Pass
        } else {
            Decision::Continue
        }
    }
}

/// Why a smoke test decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A boundary was reached.
    Sprt,
    /// No boundary was reached within the probes allowed; that refuses the version.
    Inconclusive,
}

/// The decision of a smoke test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// ABORT or PASS.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
    /// The probe that brought it, from 1.
    pub at_probe: u32,
}

/// A smoke test under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoke {
    config: Config,
    failures: u32,
    successes: u32,
    /// Critical endpoints without a good probe yet.
    unproven: BTreeSet<String>,
    verdict: Option<Verdict>,
}

impl Smoke {
    /// A smoke test that has sent nothing yet.
    pub fn new(config: Config) -> Result<Smoke, SmokeError> {
        config.validate()?;
        Ok(Smoke {
            config,
            failures: 0,
            successes: 0,
            unproven: BTreeSet::new(),
            verdict: None,
        })
    }

    /// The same test, which will not pass before each of these endpoints answered well once.
    #[must_use]
    pub fn with_critical(mut self, endpoints: impl IntoIterator<Item = String>) -> Smoke {
        self.unproven.extend(endpoints);
        self
    }

    /// A probe of no critical endpoint. Returns the decision, which is latched.
    pub fn probe(&mut self, failed: bool) -> Decision {
        let counter = if failed {
            &mut self.failures
        } else {
            &mut self.successes
        };
        *counter = counter.saturating_add(1);
        let probes = self.failures.saturating_add(self.successes);
        if self.verdict.is_none() {
            let (decision, reason) = match self.config.decide(self.llr()) {
                Decision::Pass if !self.unproven.is_empty() => (Decision::Continue, Reason::Sprt),
                decision => (decision, Reason::Sprt),
            };
            let (decision, reason) = match decision {
                Decision::Continue if probes >= self.config.max_probes => {
                    (Decision::Abort, Reason::Inconclusive)
                }
                _ => (decision, reason),
            };
            self.verdict = (decision != Decision::Continue).then_some(Verdict {
                decision,
                reason,
                at_probe: probes,
            });
        }
        self.decision()
    }

    /// A probe of this endpoint.
    pub fn probe_endpoint(&mut self, endpoint: &str, failed: bool) -> Decision {
        if !failed {
            self.unproven.remove(endpoint);
        }
        self.probe(failed)
    }

    /// The log-likelihood ratio of "bad" to "good".
    pub fn llr(&self) -> f64 {
        self.config.llr(self.failures, self.successes)
    }

    /// The latched decision.
    pub fn decision(&self) -> Decision {
        self.verdict.map_or(Decision::Continue, |v| v.decision)
    }

    /// The latched decision with its reason.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Failed probes, and all probes.
    pub fn probes(&self) -> (u32, u32) {
        (self.failures, self.failures.saturating_add(self.successes))
    }

    /// The critical endpoints that have not answered well yet.
    pub fn unproven(&self) -> impl Iterator<Item = &str> {
        self.unproven.iter().map(String::as_str)
    }
}

/// What a smoke test does to a version whose probes fail with this probability, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Characteristic {
    /// The probability that a probe fails.
    pub p: f64,
    /// P(refused at the boundary).
    pub abort: f64,
    /// P(let pass).
    pub pass: f64,
    /// P(refused because the probes ran out).
    pub inconclusive: f64,
    /// How many probes it takes on average.
    pub expected_probes: f64,
}

/// The exact operating characteristic at the failure probability `p`, for independent probes
/// and no critical endpoints.
///
/// The test's state is the number of failures and successes; those between the boundaries are
/// a narrow band, through which the probabilities are pushed probe by probe.
pub fn characteristic(config: &Config, p: f64) -> Result<Characteristic, SmokeError> {
    config.validate()?;
    if !(0.0..=1.0).contains(&p) {
        return Err(SmokeError::Share(p));
    }
    let mut result = Characteristic {
        p,
        abort: 0.0,
        pass: 0.0,
        inconclusive: 0.0,
        expected_probes: 0.0,
    };
    // Failures -> probability, of the states in which the test goes on.
    let mut going = BTreeMap::from([(0_u32, 1.0_f64)]);
    for probe in 1..=config.max_probes {
        let mut next = BTreeMap::new();
        for (failures, mass) in going {
            for (failures, mass) in [(failures + 1, mass * p), (failures, mass * (1.0 - p))] {
                if mass == 0.0 {
                    continue;
                }
                let stopped = match config.decide(config.llr(failures, probe - failures)) {
                    Decision::Abort => &mut result.abort,
                    Decision::Pass => &mut result.pass,
                    Decision::Continue if probe == config.max_probes => &mut result.inconclusive,
                    Decision::Continue => {
                        *next.entry(failures).or_insert(0.0) += mass;
                        continue;
                    }
                };
                *stopped += mass;
                result.expected_probes += mass * count(u64::from(probe));
            }
        }
        going = next;
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_needs_a_good_probe_of_every_critical_endpoint() {
        let critical = ["/", "/admin"].map(str::to_owned);
        let mut smoke = Smoke::new(Config::default())
            .expect("valid")
            .with_critical(critical);
        for _ in 0..40 {
            assert_eq!(smoke.probe_endpoint("/", false), Decision::Continue);
        }
        assert_eq!(smoke.unproven().collect::<Vec<_>>(), ["/admin"]);
        assert_eq!(smoke.probe_endpoint("/admin", false), Decision::Pass);
        assert_eq!(smoke.verdict().map(|v| v.at_probe), Some(41));
        assert_eq!(smoke.probes(), (0, 41));

        // Without one, the probes run out, and that refuses.
        let mut smoke = Smoke::new(Config::default())
            .expect("valid")
            .with_critical(["/admin".to_owned()]);
        for _ in 0..99 {
            assert_eq!(smoke.probe(false), Decision::Continue);
        }
        assert_eq!(smoke.probe(false), Decision::Abort);
        assert_eq!(
            smoke.verdict().map(|v| v.reason),
            Some(Reason::Inconclusive)
        );
    }

    #[test]
    fn the_published_characteristic() {
        let table = [
            (0.001, 0.00001, 22.3),
            (0.01, 0.0022, 25.8),
            (0.05, 0.26, 42.4),
            (0.1, 0.79, 35.5),
            (0.2, 0.991, 14.8),
        ];
        for (p, refused, probes) in table {
            let exact = characteristic(&Config::default(), p).expect("valid");
            let got = exact.abort + exact.inconclusive;
            assert!((got - refused).abs() < 0.005_f64.min(refused), "{exact:?}");
            assert!((exact.expected_probes - probes).abs() < 0.06, "{exact:?}");
            assert!((got + exact.pass - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let with = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().expect_err("refused")
        };
        assert!(matches!(with(|c| c.p0 = 0.0), SmokeError::Shares { .. }));
        assert!(matches!(
            with(|c| c.p0 = f64::NAN),
            SmokeError::Shares { .. }
        ));
        assert!(matches!(with(|c| c.p1 = 0.01), SmokeError::Shares { .. }));
        assert!(matches!(with(|c| c.p1 = 1.0), SmokeError::Shares { .. }));
        assert!(matches!(
            with(|c| c.alpha = 0.0),
            SmokeError::Probability { field: "alpha", .. }
        ));
        assert!(matches!(
            with(|c| c.beta = f64::NAN),
            SmokeError::Probability { field: "beta", .. }
        ));
        assert_eq!(with(|c| c.max_probes = 0), SmokeError::Probes(0));
        assert_eq!(
            characteristic(&Config::default(), 1.5),
            Err(SmokeError::Share(1.5))
        );
        assert!(characteristic(&Config::default(), f64::NAN).is_err());
    }
}
