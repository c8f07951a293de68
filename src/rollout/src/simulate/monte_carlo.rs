//! Deployments, played: what quantiles and the judge need.
//!
//! Time is cut into segments at every moment that matters: ends of alarm periods, ends of
//! batches, changes of the weight. Within a segment nothing changes, so four Poisson counts say
//! all. A detector acts some time after the segment that convinced it; of the segment that
//! contains that moment a binomial share has happened, and while traffic goes back, the
//! weight stays as it was.
//!
//! The weights are those that the deployment's state machine sets, and it is told of every moment
//! at which a detector can act, whether it then takes the traffic back; once for all deployments,
//! because it gives equal answers to equal questions.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::sample::{Poisson, Source, binomial};
use super::scenario::{Alarm, Scenario, ScenarioError};
use crate::judge::{Batch, Judge, Side};
use crate::maths::count;

/// The most deployments that are played at once.
pub const MAX_RUNS: u32 = 10_000_000;

/// Who stopped a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detector {
    /// The smoke test, before any user met green.
    Smoke,
    /// The alarm.
    Alarm,
    /// The judge.
    Judge,
}

/// One deployment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Failed requests of green.
    pub failures: u64,
    /// Requests of green.
    pub green_requests: u64,
    /// When a detector acted, in seconds; `None` also after a smoke test.
    pub detection_s: Option<f64>,
    /// Who stopped it; `None` for nobody.
    pub stopped_by: Option<Detector>,
}

/// Many deployments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulated {
    /// The share that was rolled back.
    pub p_rollback: f64,
    /// When green has all traffic, in seconds.
    pub t_full_s: f64,
    /// When the release is over, in seconds.
    pub t_done_s: f64,
    /// Failed requests of green.
    pub failures: Failures,
    /// Failed requests more than blue would have had, on average.
    pub excess_mean: f64,
    /// When it was detected, of those that were; `None` where none was.
    pub detection_s: Option<Detections>,
}

/// The distribution of failed requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failures {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub q50: f64,
    /// 90 % quantile.
    pub q90: f64,
    /// 95 % quantile.
    pub q95: f64,
    /// 99 % quantile.
    pub q99: f64,
}

/// The distribution of the time of detection, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detections {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub q50: f64,
    /// 90 % quantile.
    pub q90: f64,
    /// 95 % quantile.
    pub q95: f64,
}

/// Plays a scenario `runs` times, and sums up.
pub fn simulate(scenario: &Scenario, runs: u32, seed: u64) -> Result<Simulated, ScenarioError> {
    Ok(sum_up(scenario, &simulate_runs(scenario, runs, seed)?))
}

/// What came of deployments of this scenario.
pub(super) fn sum_up(scenario: &Scenario, played: &[Run]) -> Simulated {
    let total = count(played.len() as u64);
    let rolled_back = played
        .iter()
        .filter(|run| run.detection_s.is_some())
        .count();
    let mut failures: Vec<f64> = played.iter().map(|run| count(run.failures)).collect();
    let mut detections: Vec<f64> = played.iter().filter_map(|run| run.detection_s).collect();
    failures.sort_by(f64::total_cmp);
    detections.sort_by(f64::total_cmp);
    let excess = |run: &Run| count(run.failures) - scenario.p_blue * count(run.green_requests);
    Simulated {
        p_rollback: count(rolled_back as u64) / total,
        t_full_s: scenario.exposure().full_at(),
        t_done_s: scenario.done_at(),
        failures: Failures {
            mean: mean(&failures),
            q50: quantile(&failures, 50),
            q90: quantile(&failures, 90),
            q95: quantile(&failures, 95),
            q99: quantile(&failures, 99),
        },
        excess_mean: played.iter().map(excess).sum::<f64>() / total,
        detection_s: (!detections.is_empty()).then(|| Detections {
            mean: mean(&detections),
            q50: quantile(&detections, 50),
            q90: quantile(&detections, 90),
            q95: quantile(&detections, 95),
        }),
    }
}

/// Plays a scenario `runs` times. The same seed gives the same deployments.
pub fn simulate_runs(scenario: &Scenario, runs: u32, seed: u64) -> Result<Vec<Run>, ScenarioError> {
    scenario.validate()?;
    if !(1..=MAX_RUNS).contains(&runs) {
        return Err(ScenarioError::Runs(runs));
    }
    let player = Player::new(scenario)?;
    let mut source = Source::seeded(seed);
    Ok((0..runs).map(|_| player.play(&mut source)).collect())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len() as u64)
}

/// The smallest value that so many percent do not exceed.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// What happens between two moments that matter.
struct Segment {
    start: f64,
    end: f64,
    green_failed: usize,
    green_served: usize,
    blue_failed: usize,
    blue_served: usize,
    /// What green still gets while traffic goes back, if the detector acts in this segment.
    tail_failed: usize,
    tail_served: usize,
    ends_period: bool,
    ends_batch: bool,
    /// When the alarm, or the judge, acts on what it knows at the end of this segment, and takes
    /// all traffic back by it.
    alarm_acts: Option<f64>,
    judge_acts: Option<f64>,
}

