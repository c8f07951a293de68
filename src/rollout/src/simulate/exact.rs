//! What an alarm does to a bad version, without chance: a chain over its memory.
//!
//! The sums of different periods are independent, so the alarm's history of breaches is a
//! Markov chain. The moment of detection is a stopping time; so the expected number of failures
//! is the failure rate times the expected exposure up to it (Wald's identity).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exposure::Exposure;
use super::scenario::{Alarm, Scenario, ScenarioError};
use crate::maths::poisson_above;

/// Exact expectations of a scenario with an alarm, or with no detector at all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exact {
    /// P(rolled back).
    pub p_detect: f64,
    /// The mean time of detection in seconds, given that there is one.
    pub expected_detection_s: Option<f64>,
    /// Requests that met green.
    pub expected_green_requests: f64,
    /// Those that failed.
    pub expected_failures: f64,
    /// Those that would not have failed with blue.
    pub expected_excess: f64,
}

/// The exact results of a scenario. Refused are a judge, for which there is no formula, and an
/// alarm whose M of N has more than 100,000 histories. A smoke test's exact P(pass) multiplies
/// all but the time.
pub fn exact(scenario: &Scenario) -> Result<Exact, ScenarioError> {
    scenario.validate()?;
    if scenario.judge.is_some() {
        return Err(ScenarioError::NotExact);
    }
    let exposure = scenario.exposure();
    let done = scenario.done_at();
    let mut mean = Sums::default();
    match &scenario.alarm {
        None => mean.undetected(1.0, &exposure, done),
        Some(alarm) => {
            let phases = alarm.phases();
            let share = 1.0 / f64::from(u32::try_from(phases.len()).unwrap_or(u32::MAX));
            for phase in phases {
                chain(
                    scenario,
                    alarm,
                    phase,
                    &exposure,
                    |detection, mass| match detection {
                        Some(d) => {
                            mean.detected(share * mass, d, &exposure, scenario.rollback_seconds);
                        }
                        None => mean.undetected(share * mass, &exposure, done),
                    },
                )?;
            }
        }
    }
    let passes = scenario.passes_smoke()?;
    let green_requests = passes * scenario.rate * mean.exposure;
    Ok(Exact {
        p_detect: passes * mean.detected,
        expected_detection_s: (mean.detected > 0.0).then(|| mean.time / mean.detected),
        expected_green_requests: green_requests,
        expected_failures: green_requests * scenario.p_green,
        expected_excess: green_requests * (scenario.p_green - scenario.p_blue),
    })
}

#[derive(Default)]
struct Sums {
    detected: f64,
    time: f64,
    /// Expected seconds of full traffic on green.
    exposure: f64,
}

impl Sums {
    fn detected(&mut self, mass: f64, at: f64, exposure: &Exposure, rollback: f64) {
        self.detected += mass;
        self.time += mass * at;
        self.exposure += mass * (exposure.exposure(at) + exposure.weight(at) * rollback);
    }

    fn undetected(&mut self, mass: f64, exposure: &Exposure, done: f64) {
        self.exposure += mass * exposure.exposure(done);
    }
}

/// Tells the probability of each time of detection, and of none.
fn chain(
    scenario: &Scenario,
    alarm: &Alarm,
    phase: f64,
    exposure: &Exposure,
    mut tell: impl FnMut(Option<f64>, f64),
) -> Result<(), ScenarioError> {
    const MAX_HISTORIES: usize = 100_000;
    let done = scenario.done_at();
    let limit = alarm.limit();
    let mut histories = BTreeMap::from([(0_u64, 1.0_f64)]);
    // Periods under one weight have the same probability of a breach.
    let (mut last_lambda, mut last_breach) = (f64::NAN, 0.0);
    let mut start = -phase;
    for index in 1_u32.. {
        let end = f64::from(index) * alarm.period - phase;
        let detection = end + alarm.delay();
        if detection > done || histories.is_empty() {
            break;
        }
        let on_green = exposure.exposure(end) - exposure.exposure(start);
        let on_blue = (end - start) - on_green;
        start = end;
        let (green, blue) = alarm.scope.sees();
        let seen = |sees: bool, failing: f64| if sees { failing } else { 0.0 };
        let failing =
            seen(green, scenario.p_green * on_green) + seen(blue, scenario.p_blue * on_blue);
        let lambda = scenario.rate * failing;
        if lambda.to_bits() != last_lambda.to_bits() {
            (last_lambda, last_breach) = (lambda, poisson_above(lambda, limit));
        }
        let mut next = BTreeMap::new();
        let mut fired = 0.0;
        for (history, mass) in histories {
            for (breach, mass) in [
                (true, mass * last_breach),
                (false, mass * (1.0 - last_breach)),
            ] {
                if mass == 0.0 {
                    continue;
                }
                let history = alarm.remember(history, breach);
                if alarm.fires(history) {
                    fired += mass;
                } else {
                    *next.entry(useful(alarm, history)).or_insert(0.0) += mass;
                }
            }
        }
        if fired > 0.0 {
            tell(Some(detection), fired);
        }
        if next.len() > MAX_HISTORIES {
            return Err(ScenarioError::TooManyHistories {
                datapoints: alarm.datapoints,
                periods: alarm.evaluation_periods,
            });
        }
        histories = next;
    }
    tell(None, histories.into_values().sum());
    Ok(())
}

