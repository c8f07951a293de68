//! How long a judge will need: formulas good to some ten percent, for warnings before a release.
//!
//! A likelihood ratio grows by the Kullback-Leibler divergence a request; it must grow to
//! `ln(1/alpha)`, and pay for its mixtures over bets and onsets besides. Add half a batch
//! and the delays, which [`Plan::until_abort`] does.

use serde::Serialize;

use super::scenario::Scenario;
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
    /// By how many nats a second green is seen to be worse than blue; zero where it is not.
    fn relative_nats(&self) -> f64 {
        let w = self.weight;
        let failing = w * self.p_green + (1.0 - w) * self.p_blue;
        if !(self.valid() && w > 0.0 && w < 1.0 && self.p_green > self.p_blue) {
            return 0.0;
        }
        self.rate * failing * divergence(w * self.p_green / failing, w)
    }

    /// By how many nats a second green is seen to miss its objective; zero where it meets it.
    fn objective_nats(&self, config: &Config) -> f64 {
        match config.objective {
            Some(objective) if self.valid() && self.p_green > objective => {
                self.rate * self.weight * divergence(self.p_green, objective)
            }
            _ => 0.0,
        }
    }

    /// Seconds of traffic until green is seen to be worse than blue; `None` where it is not, or
    /// where one of them has no traffic, or where a number is out of its range.
    pub fn relative_seconds(&self, config: &Config) -> Option<f64> {
        positive(wanted(config.alpha.relative) / self.relative_nats())
    }

    /// Requests to green until it is seen to miss its objective; `None` where it meets it, or
    /// where there is none.
    pub fn objective_requests(&self, config: &Config) -> Option<f64> {
        let objective = config.objective?;
        if !(self.valid() && self.p_green > objective) {
            return None;
        }
        let a_request = divergence(self.p_green, objective);
        positive(wanted(config.alpha.objective) / a_request)
    }

    /// Seconds of traffic for [`objective_requests`](Plan::objective_requests).
    pub fn objective_seconds(&self, config: &Config) -> Option<f64> {
        positive(self.objective_requests(config)? / (self.rate * self.weight))
    }

    /// Seconds from the start of the stage until the judge has aborted, by whichever test is
    /// first: half a batch and the delay are added. A batch is the least that it can take.
    /// `None` where it never aborts, however long the stage.
    pub fn until_abort(&self, config: &Config) -> Option<f64> {
        let relative = self.relative_seconds(config);
        let objective = self.objective_seconds(config);
        let seconds = match (relative, objective) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b)?,
        };
        Some(acted(seconds, self.batch_seconds, self.delay))
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

/// Seconds from green's first request until the judge of this scenario has aborted it, along
/// all stages of its strategy; `None` where it has not until the end, and without a judge.
pub fn until_abort(scenario: &Scenario) -> Option<f64> {
    let judge = scenario.judge.as_ref()?;
    let exposure = scenario.exposure();
    let done = scenario.done_at();
    let ends = exposure.stages().iter().skip(1).map(|stage| stage.0);
    let stages = exposure.stages().iter().zip(ends.chain([f64::INFINITY]));
    let (mut relative, mut objective) = (0.0, 0.0);
    for ((start, weight), end) in stages {
        let plan = Plan {
            rate: scenario.rate,
            weight: *weight,
            p_blue: scenario.p_blue,
            p_green: scenario.p_green,
            batch_seconds: judge.batch_seconds,
            delay: judge.delay,
        };
        let config = &judge.config;
        let first = [
            (plan.relative_nats(), &mut relative, config.alpha.relative),
            (
                plan.objective_nats(config),
                &mut objective,
                config.alpha.objective,
            ),
        ]
        .into_iter()
        .filter_map(|(nats, gathered, alpha)| {
            let lacking = (wanted(alpha) - *gathered).max(0.0);
            *gathered += nats * (end - start).min(1e9);
            (nats > 0.0).then(|| start + lacking / nats)
        })
        .fold(f64::INFINITY, f64::min);
        if first <= end && first.is_finite() {
            let at = acted(first, judge.batch_seconds, judge.delay);
            return (at <= done).then_some(at);
        }
    }
    None
}

/// The evidence that an ABORT takes, in nats.
fn wanted(alpha: f64) -> f64 {
    ABORT_MIXTURES - alpha.ln()
}

/// When the judge has acted on evidence that was complete after so many seconds.
fn acted(seconds: f64, batch_seconds: f64, delay: f64) -> f64 {
    (seconds + batch_seconds / 2.0).max(batch_seconds) + delay
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
        // The published simulation has 240 s with batches of 60 s and 70 s of delay.
        let acted = PLAN.until_abort(&config).expect("worse");
        assert!((acted - 240.0).abs() < 30.0, "{acted}");
        // A clean version passes after 460 green requests (published).
        let pass = clean_pass_requests(&config).expect("objective");
        assert!((pass - 460.0).abs() < 10.0, "{pass}");
    }

    /// The published mean detections of the judge, at 2 % against 0.1 % and 20 requests a second,
    /// are met within a quarter along every strategy.
    #[test]
    fn the_plan_follows_the_stages() {
        use crate::simulate::JudgeDetector;
        use crate::traffic::TrafficRouting;

        let scenario = |strategy, batch_seconds, delay| Scenario {
            rate: 20.0,
            p_blue: 0.001,
            p_green: 0.02,
            rollback_seconds: 30.0,
            bake_minutes: 15.0,
            strategy,
            alarm: None,
            judge: Some(JudgeDetector {
                batch_seconds,
                delay,
                config: Config::default(),
            }),
            smoke: None,
        };
        for (strategy, slow, fast) in [
            (TrafficRouting::AllAtOnce, 217.0, 121.0),
            (TrafficRouting::canary(10, 5), 240.0, 144.0),
            (TrafficRouting::linear(10, 1), 205.0, 112.0),
            (TrafficRouting::linear(10, 3), 232.0, 136.0),
        ] {
            for (every, delay, mean) in [(60.0, 70.0, slow), (10.0, 10.0, fast)] {
                let got = until_abort(&scenario(strategy, every, delay)).expect("worse");
                assert!(
                    (got / mean - 1.0).abs() < 0.25,
                    "{strategy}: {got} for {mean}"
                );
            }
        }
        let mut good = scenario(TrafficRouting::canary(10, 5), 60.0, 70.0);
        good.p_green = good.p_blue;
        assert_eq!(until_abort(&good), None);
        good.judge = None;
        assert_eq!(until_abort(&good), None);
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
