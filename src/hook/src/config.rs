//! The hook's settings: environment variables, as Lambda gives them.
//!
//! Every variable that begins with `HOOK_` is one of these; another one is refused, because a setting
//! with a typing error that is silently ignored is a setting that silently does not hold. Each message
//! names the variable, its value, and what it may be.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};
use rollout::smoke;

/// What is tried, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The test listener: scheme and authority.
    pub listener: (Scheme, Authority),
    /// What is asked for.
    pub endpoints: Vec<Endpoint>,
    /// Status codes of a good answer.
    pub good: RangeInclusive<u16>,
    /// When it is decided.
    pub smoke: smoke::Config,
    /// Probes a second, at most.
    pub rate: f64,
    /// Probes under way at once, at most.
    pub concurrency: usize,
    /// How long one probe may take, to the last byte of the answer's body (as far as it is read).
    pub probe_timeout: Duration,
    /// How long the load balancer may take to lead to green, before probes count.
    pub settle: Duration,
    /// How long all of it may take. The function's own deadline may be sooner.
    pub time_limit: Duration,
}

/// A path, and whether green must have answered it well once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Path and query.
    pub path: PathAndQuery,
    /// One good answer is required.
    pub critical: bool,
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// A variable without which nothing can be tried.
    #[error("{name} is not set: it is {meaning}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it means.
        meaning: &'static str,
    },
    /// A value that cannot be read or is out of its range.
    #[error("{name}={value:?}: {problem}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        problem: String,
    },
    /// A variable that is not one of the hook's.
    #[error("{name} is not a setting of the hook; there are {}", NAMES.join(", "))]
    Unknown {
        /// The variable.
        name: String,
    },
    /// Values that are in their ranges and do not go together.
    #[error("{TOLERATED}, {BAD}, {ALPHA}, {BETA}, {MAX_PROBES}: {0}")]
    Smoke(#[from] smoke::SmokeError),
}

const PREFIX: &str = "HOOK_";
const URL: &str = "HOOK_TEST_URL";
const PATHS: &str = "HOOK_PATHS";
const CRITICAL: &str = "HOOK_CRITICAL_PATHS";
const GOOD: &str = "HOOK_GOOD_STATUS";
const TOLERATED: &str = "HOOK_TOLERATED_RATE";
const BAD: &str = "HOOK_BAD_RATE";
const ALPHA: &str = "HOOK_ALPHA";
const BETA: &str = "HOOK_BETA";
const MAX_PROBES: &str = "HOOK_MAX_PROBES";
const RATE: &str = "HOOK_RATE";
const CONCURRENCY: &str = "HOOK_CONCURRENCY";
const PROBE_TIMEOUT: &str = "HOOK_PROBE_TIMEOUT";
const SETTLE: &str = "HOOK_SETTLE";
const TIME_LIMIT: &str = "HOOK_TIME_LIMIT";

/// All of them, in the order of docs/hook.md.
pub const NAMES: [&str; 14] = [
    URL,
    PATHS,
    CRITICAL,
    GOOD,
    TOLERATED,
    BAD,
    ALPHA,
    BETA,
    MAX_PROBES,
    RATE,
    CONCURRENCY,
    PROBE_TIMEOUT,
    SETTLE,
    TIME_LIMIT,
];