/// A history without the breaches that can no longer be part of M within N: each of them will
/// have left the window before enough others could have come. It keeps k in a row at k states.
fn useful(alarm: &Alarm, history: u64) -> u64 {
    let mut kept = 0;
    let mut rest = history;
    let mut place = 1;
    while rest != 0 {
        let age = rest.trailing_zeros();
        let missing = alarm.datapoints.saturating_sub(place);
        if age + missing >= alarm.evaluation_periods {
            break;
        }
        kept |= 1 << age;
        rest &= rest - 1;
        place += 1;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::{Phase, Scope};
    use crate::traffic::TrafficRouting;

    fn alarm(datapoints: u32, evaluation_periods: u32) -> Alarm {
        Alarm {
            threshold: 10.0,
            period: 60.0,
            datapoints,
            evaluation_periods,
            scope: Scope::Green,
            metric_delay: 60.0,
            poll_delay: 10.0,
            phase: Phase::At(0.0),
        }
    }

    fn scenario(alarm: Alarm) -> Scenario {
        Scenario {
            rate: 10.0,
            p_blue: 0.001,
            p_green: 0.02,
            rollback_seconds: 30.0,
            bake_minutes: 1440.0,
            strategy: TrafficRouting::AllAtOnce,
            alarm: Some(alarm),
            judge: None,
            smoke: None,
        }
    }

    /// Planning formulas: (b^-k - 1)/(1 - b) periods for k in a row, and
    /// r p (E[D] + R) failures when all traffic moves at once.
    #[test]
    fn agrees_with_the_planning_formulas() {
        let breach = poisson_above(12.0, 10);
        for k in 1..=6_i32 {
            let n = k.unsigned_abs();
            let result = exact(&scenario(alarm(n, n))).expect("valid");
            let periods = (breach.powi(-k) - 1.0) / (1.0 - breach);
            let detection = result.expected_detection_s.expect("detected");
            assert!(result.p_detect > 1.0 - 1e-9, "{result:?}");
            assert!(
                (detection - 70.0 - 60.0 * periods).abs() < 1e-3,
                "{k}: {result:?}"
            );
            let failures = 10.0 * 0.02 * (detection + 30.0);
            assert!((result.expected_failures - failures).abs() < 1e-6);
        }
    }

    #[test]
    fn long_windows_are_followed_where_they_are_simple() {
        let result = exact(&scenario(alarm(64, 64))).expect("k in a row has k histories");
        assert!(result.p_detect < 1e-3);
        assert!(matches!(
            exact(&scenario(alarm(32, 64))),
            Err(ScenarioError::TooManyHistories { .. })
        ));
    }

    /// Forgetting useless breaches changes nothing.
    #[test]
    fn a_pruned_history_fires_when_the_whole_one_does() {
        for (m, n) in [(1, 1), (2, 2), (2, 3), (3, 5), (4, 4), (3, 7)] {
            let alarm = alarm(m, n);
            for bits in 0..1_u32 << 14 {
                let (mut whole, mut pruned) = (0, 0);
                for period in 0..14 {
                    let breach = bits >> period & 1 == 1;
                    whole = alarm.remember(whole, breach);
                    pruned = alarm.remember(pruned, breach);
                    assert_eq!(
                        alarm.fires(whole),
                        alarm.fires(pruned),
                        "{m} of {n}: {bits:b}"
                    );
                    if alarm.fires(whole) {
                        break;
                    }
                    pruned = useful(&alarm, pruned);
                }
            }
        }
    }
}
