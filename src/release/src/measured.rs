//! What a record says was measured, for comparison with what was predicted.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use rollout::Timestamp;
use rollout::event::{Entry, Event};
use rollout::judge::{Config, Decision, LogE, Total};
use rollout::plot::{self, Evidence, Marked, Moment, Rates, Served};
use rollout::timeline::Traffic;
use serde::Serialize;

use crate::error::Error;
use crate::report::clock;

/// A release that happened, as its judge saw it.
#[derive(Debug, Default, Serialize)]
pub struct Measured {
    /// Requests a second of both sides while both were judged.
    pub rate: f64,
    /// Blue's requests since green had its first users.
    pub baseline: Total,
    /// Green's.
    pub candidate: Total,
    /// Requests that users lost in the whole run, where somebody counted them.
    pub lost: Option<u64>,
    /// Seconds from green's first users until traffic went back; `None` if it did not.
    pub detection_s: Option<f64>,
    #[serde(skip)]
    batches: Vec<(Moment, Served)>,
    #[serde(skip)]
    weights: Vec<(f64, f64)>,
    #[serde(skip)]
    verdict: Option<Marked>,
}

impl Measured {
    /// Reads a record. What a later version would write there is passed over.
    pub fn read(path: &Path) -> Result<Measured, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read the record", path))?;
        let entries = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        Measured::of(entries).ok_or_else(|| {
            Error::Usage(format!(
                "{} holds no judged release; rehearse with --judge observe or enforce",
                path.display()
            ))
        })
    }

    /// Of a record's entries; `None` if nothing was judged in it.
    pub fn of(entries: impl Iterator<Item = Entry>) -> Option<Measured> {
        let mut measured = Measured::default();
        let mut first: Option<Timestamp> = None;
        let mut last = Timestamp::default();
        let mut before = (Total::default(), Total::default());
        for entry in entries {
            let since = first.map_or(0.0, |first| (entry.at - first).as_secs_f64());
            match &entry.event {
                Event::WeightsChanged { green, .. } => {
                    if *green > 0 {
                        first.get_or_insert(entry.at);
                    } else if first.is_some() {
                        measured.detection_s = Some(since);
                    }
                    measured.weights.push((since, f64::from(*green)));
                }
                Event::Judged {
                    baseline,
                    candidate,
                    log_e,
                    ..
                } => {
                    measured.batch(since, *log_e, (*baseline, *candidate), &mut before);
                    last = entry.at;
                }
                Event::JudgeDecided { decision, .. } if *decision != Decision::Continue => {
                    measured.verdict = Some(Marked {
                        at: since,
                        decision: *decision,
                    });
                }
                Event::Summary { requests, .. } if !requests.is_empty() => {
                    measured.lost = Some(requests.lost());
                }
                _ => {}
            }
        }
        let seconds = (last - first?).as_secs_f64();
        if measured.batches.is_empty() || seconds <= 0.0 {
            return None;
        }
        let requests = measured.baseline.requests + measured.candidate.requests;
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let requests = requests as f64;
        measured.rate = requests / seconds;
        Some(measured)
    }

    fn batch(
        &mut self,
        at: f64,
        log_e: LogE,
        (baseline, candidate): (Total, Total),
        before: &mut (Total, Total),
    ) {
        let since = |now: Total, before: Total| Total {
            requests: now.requests.saturating_sub(before.requests),
            errors: now.errors.saturating_sub(before.errors),
        };
        let served = Served {
            at,
            baseline: since(baseline, before.0),
            candidate: since(candidate, before.1),
        };
        *before = (baseline, candidate);
        (self.baseline, self.candidate) = (baseline, candidate);
        self.batches.push((Moment { at, log_e }, served));
    }

    /// The same as traffic to predict with.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            failing: self.baseline.rate().unwrap_or_default(),
            regression: self.candidate.rate().unwrap_or_default(),
            ..Traffic::of(self.rate)
        }
    }

    /// The evidence over time, as SVG.
    pub fn evidence(&self, config: &Config) -> String {
        let moments: Vec<Moment> = self.batches.iter().map(|(moment, _)| *moment).collect();
        plot::evidence(&Evidence {
            moments: &moments,
            config,
            weights: &self.weights,
            verdict: self.verdict,
        })
    }

    /// The rates over time, as SVG.
    pub fn rates(&self, config: &Config) -> String {
        let batches: Vec<Served> = self.batches.iter().map(|(_, served)| *served).collect();
        plot::rates(&Rates {
            batches: &batches,
            objective: config.objective,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "green failed {} of {}, blue {} of {}",
            self.candidate.errors,
            self.candidate.requests,
            self.baseline.errors,
            self.baseline.requests
        )?;
        if let Some(lost) = self.lost {
            write!(f, "; users lost {lost} requests")?;
        }
        if let Some(seconds) = self.detection_s {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            write!(f, "; traffic was back after {}", clock(time))?;
        }
        Ok(())
    }
}