impl Config {
    /// Reads the environment.
    pub fn of(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigError> {
        let mut given = Vec::new();
        for (name, value) in environment {
            let name = name.to_string_lossy();
            if !name.starts_with(PREFIX) {
                continue;
            }
            let known = NAMES.into_iter().find(|known| *known == name);
            let name = known.ok_or_else(|| ConfigError::Unknown {
                name: name.into_owned(),
            })?;
            let value = value.into_string().map_err(|value| {
                Given(name, value.to_string_lossy().into_owned()).wrong("it is not UTF-8")
            })?;
            // As good as not set: that is how a template leaves something out.
            if !value.trim().is_empty() {
                given.push(Given(name, value));
            }
        }
        let get = |name| given.iter().find(|given| given.0 == name);
        let smoke = smoke::Config::default();
        let listener = get(URL).ok_or(ConfigError::Missing {
            name: URL,
            meaning: "the URL of the test listener, such as http://10.0.0.7:8443",
        })?;
        let smoke = smoke::Config {
            p0: number(get(TOLERATED), 0.0, 1.0, smoke.p0)?,
            p1: number(get(BAD), 0.0, 1.0, smoke.p1)?,
            alpha: number(get(ALPHA), 0.0, 1.0, smoke.alpha)?,
            beta: number(get(BETA), 0.0, 1.0, smoke.beta)?,
            max_probes: whole(get(MAX_PROBES), 1..=smoke::MAX_PROBES, smoke.max_probes)?,
        };
        smoke.validate()?;
        let endpoints = endpoints(get(PATHS), get(CRITICAL))?;
        Ok(Config {
            listener: listener.url()?,
            endpoints,
            good: get(GOOD).map_or(Ok(200..=399), Given::statuses)?,
            smoke,
            rate: number(get(RATE), 0.1, 1000.0, 20.0)?,
            concurrency: usize::try_from(whole(get(CONCURRENCY), 1..=64, 4)?).unwrap_or(1),
            probe_timeout: time(get(PROBE_TIMEOUT), PROBE_TIMES, Duration::from_secs(5))?,
            settle: time(get(SETTLE), SETTLE_TIMES, Duration::from_secs(10))?,
            time_limit: time(get(TIME_LIMIT), LIMITS, Duration::from_mins(5))?,
        })
    }
}

/// A probe's time-out.
const PROBE_TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_mins(1);
/// 0 for a load balancer that is ready at once.
const SETTLE_TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
/// Well within CodeDeploy's hour (CodeDeploy user guide, "Limits").
const LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(50);

/// A variable and its value.
struct Given(&'static str, String);

impl Given {
    fn wrong(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            name: self.0,
            value: self.1.clone(),
            problem: problem.into(),
        }
    }

    fn url(&self) -> Result<(Scheme, Authority), ConfigError> {
        let uri: Uri = self
            .1
            .trim()
            .parse()
            .map_err(|error| self.wrong(format!("it is no URL: {error}")))?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme))
            .ok_or_else(|| self.wrong("write it with http:// or https://"))?;
        let authority = parts
            .authority
            .filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'))
            .ok_or_else(|| self.wrong("it names no host"))?;
        match parts.path_and_query {
            Some(path) if path != "/" => Err(self.wrong(format!("paths belong into {PATHS}"))),
            _ => Ok((scheme, authority)),
        }
    }

    /// `200`, or `200-299`.
    fn statuses(&self) -> Result<RangeInclusive<u16>, ConfigError> {
        let text = self.1.trim();
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.trim().parse(), to.trim().parse()) {
            (Ok(from), Ok(to)) if 100 <= from && from <= to && to <= 599 => Ok(from..=to),
            _ => Err(self.wrong("write a status or a range of them, such as 200 or 200-399")),
        }
    }

    /// Words between spaces or commas, each once.
    fn paths(&self) -> Result<Vec<PathAndQuery>, ConfigError> {
        let mut seen = BTreeSet::new();
        self.1
            .split([' ', ',', '\t', '\n'])
            .filter(|word| !word.is_empty() && seen.insert(*word))
            .map(|word| {
                word.parse()
                    .ok()
                    .filter(|_| word.starts_with('/'))
                    .ok_or_else(|| self.wrong(format!("{word:?} is no path; a path begins with /")))
            })
            .collect()
    }
}

/// The paths with those that are critical marked. Without a list of critical ones all are.
fn endpoints(
    paths: Option<&Given>,
    critical: Option<&Given>,
) -> Result<Vec<Endpoint>, ConfigError> {
    let all = match paths {
        Some(paths) => paths.paths()?,
        None => vec![PathAndQuery::from_static("/")],
    };
    let must = match critical {
        Some(critical) => {
            let must = critical.paths()?;
            if let Some(other) = must.iter().find(|path| !all.contains(path)) {
                return Err(critical.wrong(format!("{other} is not among {PATHS}")));
            }
            must
        }
        None => all.clone(),
    };
    Ok(all
        .into_iter()
        .map(|path| Endpoint {
            critical: must.contains(&path),
            path,
        })
        .collect())
}

fn number(given: Option<&Given>, from: f64, to: f64, default: f64) -> Result<f64, ConfigError> {
    let Some(given) = given else {
        return Ok(default);
    };
    given
        .1
        .trim()
        .parse()
        .ok()
        .filter(|number| (from..=to).contains(number))
        .ok_or_else(|| given.wrong(format!("give a number from {from} to {to}")))
}

fn whole(
    given: Option<&Given>,
    range: RangeInclusive<u32>,
    default: u32,
) -> Result<u32, ConfigError> {
    let Some(given) = given else {
        return Ok(default);
    };
    let (from, to) = (range.start(), range.end());
    given
        .1
        .trim()
        .parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| given.wrong(format!("give a whole number from {from} to {to}")))
}

/// `500ms`, `5s` or `2m`.
fn time(
    given: Option<&Given>,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> Result<Duration, ConfigError> {
    let Some(given) = given else {
        return Ok(default);
    };
    let text = given.1.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let read = digits.parse::<u32>().ok().zip(unit);
    read.map(|(number, unit)| Duration::from_millis(u64::from(number) * unit))
        .filter(|time| range.contains(time))
        .ok_or_else(|| {
            given.wrong(format!(
                "write a time such as 500ms, 5s or 2m, from {:?} to {:?}",
                range.start(),
                range.end()
            ))
        })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