/// The segments of one phase of the alarm.
struct Layout {
    segments: Vec<Segment>,
    /// Blue's failures in the first period before green's first request.
    before: usize,
}

/// A scenario, prepared for many runs.
struct Player<'a> {
    alarm: Option<&'a Alarm>,
    judge: Option<Judge>,
    layouts: Vec<Layout>,
    poissons: Vec<Poisson>,
    /// Whether any detector looks at blue.
    sees_blue: bool,
    /// P(the smoke test lets it pass), if there is one.
    smoke: Option<f64>,
}

/// Poisson distributions, each mean once.
#[derive(Default)]
struct Poissons {
    places: HashMap<u64, usize>,
    all: Vec<Poisson>,
}

impl Poissons {
    fn of(&mut self, mean: f64) -> usize {
        *self.places.entry(mean.to_bits()).or_insert_with(|| {
            self.all.push(Poisson::new(mean));
            self.all.len() - 1
        })
    }
}

impl<'a> Player<'a> {
    fn new(scenario: &'a Scenario) -> Result<Player<'a>, ScenarioError> {
        let mut poissons = Poissons::default();
        let machine = Machine::new(scenario);
        let phases = match &scenario.alarm {
            None => vec![None],
            Some(alarm) => alarm.phases().into_iter().map(Some).collect(),
        };
        let layouts = phases
            .into_iter()
            .map(|phase| Layout::new(scenario, &machine, phase, &mut poissons))
            .collect();
        let judge = match &scenario.judge {
            None => None,
            Some(detector) => Some(Judge::new(detector.config.clone())?),
        };
        Ok(Player {
            sees_blue: judge.is_some() || scenario.alarm.is_some_and(|alarm| alarm.scope.sees().1),
            alarm: scenario.alarm.as_ref(),
            judge,
            layouts,
            poissons: poissons.all,
            smoke: (scenario.smoke.is_some() && machine.refused())
                .then(|| scenario.passes_smoke())
                .transpose()?,
        })
    }

    fn draw(&self, place: usize, source: &mut Source) -> u64 {
        self.poissons.get(place).map_or(0, |p| p.draw(source))
    }

    fn play(&self, source: &mut Source) -> Run {
        let mut run = Run {
            failures: 0,
            green_requests: 0,
            detection_s: None,
            stopped_by: None,
        };
        if self.smoke.is_some_and(|passes| source.uniform() >= passes) {
            run.stopped_by = Some(Detector::Smoke);
            return run;
        }
        let choice = if self.layouts.len() > 1 {
            source.below(self.layouts.len())
        } else {
            0
        };
        let Some(layout) = self.layouts.get(choice) else {
            return run;
        };
        let mut watch = Watch::new(self, self.draw(layout.before, source));
        for (index, segment) in layout.segments.iter().enumerate() {
            // The detector that acts first acts in this segment, or at its start.
            let acting = watch.first.filter(|(at, _)| *at < segment.end);
            let failed = self.draw(segment.green_failed, source);
            let served = self.draw(segment.green_served, source);
            if let Some((at, _)) = acting {
                let share = (at - segment.start) / (segment.end - segment.start);
                let failed = binomial(source, failed, share);
                let served = binomial(source, served, share);
                run.add(failed, served);
                self.roll_back(&mut run, segment, source);
                break;
            }
            run.add(failed, served);
            watch.segment(self, segment, (failed, served), source);
            // A detector that acts at the very end of the release meets its last weight.
            let last = index + 1 == layout.segments.len();
            if last && watch.first.is_some() {
                self.roll_back(&mut run, segment, source);
            }
        }
        if let Some((at, detector)) = watch.first {
            run.detection_s = Some(at);
            run.stopped_by = Some(detector);
        }
        run
    }

    fn roll_back(&self, run: &mut Run, segment: &Segment, source: &mut Source) {
        run.add(
            self.draw(segment.tail_failed, source),
            self.draw(segment.tail_served, source),
        );
    }
}

impl Run {
    fn add(&mut self, failed: u64, served: u64) {
        self.failures += failed;
        self.green_requests += failed + served;
    }
}

/// The detectors during one deployment.
struct Watch {
    /// Who acts first, and when; never after the end of the release.
    first: Option<(f64, Detector)>,
    alarm_waits: bool,
    history: u64,
    period_failures: u64,
    judge: Option<Judge>,
    batch: Batch,
}

impl Watch {
    fn new(player: &Player<'_>, before: u64) -> Watch {
        Watch {
            first: None,
            alarm_waits: player.alarm.is_some(),
            history: 0,
            period_failures: before,
            judge: player.judge.clone(),
            batch: no_batch(),
        }
    }

