//! What a judge is told before the release: how sure it must be, and of what.
//!
//! All defaults are those of docs/judge.md. A configuration is checked once, when a judge
//! is made of it; after that nothing in the judge can divide by zero or lose its bound.

use serde::{Deserialize, Serialize};

/// The configuration of a judge. Unknown fields are refused, missing ones take their default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How likely a false abort may be, for each test.
    pub alpha: Alpha,
    /// How likely a false pass may be, for each test.
    pub beta: Beta,
    /// The odds ratios that are bet on, each greater than 1; a PASS bets on their inverses.
    pub multipliers: Vec<f64>,
    /// Up to this odds ratio of green to blue is tolerated, from 1.
    pub relative_margin: f64,
    /// At this odds ratio of green to blue, green must not pass; from 1.
    pub pass_margin: f64,
    /// The share of requests that may fail, strictly between 0 and 1; `None` (JSON `null`) for
    /// no objective.
    pub objective: Option<f64>,
    /// Whether the objective is silent while blue misses it too.
    pub objective_requires_healthy_baseline: bool,
    /// No PASS before green has had so many requests.
    pub min_requests: u64,
    /// The exponent on every increment, in (0, 1]: 1 / (mean requests of a sticky session).
    pub temper: f64,
    /// The latency test; `None` (JSON `null`) for none.
    pub latency: Option<Latency>,
}

/// Bounds on the probability of a false abort; they add up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Alpha {
    /// Of "green is worse than blue".
    pub relative: f64,
    /// Of "green misses its objective".
    pub objective: f64,
    /// Of "green is slower than blue".
    pub latency: f64,
}

/// Bounds on the probability of a false pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Beta {
    /// Of "green is at worst a bit worse than blue".
    pub relative: f64,
    /// Of "green meets its objective".
    pub objective: f64,
    /// Of "green is at worst a bit slower than blue".
    pub latency: f64,
}

/// The latency test: shares of slow requests, slow by blue's own past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// Upper bounds of the histogram's buckets in milliseconds, rising; one more bucket holds
    /// everything above the last.
    pub bounds_ms: Vec<f64>,
    /// The quantiles that are watched, in per mille, 1 to 999.
    pub quantiles_permille: Vec<u64>,
    /// Up to this odds ratio the share of slow requests may grow, from 1.
    pub margin: f64,
    /// At this odds ratio green must not pass, from 1.
    pub pass_margin: f64,
    /// The quantiles that a PASS needs, in per mille.
    pub pass_quantiles_permille: Vec<u64>,
    /// Whether a PASS needs the latency's consent.
    pub required_for_pass: bool,
    /// How many of blue's histograms make the past.
    pub window: usize,
    /// How many of the past's samples must lie above a quantile before it is used, from 1.
    pub min_tail: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            alpha: Alpha::default(),
            beta: Beta::default(),
            multipliers: vec![1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0],
            relative_margin: 1.0,
            pass_margin: 2.0,
            objective: Some(0.01),
            objective_requires_healthy_baseline: true,
            min_requests: 50,
            temper: 1.0,
            latency: None,
        }
    }
}

impl Default for Alpha {
    fn default() -> Alpha {
        Alpha {
            relative: 0.005,
            objective: 0.0025,
            latency: 0.0025,
        }
    }
}

impl Default for Beta {
    fn default() -> Beta {
        Beta {
            relative: 0.025,
            objective: 0.025,
            latency: 0.05,
        }
    }
}

impl Default for Latency {
    fn default() -> Latency {
        Latency {
            bounds_ms: vec![
                5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 750.0,
                1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 10_000.0,
            ],
            quantiles_permille: vec![500, 900, 990],
            margin: 1.5,
            pass_margin: 3.0,
            pass_quantiles_permille: vec![500, 900],
            required_for_pass: true,
            window: 30,
            min_tail: 10,
        }
    }
}

