//! Every strategy side by side: what each costs with a bad version, and with a good one.
//!
//! What has a formula is computed, and the rest is played: an alarm's means and probabilities
//! are exact, its quantiles and all that the judge does come from chance, with a seed.

use serde::{Deserialize, Serialize};

use super::exact::exact;
use super::monte_carlo::{Run, Simulated, simulate_runs, sum_up};
use super::scenario::{Alarm, JudgeDetector, Scenario, ScenarioError};
use crate::maths::count;
use crate::smoke;
use crate::traffic::TrafficRouting;

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Requests a second, of both sides together; more than 0.
    pub rate: f64,
    /// The share of blue's requests that fail; a good version's, too.
    pub p_blue: f64,
    /// The share of a bad version's requests that fail.
    pub p_green: f64,
    /// From a detection until green gets no traffic.
    pub rollback_seconds: f64,
    /// How long blue is kept after the full shift.
    pub bake_minutes: f64,
    /// The strategies, by the names they are shown with.
    pub strategies: Vec<(String, TrafficRouting)>,
    /// What watches: each strategy is played with each of them.
    pub watches: Vec<Watch>,
    /// How many deployments of the bad version are played, in each case.
    pub runs: u32,
    /// How many of a good version, where there is no formula. False alarms are rare: fewer than
    /// some thousand show none at all.
    pub good_runs: u32,
    /// The seed of all chance.
    pub seed: u64,
}

/// A set of detectors.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// What it is shown as.
    pub name: String,
    /// An alarm.
    pub alarm: Option<Alarm>,
    /// A judge.
    pub judge: Option<JudgeDetector>,
    /// A smoke test before any user traffic.
    pub smoke: Option<smoke::Config>,
}

/// One strategy under one watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The strategy.
    pub strategy: String,
    /// What watches.
    pub watch: String,
    /// When green has all traffic, in seconds: what a good version has to wait.
    pub t_full_s: f64,
    /// When the release is over, in seconds.
    pub t_done_s: f64,
    /// What the bad version does. Of what an alarm does alone, `p_rollback` and the means are exact.
    pub bad: Simulated,
    /// P(the smoke test stops the bad version before any user meets it); exact. `None` without
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_refused: Option<f64>,
    /// How the bad version's failed requests are distributed.
    pub distribution: Vec<Bin>,
    /// P(a good version is rolled back).
    pub good_rollback: f64,
    /// P(the smoke test stops a good version); exact. `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_refused: Option<f64>,
    /// Of how many runs `good_rollback` is the share; `None` where it is exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good_runs: Option<u32>,
}

/// A part of a distribution of counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// From this count on.
    pub from: f64,
    /// Up to this one, exclusive. The first bin, from 0 to 1, is the count 0 alone.
    pub to: f64,
    /// The share of the deployments, 0 to 1.
    pub share: f64,
}

impl Comparison {
    /// The five strategies that CodeDeploy defines, watched by this alarm, by the judge, and by
    /// both; 4,000 deployments each and 15 minutes of bake time.
    pub fn of(rate: f64, p_blue: f64, p_green: f64, alarm: Alarm, judge: &JudgeDetector) -> Self {
        let watch = |name: &str, alarm: Option<Alarm>, judge: Option<&JudgeDetector>| Watch {
            name: name.to_owned(),
            alarm,
            judge: judge.cloned(),
            smoke: None,
        };
        let strategies = TrafficRouting::predefined_names().filter_map(|name| {
            let short = name.trim_start_matches("CodeDeployDefault.ECS");
            Some((short.to_owned(), TrafficRouting::predefined(name)?))
        });
        Comparison {
            rate,
            p_blue,
            p_green,
            rollback_seconds: 30.0,
            bake_minutes: 15.0,
            strategies: strategies.collect(),
            watches: vec![
                watch("alarm", Some(alarm), None),
                watch("judge", None, Some(judge)),
                watch("alarm and judge", Some(alarm), Some(judge)),
            ],
            runs: 4000,
            good_runs: 4000,
            seed: 1,
        }
    }