    fn segment(
        &mut self,
        player: &Player<'_>,
        segment: &Segment,
        (failed, served): (u64, u64),
        source: &mut Source,
    ) {
        let blue_failed = if player.sees_blue {
            player.draw(segment.blue_failed, source)
        } else {
            0
        };
        if let (true, Some(alarm)) = (self.alarm_waits, player.alarm) {
            let (green, blue) = alarm.scope.sees();
            self.period_failures += failed * u64::from(green) + blue_failed * u64::from(blue);
            if segment.ends_period {
                let breach = self.period_failures > alarm.limit();
                self.period_failures = 0;
                self.history = alarm.remember(self.history, breach);
                if alarm.fires(self.history) {
                    self.alarm_waits = false;
                    self.acts(segment.alarm_acts, Detector::Alarm);
                }
            }
        }
        if let Some(judge) = &mut self.judge {
            let blue_served = player.draw(segment.blue_served, source);
            add(&mut self.batch.baseline, blue_failed, blue_served);
            add(&mut self.batch.candidate, failed, served);
            if segment.ends_batch {
                let batch = std::mem::replace(&mut self.batch, no_batch());
                // A batch beyond what the judge takes for possible says nothing.
                let accused = judge.observe(&batch).is_ok_and(|j| !j.abort.is_empty());
                if accused {
                    self.judge = None;
                    self.acts(segment.judge_acts, Detector::Judge);
                }
            }
        }
    }

    fn acts(&mut self, at: Option<f64>, detector: Detector) {
        if let Some(at) = at
            && self.first.is_none_or(|(first, _)| at < first)
        {
            self.first = Some((at, detector));
        }
    }
}

fn no_batch() -> Batch {
    Batch::new(Side::default(), Side::default())
}

fn add(side: &mut Option<Side>, failed: u64, served: u64) {
    if let Some(side) = side {
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        side.errors = side.errors.saturating_add(whole(failed));
        side.requests = side.requests.saturating_add(whole(failed + served));
    }
}

impl Layout {
    fn new(
        scenario: &Scenario,
        machine: &Machine,
        phase: Option<f64>,
        poissons: &mut Poissons,
    ) -> Layout {
        let exposure = machine.exposure();
        let done = scenario.done_at();
        let mut edges = vec![0.0, done];
        let multiples = |every: f64, shift: f64| {
            (1_u32..)
                .map(move |i| f64::from(i) * every - shift)
                .take_while(move |edge| *edge <= done)
        };
        let mut periods = Vec::new();
        if let (Some(alarm), Some(phase)) = (&scenario.alarm, phase) {
            periods.extend(multiples(alarm.period, phase));
        }
        let changes: Vec<f64> = exposure.stages().iter().map(|stage| stage.0).collect();
        let mut batches = Vec::new();
        if let Some(judge) = &scenario.judge {
            batches.extend(multiples(judge.batch_seconds, 0.0));
            batches.extend(changes.iter().filter(|at| **at > 0.0));
        }
        edges.extend(changes.iter().chain(&periods).chain(&batches));
        edges.retain(|edge| (0.0..=done).contains(edge));
        edges.sort_by(f64::total_cmp);
        edges.dedup();
        periods.sort_by(f64::total_cmp);
        batches.sort_by(f64::total_cmp);
        let among =
            |edges: &[f64], at: f64| edges.binary_search_by(|edge| edge.total_cmp(&at)).is_ok();
        let mut segment = |start: f64, end: f64| {
            let weight = exposure.weight(start);
            let green = scenario.rate * (end - start) * weight;
            let blue = scenario.rate * (end - start) * (1.0 - weight);
            let tail = scenario.rate * scenario.rollback_seconds * weight;
            let (ends_period, ends_batch) = (among(&periods, end), among(&batches, end));
            let acts = |ends: bool, by: Detector, delay: Option<f64>| {
                let at = end + delay.filter(|_| ends)?;
                (at <= done && machine.stopped(by, at)).then_some(at)
            };
            let alarm_delay = scenario.alarm.map(|alarm| alarm.delay());
            let judge_delay = scenario.judge.as_ref().map(|judge| judge.delay);
            Segment {
                start,
                end,
                green_failed: poissons.of(green * scenario.p_green),
                green_served: poissons.of(green * (1.0 - scenario.p_green)),
                blue_failed: poissons.of(blue * scenario.p_blue),
                blue_served: poissons.of(blue * (1.0 - scenario.p_blue)),
                tail_failed: poissons.of(tail * scenario.p_green),
                tail_served: poissons.of(tail * (1.0 - scenario.p_green)),
                ends_period,
                ends_batch,
                alarm_acts: acts(ends_period, Detector::Alarm, alarm_delay),
                judge_acts: acts(ends_batch, Detector::Judge, judge_delay),
            }
        };
        let segments = edges
            .windows(2)
            .map(|pair| segment(pair[0], pair[1]))
            .collect();
        let before = match &scenario.alarm {
            Some(alarm) if alarm.scope.sees().1 => {
                scenario.rate * scenario.p_blue * phase.unwrap_or(0.0)
            }
            _ => 0.0,
        };
        Layout {
            segments,
            before: poissons.of(before),
        }
    }
}
