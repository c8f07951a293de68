//! Test vectors: reads a case of any kind, and computes what its `expected` is compared with.
//!
//! One type a kind, with unknown fields denied; whatever is wrong names the file.

use std::path::{Path, PathBuf};

use rollout::interval::confidence_sequence;
use rollout::judge::counters::{Counters, Sample};
use rollout::judge::{Batch, Config, Decision, Histogram, Judge, RefusedBatch, Side, Verdict};
use rollout::simulate::{Exposure, Scenario, exact, simulate};
use rollout::smoke::{self, Smoke, characteristic};
use rollout::traffic::TrafficRouting;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Why a vector could not be run.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// A file or directory could not be read or written.
    #[error("cannot read or write {path}: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file holds no such case.
    #[error("{file}: {reason}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl VectorError {
    /// An I/O error at this path.
    pub fn io(path: &Path, error: std::io::Error) -> VectorError {
        VectorError::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// The vectors of a directory, by name.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, VectorError> {
    let io = |error| VectorError::io(directory, error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A vector's JSON.
pub fn read(file: &Path) -> Result<Map<String, Value>, VectorError> {
    let text = std::fs::read_to_string(file).map_err(|error| VectorError::io(file, error))?;
    serde_json::from_str(&text).map_err(|error| VectorError::Invalid {
        file: file.to_owned(),
        reason: error.to_string(),
    })
}

/// What comes out, in the shape of the vector's `expected`.
pub fn run(vector: &Map<String, Value>, file: &Path) -> Result<Value, VectorError> {
    compute(vector).map_err(|reason| VectorError::Invalid {
        file: file.to_owned(),
        reason,
    })
}

/// What all vectors have in common, beside their inputs.
const COMMON: [&str; 6] = ["schema", "id", "title", "kind", "expected", "tolerance"];

fn compute(vector: &Map<String, Value>) -> Result<Value, String> {
    if vector.get("schema") != Some(&json!(1)) {
        return Err("only vectors of schema 1 are known".to_owned());
    }
    let mut inputs = vector.clone();
    inputs.retain(|key, _| !COMMON.contains(&key.as_str()));
    let kind = vector
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match kind {
        "judge" => judge(inputs_of(inputs)?),
        "counters" => counters(inputs_of(inputs)?),
        "smoke" => smoke(inputs_of(inputs)?),
        "smoke-exact" => smoke_exact(&inputs_of(inputs)?),
        "interval" => interval(inputs_of(inputs)?),
        "strategy" => strategy(&inputs_of(inputs)?),
        "alarm-exact" => alarm_exact(&inputs_of(inputs)?),
        "simulate" => simulated(&inputs_of(inputs)?),
        _ => Err(format!("vectors of kind {kind:?} are not known")),
    }
}

fn inputs_of<T: DeserializeOwned>(inputs: Map<String, Value>) -> Result<T, String> {
    serde_json::from_value(Value::Object(inputs)).map_err(words)
}

/// Any error's words.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn words(error: impl ToString) -> String {
    error.to_string()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JudgeInputs {
    config: Config,
    batches: Vec<Option<Batch>>,
    #[serde(default)]
    latency_history: Option<Histogram>,
}

fn judge(inputs: JudgeInputs) -> Result<Value, String> {
    let mut judge = Judge::new(inputs.config).map_err(words)?;
    if let Some(histogram) = &inputs.latency_history {
        judge.remember_latency(histogram).map_err(words)?;
    }
    let batches: Vec<Batch> = inputs
        .batches
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect();
    judged(
        judge,
        batches.iter().map(|batch| Ok::<_, String>(batch.clone())),
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CounterInputs {
    config: Config,
    samples: Vec<Option<CounterSample>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CounterSample {
    #[serde(default)]
    baseline: Option<Side>,
    #[serde(default)]
    candidate: Option<Side>,
}

fn counters(inputs: CounterInputs) -> Result<Value, String> {
    let judge = Judge::new(inputs.config).map_err(words)?;
    let mut counters = Counters::new();
    let derived: Vec<_> = inputs
        .samples
        .into_iter()
        .map(|sample| {
            let sample = sample.unwrap_or_default();
            counters.observe(&Sample::of_sides(sample.baseline, sample.candidate))
        })
        // The first sample is the origin: there is no interval before it.
        .skip(1)
        .collect();
    let batches: Vec<Batch> = derived
        .iter()
        .map(|batch| batch.clone().unwrap_or_default())
        .collect();
    let mut result = judged(judge, derived.into_iter())?;
    if let Value::Object(fields) = &mut result {
        fields.insert("batches".to_owned(), json!(batches));
    }
    Ok(result)
}

/// Judges batches; those that could not even be made are refused like impossible ones.
fn judged<E>(
    mut judge: Judge,
    batches: impl Iterator<Item = Result<Batch, E>>,
) -> Result<Value, String> {
    let mut status = Vec::new();
    let mut at_batch = None;
    let mut log_e: Map<String, Value> = Map::new();
    let mut lists: Vec<(String, Vec<Value>)> = Vec::new();
    for (index, batch) in batches.enumerate() {
        let judgement = batch.ok().map(|batch| judge.observe(&batch));
        status.push(match judgement {
            Some(Ok(judgement)) => json!(judgement.status),
            Some(Err(RefusedBatch::Repeated { .. })) => return Err("a repeated batch".to_owned()),
            Some(Err(_)) | None => json!("invalid"),
        });
        if at_batch.is_none() && judge.decision() != Decision::Continue {
            at_batch = Some(index + 1);
        }
        let now = serde_json::to_value(judge.log_e()).map_err(words)?;
        for (name, value) in now.as_object().into_iter().flatten() {
            match lists.iter_mut().find(|(list, _)| list == name) {
                Some((_, list)) => list.push(value.clone()),
                None => lists.push((name.clone(), vec![value.clone()])),
            }
        }
    }
    let off = serde_json::to_value(judge.log_e()).map_err(words)?;
    for (name, value) in off.as_object().into_iter().flatten() {
        let list = lists.iter().find(|(list, _)| list == name);
        let values = list.map(|(_, values)| values.clone()).unwrap_or_default();
        let entry = if value.is_null() {
            Value::Null
        } else {
            json!(values)
        };
        log_e.insert(name.clone(), entry);
    }
    let reasons = judge
        .verdict()
        .map(|Verdict { reasons, .. }| reasons.clone());
    let reasons = reasons.unwrap_or_default();
    Ok(json!({
        "decision": judge.decision(),
        "reason": reasons.first(),
        "reasons": reasons,
        "at_batch": at_batch,
        "status": status,
        "log_e": log_e,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SmokeInputs {
    config: smoke::Config,
    outcomes: Vec<u8>,
}

fn smoke(inputs: SmokeInputs) -> Result<Value, String> {
    let mut smoke = Smoke::new(inputs.config).map_err(words)?;
    let mut llr = Vec::new();
    for outcome in inputs.outcomes {
        let failed = match outcome {
            0 => false,
            1 => true,
            other => return Err(format!("an outcome is 0 or 1, not {other}")),
        };
        smoke.probe(failed);
        llr.push(smoke.llr());
    }
    let verdict = smoke.verdict();
    Ok(json!({
        "decision": smoke.decision(),
        "reason": verdict.map(|v| v.reason),
        "at_probe": verdict.map(|v| v.at_probe),
        "llr": llr,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SmokeExactInputs {
    config: smoke::Config,
    p: Vec<f64>,
}

fn smoke_exact(inputs: &SmokeExactInputs) -> Result<Value, String> {
    let points: Result<Vec<_>, _> = inputs
        .p
        .iter()
        .map(|p| characteristic(&inputs.config, *p))
        .collect();
    Ok(json!({ "points": points.map_err(words)? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IntervalInputs {
    alpha: f64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    errors: u64,
    requests: u64,
}

fn interval(inputs: IntervalInputs) -> Result<Value, String> {
    let intervals: Result<Vec<_>, String> = inputs
        .cases
        .into_iter()
        .map(|Case { errors, requests }| {
            let interval = confidence_sequence(errors, requests, inputs.alpha).map_err(words)?;
            Ok(json!({
                "errors": errors,
                "requests": requests,
                "lower": interval.lower,
                "upper": interval.upper,
            }))
        })
        .collect();
    Ok(json!({ "intervals": intervals? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrategyInputs {
    strategies: Vec<Strategy>,
    times_s: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Strategy {
    #[serde(with = "rollout::simulate::strategy")]
    strategy: TrafficRouting,
    bake_minutes: f64,
}

fn strategy(inputs: &StrategyInputs) -> Result<Value, String> {
    let results: Result<Vec<_>, String> = inputs
        .strategies
        .iter()
        .map(
            |Strategy {
                 strategy,
                 bake_minutes,
             }| {
                if !(*bake_minutes >= 0.0 && bake_minutes.is_finite()) {
                    return Err(format!("bake_minutes = {bake_minutes} is not a time"));
                }
                let exposure = Exposure::new(strategy);
                let times = || inputs.times_s.iter();
                Ok(json!({
                    "stages": exposure.stages(),
                    "t_full_s": exposure.full_at(),
                    "t_done_s": exposure.full_at() + bake_minutes * 60.0,
                    "weight": times().map(|t| exposure.weight(*t)).collect::<Vec<_>>(),
                    "exposure_s": times().map(|t| exposure.exposure(*t)).collect::<Vec<_>>(),
                }))
            },
        )
        .collect();
    Ok(json!({ "results": results? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlarmInputs {
    scenarios: Vec<Scenario>,
}

fn alarm_exact(inputs: &AlarmInputs) -> Result<Value, String> {
    let results: Result<Vec<_>, _> = inputs.scenarios.iter().map(exact).collect();
    Ok(json!({ "results": results.map_err(words)? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SimulateInputs {
    scenario: Scenario,
    suggested_runs: u32,
}

fn simulated(inputs: &SimulateInputs) -> Result<Value, String> {
    const SEED: u64 = 20_000;
    let result = simulate(&inputs.scenario, inputs.suggested_runs, SEED).map_err(words)?;
    serde_json::to_value(result).map_err(words)
}