    /// Plays and computes all of it, a strategy after the other.
    pub fn rows(&self) -> Result<Vec<Row>, ScenarioError> {
        let mut rows = Vec::new();
        for (name, strategy) in &self.strategies {
            for watch in &self.watches {
                let scenario = Scenario {
                    rate: self.rate,
                    p_blue: self.p_blue,
                    p_green: self.p_green,
                    rollback_seconds: self.rollback_seconds,
                    bake_minutes: self.bake_minutes,
                    strategy: *strategy,
                    alarm: watch.alarm,
                    judge: watch.judge.clone(),
                    smoke: watch.smoke,
                };
                rows.push(self.row(name, watch, &scenario)?);
            }
        }
        Ok(rows)
    }

    fn row(&self, name: &str, watch: &Watch, scenario: &Scenario) -> Result<Row, ScenarioError> {
        let runs = simulate_runs(scenario, self.runs, self.seed)?;
        let mut bad = sum_up(scenario, &runs);
        if let Some(exact) = formula(scenario)? {
            bad.p_rollback = exact.p_detect;
            bad.failures.mean = exact.expected_failures;
            bad.excess_mean = exact.expected_excess;
            if let (Some(played), Some(mean)) = (&mut bad.detection_s, exact.expected_detection_s) {
                played.mean = mean;
            }
        }
        let good = scenario.of_a_good_version();
        let (good_rollback, good_runs) = if let Some(exact) = formula(&good)? {
            (exact.p_detect, None)
        } else {
            let runs = simulate_runs(&good, self.good_runs, self.seed)?;
            let rolled_back = share(&runs, |run| run.detection_s.is_some());
            (rolled_back, Some(self.good_runs))
        };
        let refused = |scenario: &Scenario| {
            let passes = scenario.smoke.is_some().then(|| scenario.passes_smoke());
            Ok::<_, ScenarioError>(passes.transpose()?.map(|passes| 1.0 - passes))
        };
        Ok(Row {
            strategy: name.to_owned(),
            watch: watch.name.clone(),
            t_full_s: bad.t_full_s,
            t_done_s: bad.t_done_s,
            bad,
            bad_refused: refused(scenario)?,
            distribution: distribution(&runs),
            good_rollback,
            good_refused: refused(&good)?,
            good_runs,
        })
    }
}

/// The formula's results where there is one that is not too dear.
fn formula(scenario: &Scenario) -> Result<Option<super::Exact>, ScenarioError> {
    match exact(scenario) {
        Ok(exact) => Ok(Some(exact)),
        Err(ScenarioError::NotExact | ScenarioError::TooManyHistories { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn share(runs: &[Run], holds: impl Fn(&Run) -> bool) -> f64 {
    let holding = runs.iter().filter(|run| holds(run)).count();
    count(holding as u64) / count(runs.len().max(1) as u64)
}

/// Bins that are evenly spaced on a logarithmic axis, 20 a decade; the count 0 has its own.
fn distribution(runs: &[Run]) -> Vec<Bin> {
    const A_DECADE: f64 = 20.0;
    let mut failures: Vec<u64> = runs.iter().map(|run| run.failures).collect();
    failures.sort_unstable();
    let mut rest = failures.as_slice();
    let (mut bins, mut place, mut from, mut to) = (Vec::new(), 0.0, 0.0, 1.0);
    while !rest.is_empty() {
        let within = rest.partition_point(|n| count(*n) < to);
        if within > 0 {
            bins.push(Bin {
                from,
                to,
                share: count(within as u64) / count(runs.len() as u64),
            });
        }
        rest = rest.get(within..).unwrap_or_default();
        place += 1.0;
        (from, to) = (to, 10_f64.powf(place / A_DECADE));
    }
    bins
}