/// Why a configuration is refused. Nothing was judged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// An `alpha` or `beta` is no probability strictly between 0 and 1.
    #[error("{field} = {value} is not a probability: give more than 0 and less than 1")]
    Probability {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// The objective is not strictly between 0 and 1.
    #[error(
        "an objective of {0} cannot be tested: give more than 0 and less than 1, or none (null)"
    )]
    Objective(f64),
    /// A margin is below 1, too large or not a number.
    #[error("{field} = {value} is not a tolerated odds ratio: give 1 to {MAX_ODDS}")]
    Margin {
        /// Which.
        field: &'static str,
        /// What it is.
        value: f64,
    },
    /// There are no multipliers, or too many.
    #[error("{0} multipliers: give 1 to {MAX_MULTIPLIERS} odds ratios to bet on")]
    Multipliers(usize),
    /// A multiplier is not greater than 1, too large or not a number.
    #[error("{0} is not an odds ratio to bet on: give more than 1 and at most {MAX_ODDS}")]
    Multiplier(f64),
    /// The exponent is not in (0, 1].
    #[error("temper = {0}: give more than 0 and at most 1")]
    Temper(f64),
    /// The buckets are not positive and rising, there is none, or there are too many.
    #[error("the bounds of the latency buckets must be positive and rising, 1 to {MAX_BUCKETS}")]
    Bounds,
    /// A quantile is not within 1 to 999 per mille, or is listed twice, or there is none.
    #[error("latency.{field}: give distinct quantiles of 1 to 999 per mille, at least one")]
    Quantiles {
        /// Which list.
        field: &'static str,
    },
    /// The window or the tail is zero, or too large.
    #[error("latency.{field} = {value}: give 1 to {MAX_WINDOW}")]
    Window {
        /// Which.
        field: &'static str,
        /// What it is.
        value: u64,
    },
}

const MAX_ODDS: f64 = 1e9;
const MAX_MULTIPLIERS: usize = 100;
const MAX_BUCKETS: usize = 1000;
const MAX_WINDOW: u64 = 100_000;

impl Config {
    /// Checks every field's range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let probabilities = [
            ("alpha.relative", self.alpha.relative),
            ("alpha.objective", self.alpha.objective),
            ("alpha.latency", self.alpha.latency),
            ("beta.relative", self.beta.relative),
            ("beta.objective", self.beta.objective),
            ("beta.latency", self.beta.latency),
        ];
        for (field, value) in probabilities {
            if !within(value) {
                return Err(ConfigError::Probability { field, value });
            }
        }
        if let Some(objective) = self.objective
            && !within(objective)
        {
            return Err(ConfigError::Objective(objective));
        }
        if !(1..=MAX_MULTIPLIERS).contains(&self.multipliers.len()) {
            return Err(ConfigError::Multipliers(self.multipliers.len()));
        }
        for &multiplier in &self.multipliers {
            if !(multiplier > 1.0 && multiplier <= MAX_ODDS) {
                return Err(ConfigError::Multiplier(multiplier));
            }
        }
        margin("relative_margin", self.relative_margin)?;
        margin("pass_margin", self.pass_margin)?;
        if !(self.temper > 0.0 && self.temper <= 1.0) {
            return Err(ConfigError::Temper(self.temper));
        }
        self.latency.as_ref().map_or(Ok(()), Latency::validate)
    }

    /// Whether green alone can be judged. Without an objective there is no verdict once blue has
    /// no traffic (all at once; the last stage), and that should be said before the release.
    pub fn judges_without_baseline(&self) -> bool {
        self.objective.is_some()
    }
}

impl Latency {
    fn validate(&self) -> Result<(), ConfigError> {
        let rising = self.bounds_ms.windows(2).all(|pair| pair[0] < pair[1]);
        let usable = self.bounds_ms.iter().all(|b| b.is_finite() && *b > 0.0);
        if !(1..=MAX_BUCKETS).contains(&self.bounds_ms.len()) || !rising || !usable {
            return Err(ConfigError::Bounds);
        }
        let lists = [
            ("quantiles_permille", &self.quantiles_permille),
            ("pass_quantiles_permille", &self.pass_quantiles_permille),
        ];
        for (field, list) in lists {
            let twice = |i: usize, q: &u64| list.iter().take(i).any(|other| other == q);
            if list.is_empty()
                || list
                    .iter()
                    .enumerate()
                    .any(|(i, q)| !(1..=999).contains(q) || twice(i, q))
            {
                return Err(ConfigError::Quantiles { field });
            }
        }
        margin("latency.margin", self.margin)?;
        margin("latency.pass_margin", self.pass_margin)?;
        for (field, value) in [
            ("window", u64::try_from(self.window).unwrap_or(u64::MAX)),
            ("min_tail", self.min_tail),
        ] {
            if !(1..=MAX_WINDOW).contains(&value) {
                return Err(ConfigError::Window { field, value });
            }
        }
        Ok(())
    }

    /// How many buckets a histogram has.
    pub fn buckets(&self) -> usize {
        self.bounds_ms.len() + 1
    }
}

/// Strictly between 0 and 1; false for NaN.
fn within(value: f64) -> bool {
    value > 0.0 && value < 1.0
}

fn margin(field: &'static str, value: f64) -> Result<(), ConfigError> {
    if (1.0..=MAX_ODDS).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Margin { field, value })
    }
}
