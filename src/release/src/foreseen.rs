//! What a release will do, in words: the timeline and the findings of [`rollout::timeline`] for the
//! strategies of release.toml.

use std::fmt::Write as _;

use rollout::timeline::{AlarmOutlook, Finding, Reach, Severity, Timeline, Traffic, findings};
use rollout::traffic::TrafficRouting;
use serde::Serialize;

use crate::config::Config;
use crate::error::Error;
use crate::forecast;
use crate::report::{clock, plan};

/// One strategy.
#[derive(Debug, Serialize)]
pub struct Foreseen {
    /// Its name.
    pub strategy: String,
    /// What it will do, and when.
    pub timeline: Timeline,
    /// What will not work as it is meant.
    pub findings: Vec<Said>,
}

/// A finding, in words as well.
#[derive(Debug, Serialize)]
pub struct Said {
    #[serde(flatten)]
    finding: Finding,
    /// How bad it is.
    pub severity: Severity,
    says: String,
    mend: String,
}

/// The strategies of release.toml whose traffic plan is known here.
pub fn strategies(
    config: &Config,
    only: Option<&str>,
) -> Result<Vec<(String, TrafficRouting)>, Error> {
    if let Some(name) = only {
        let (name, strategy) = config.strategy(Some(name))?;
        let routing = forecast::routing(strategy).ok_or_else(|| {
            Error::Usage(format!(
                "strategy {name} is {} of the account, which is not asked here; only CodeDeploy's predefined configurations are known",
                strategy.deployment_config
            ))
        })?;
        return Ok(vec![(name.to_owned(), routing)]);
    }
    let mut known: Vec<(String, TrafficRouting)> = Vec::new();
    for (name, strategy) in &config.strategies {
        // Two strategies may differ in hooks only, which the traffic does not see.
        if let Some(routing) = forecast::routing(strategy)
            && known.iter().all(|(_, other)| *other != routing)
        {
            known.push((name.clone(), routing));
        }
    }
    Ok(known)
}

impl Foreseen {
    /// What a strategy will do under this traffic.
    pub fn of(
        config: &Config,
        strategy: String,
        routing: TrafficRouting,
        traffic: Traffic,
    ) -> Result<Foreseen, Error> {
        let usage = |error: &dyn std::fmt::Display| Error::Usage(error.to_string());
        let plan = forecast::plan(config, routing, traffic);
        let findings = findings(&plan).map_err(|error| usage(&error))?;
        Ok(Foreseen {
            strategy,
            timeline: Timeline::of(&plan).map_err(|error| usage(&error))?,
            findings: findings.into_iter().map(Said::of).collect(),
        })
    }

    /// Adds it to a text.
    pub fn tell(&self, text: &mut String) {
        let Timeline {
            routing,
            full_at,
            traffic_at,
            done_at,
            client_timeout,
            ..
        } = &self.timeline;
        let _ = writeln!(
            text,
            "\n{}: {}; first users after {}, all traffic after {}, done after {}; give a client {}",
            self.strategy,
            plan(routing),
            clock(*traffic_at),
            clock(*full_at),
            clock(*done_at),
            clock(*client_timeout),
        );
        for (names, reach) in reaches(&self.timeline.alarms) {
            let _ = writeln!(text, "  {}: {reach}", names.join(", "));
        }
        for said in &self.findings {
            said.tell(text);
        }
    }
}

/// What the alarms can do, those that can do the same together.
fn reaches(alarms: &[AlarmOutlook]) -> Vec<(Vec<&str>, String)> {
    let mut reaches: Vec<(Vec<&str>, String)> = Vec::new();
    for alarm in alarms {
        let words = match (&alarm.earliest, &alarm.latest) {
            (None, _) => "cannot stop even a dead version".to_owned(),
            (Some(earliest), latest) => format!(
                "stops a dead version {} after its first user at the earliest, {}",
                reach(earliest),
                latest.as_ref().map_or_else(
                    || "perhaps never".to_owned(),
                    |latest| format!("{} at the latest", reach(latest))
                )
            ),
        };
        match reaches.iter_mut().find(|(_, other)| *other == words) {
            Some((names, _)) => names.push(&alarm.name),
            None => reaches.push((vec![&alarm.name], words)),
        }
    }
    reaches
}

fn reach(reach: &Reach) -> String {
    let after = clock(reach.after);
    match reach.met {
        Some(met) => format!("{after} ({} requests met it)", short(met.requests)),
        None => after,
    }
}

impl Said {
    /// Adds it to a text.
    pub fn tell(&self, text: &mut String) {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        let _ = writeln!(text, "  {word}: {}; {}", self.says, self.mend);
    }
}

impl Said {
    fn of(finding: Finding) -> Said {
        Said {
            severity: finding.severity(),
            says: finding.to_string(),
            mend: finding.mend(),
            finding,
        }
    }
}

/// Takes out what every strategy's findings hold.
pub fn take_common(foreseen: &mut [Foreseen]) -> Vec<Said> {
    let Some((first, others)) = foreseen.split_first_mut() else {
        return Vec::new();
    };
    let has = |of: &Foreseen, said: &Said| of.findings.iter().any(|other| other.says == said.says);
    let (common, own) = std::mem::take(&mut first.findings)
        .into_iter()
        .partition(|said| others.iter().all(|other| has(other, said)));
    first.findings = own;
    let common: Vec<Said> = common;
    for other in others {
        other
            .findings
            .retain(|said| common.iter().all(|one| one.says != said.says));
    }
    common
}

/// Three digits at most where there is a fraction.
pub fn short(number: f64) -> String {
    if number >= 10.0 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else {
        format!("{number:.1}")
    }
}

/// A share in percent.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let text = match percent {
        0.0 => "0".to_owned(),
        _ if percent < 0.01 => "< 0.01".to_owned(),
        _ if percent < 1.0 => format!("{percent:.2}"),
        _ if percent.fract().abs() < 1e-9 || percent >= 99.95 => format!("{percent:.0}"),
        _ => format!("{percent:.1}"),
    };
    format!("{text} %")
}
