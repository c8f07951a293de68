//! How long a judge will need: formulas good to some ten percent, for warnings before a release.
//!
//! A likelihood ratio grows by the Kullback-Leibler divergence a request; it must grow to
//! `ln(1/alpha)`, and pay for its mixtures over bets and onsets besides. Add half a batch
//! and the delays, which [`Plan::until_abort`] does.

use serde::Serialize;

use crate::judge::Config;
use crate::maths::{count, divergence};

/// What the mixtures of an ABORT process cost, in nats.
const ABORT_MIXTURES: f64 = 1.6;
/// What the mixture of a PASS process costs.
const PASS_MIXTURE: f64 = 0.9;

/// A stage of a release: steady traffic at one weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Requests a second of both sides.
    pub rate: f64,
    /// Green's share of them, 0 to 1.
    pub weight: f64,
    /// The share of blue's requests that fail.
    pub p_blue: f64,
    /// The share of green's requests that fail, in the version that shall be detected.
    pub p_green: f64,
    /// Seconds between batches.
    pub batch_seconds: f64,
    /// Seconds from a batch's end until the judge has acted.
    pub delay: f64,
}

impl Plan {
    /// Seconds of traffic until green is seen to be worse than blue; `None` where it is not, or
    /// where one of them has no traffic, or where a number is out of its range.
    pub fn relative_seconds(&self, config: &Config) -> Option<f64> {
        let w = self.weight;
        let failing = w * self.p_green + (1.0 - w) * self.p_blue;
        if !(self.valid() && w > 0.0 && w < 1.0 && self.p_green > self.p_blue) {
            return None;
        }
        let a_failure = divergence(w * self.p_green / failing, w);
        positive((-config.alpha.relative.ln() + ABORT_MIXTURES) / (self.rate * failing * a_failure))
    }

    /// Requests to green until it is seen to miss its objective; `None` where it meets it, or
    /// where there is none.
    pub fn objective_requests(&self, config: &Config) -> Option<f64> {
        let objective = config.objective?;
        if !(self.valid() && self.p_green > objective) {
            return None;
        }
        let a_request = divergence(self.p_green, objective);
        positive((-config.alpha.objective.ln() + ABORT_MIXTURES) / a_request)
    }

    /// Seconds of traffic for [`objective_requests`](Plan::objective_requests).
    pub fn objective_seconds(&self, config: &Config) -> Option<f64> {
        positive(self.objective_requests(config)? / (self.rate * self.weight))
    }

    /// Seconds from the start of the stage until the judge has aborted, by whichever test is
    /// first: half a batch and the delay are added. A batch is the least that it can take.
    pub fn until_abort(&self, config: &Config) -> Option<f64> {
        let relative = self.relative_seconds(config);
        let objective = self.objective_seconds(config);
        let seconds = match (relative, objective) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some((seconds + self.batch_seconds / 2.0).max(self.batch_seconds) + self.delay)
    }

    /// Whether a stage of so many seconds is too short for the judge to abort within it. `None`
    /// where it would never abort, however long the stage.
    pub fn too_short(&self, config: &Config, stage_seconds: f64) -> Option<bool> {
        Some(self.until_abort(config)? > stage_seconds)
    }

    fn valid(&self) -> bool {
        let share = |p: f64| (0.0..=1.0).contains(&p);
        self.rate > 0.0
            && self.rate.is_finite()
            && [self.weight, self.p_blue, self.p_green]
                .into_iter()
                .all(share)
            && self.batch_seconds >= 0.0
            && self.delay >= 0.0
    }
}

/// Requests to a green without any failure until it passes by its objective; `None` without
/// one.
pub fn clean_pass_requests(config: &Config) -> Option<f64> {
    let requests = (-config.beta.objective.ln() + PASS_MIXTURE) / config.objective?;
    positive(requests.max(count(config.min_requests)))
}

/// Mean number of periods until `in_a_row` of them breach, each with probability `breach`;
/// `None` where that never happens.
pub fn periods_until(breach: f64, in_a_row: u32) -> Option<f64> {
    let k = i32::try_from(in_a_row).ok()?;
    if !(breach > 0.0 && breach <= 1.0 && k > 0) {
        return None;
    }
    if breach >= 1.0 {
        return Some(f64::from(in_a_row));
    }
    positive((breach.powi(-k) - 1.0) / (1.0 - breach))
}

fn positive(value: f64) -> Option<f64> {
    (value > 0.0 && value.is_finite()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan = Plan {
        rate: 20.0,
        weight: 0.1,
        p_blue: 0.001,
        p_green: 0.02,
        batch_seconds: 60.0,
        delay: 70.0,
    };

    #[test]
    fn the_published_prediction() {
        let config = Config::default();
        let seconds = PLAN.relative_seconds(&config).expect("worse");
        assert!((seconds - 119.0).abs() < 0.5, "{seconds}");
        // Section 10 simulates 240 s with batches of 60 s and 70 s of delay.
        let acted = PLAN.until_abort(&config).expect("worse");
        assert!((acted - 240.0).abs() < 30.0, "{acted}");
        assert_eq!(PLAN.too_short(&config, 300.0), Some(false));
        assert_eq!(PLAN.too_short(&config, 120.0), Some(true));
        // A clean version passes after 460 green requests (section 8).
        let pass = clean_pass_requests(&config).expect("objective");
        assert!((pass - 460.0).abs() < 10.0, "{pass}");
    }

    #[test]
    fn what_never_happens_has_no_time() {
        let config = Config::default();
        let equal = Plan {
            p_green: 0.001,
            ..PLAN
        };
        assert_eq!(equal.until_abort(&config), None);
        let all = Plan {
            weight: 1.0,
            ..PLAN
        };
        assert_eq!(all.relative_seconds(&config), None);
        assert!(all.objective_seconds(&config).is_some());
        let none = Config {
            objective: None,
            ..Config::default()
        };
        assert_eq!(all.until_abort(&none), None);
        assert_eq!(clean_pass_requests(&none), None);
        for wrong in [f64::NAN, 0.0, -1.0] {
            assert_eq!(
                Plan {
                    rate: wrong,
                    ..PLAN
                }
                .until_abort(&config),
                None
            );
        }
        assert_eq!(periods_until(0.0, 2), None);
        assert_eq!(periods_until(1.0, 2), Some(2.0));
        assert_eq!(periods_until(0.5, 2), Some(6.0));
    }
}
