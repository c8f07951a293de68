//! The evidence over time: what the judge saw, and when it was enough.

use serde::{Deserialize, Serialize};

use super::svg::{Anchor, Axis, Frame, Sheet, time_axis};
use crate::judge::{Config, Decision, LogE, needed};

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// `ln E` after every batch, in the order of time.
    pub moments: &'a [Moment],
    /// The judge's configuration: the thresholds.
    pub config: &'a Config,
    /// Green's share of the traffic in percent, each with its start in seconds.
    pub weights: &'a [(f64, f64)],
    /// The decision, if there was one.
    pub verdict: Option<Marked>,
}

/// One batch's end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since green's first production request.
    pub at: f64,
    /// What the processes were then.
    pub log_e: LogE,
}

/// When something was decided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marked {
    /// Seconds since green's first production request.
    pub at: f64,
    /// What.
    pub decision: Decision,
}

/// Below this, evidence is drawn as this: a power of ten.
const FLOOR: f64 = -2.0;

/// Time to the right, powers of ten of evidence upwards: a line and a threshold for each process
/// that can abort, and green's weight behind it all.
pub fn evidence(evidence: &Evidence<'_>) -> String {
    const HEIGHT: f64 = 400.0;
    let processes = processes(evidence.config);
    let tens = |ln: f64| (ln / std::f64::consts::LN_10).max(FLOOR);
    let values = |of: fn(&LogE) -> Option<f64>| {
        let moments = evidence.moments.iter();
        moments.filter_map(move |moment| Some((moment.at, tens(of(&moment.log_e)?))))
    };
    let mut highest: f64 = 3.0;
    for (_, of, alpha) in &processes {
        highest = values(*of).map(|(_, value)| value).fold(highest, f64::max);
        highest = highest.max(tens(needed(*alpha)) + 0.5);
    }
    let until = evidence.moments.last().map_or(1.0, |moment| moment.at);
    let until = evidence.verdict.map_or(until, |mark| until.max(mark.at));
    let (unit, x_name) = time_axis(until);
    let frame = Frame {
        x: Axis::linear((0.0, until / unit), (Frame::LEFT, Frame::RIGHT)),
        y: Axis::linear((FLOOR, highest.ceil()), (Frame::bottom(HEIGHT), Frame::TOP)),
    };
    let mut sheet = Sheet::new(HEIGHT, "Evidence against green", &description(evidence));
    shade(&mut sheet, &frame, evidence, (until, unit));
    frame.draw(&mut sheet, x_name, "evidence E, in powers of ten");
    let legend: Vec<_> = processes
        .iter()
        .enumerate()
        .map(|(i, (name, ..))| (i, *name))
        .collect();
    sheet.legend(&legend);
    for (series, (_, of, alpha)) in processes.iter().enumerate() {
        let threshold = frame.y.place(tens(needed(*alpha)));
        sheet.line(
            &format!("limit s{series}"),
            (Frame::LEFT, threshold),
            (Frame::RIGHT, threshold),
        );
        let origin = std::iter::once((0.0, 0.0));
        let points: Vec<_> = origin
            .chain(values(*of))
            .map(|(at, value)| (frame.x.place(at / unit), frame.y.place(value)))
            .collect();
        sheet.path(&format!("line s{series}"), &points, false);
        for point in points.iter().skip(1) {
            sheet.symbol(series, *point, 2.5);
        }
    }
    if let Some(Marked { at, decision }) = evidence.verdict {
        let x = frame.x.place(at / unit);
        sheet.line("mark", (x, Frame::TOP), (x, Frame::bottom(HEIGHT)));
        let word = word(decision);
        let (anchor, shift) = if x > f64::midpoint(Frame::LEFT, Frame::RIGHT) {
            (Anchor::End, -6.0)
        } else {
            (Anchor::Start, 6.0)
        };
        sheet.text((x + shift, Frame::TOP + 12.0), anchor, "title", word);
    }
    sheet.finish()
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Abort => "ABORT",
        Decision::Pass => "PASS",
        Decision::Continue => "no decision",
    }
}

type Process = (&'static str, fn(&LogE) -> Option<f64>, f64);

/// The processes that can abort, with their error probabilities.
fn processes(config: &Config) -> Vec<Process> {
    let all: [(bool, Process); 3] = [
        (
            true,
            (
                "green is worse than blue",
                |e| Some(e.relative),
                config.alpha.relative,
            ),
        ),
        (
            config.objective.is_some(),
            (
                "green misses its objective",
                |e| e.objective,
                config.alpha.objective,
            ),
        ),
        (
            config.latency.is_some(),
            (
                "green is slower than blue",
                |e| e.latency,
                config.alpha.latency,
            ),
        ),
    ];
    all.into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, process)| process)
        .collect()
}

/// Green's weight, from the bottom: all of the height is all of the traffic.
fn shade(sheet: &mut Sheet, frame: &Frame, evidence: &Evidence<'_>, (until, unit): (f64, f64)) {
    let bottom = Frame::bottom(sheet.height());
    let ends = evidence.weights.iter().skip(1).map(|(at, _)| *at);
    for ((start, percent), end) in evidence.weights.iter().zip(ends.chain([until])) {
        let (left, right) = (frame.x.place(start / unit), frame.x.place(end / unit));
        if right <= left || *start > until {
            continue;
        }
        let top = bottom - (bottom - Frame::TOP) * percent.clamp(0.0, 100.0) / 100.0;
        sheet.path(
            "shade",
            &[(left, bottom), (left, top), (right, top), (right, bottom)],
            true,
        );
        let label = format!("{percent} % on green");
        sheet.text((left + 4.0, bottom - 6.0), Anchor::Start, "soft", &label);
    }
}

fn description(evidence: &Evidence<'_>) -> String {
    let batches = evidence.moments.len();
    match evidence.verdict {
        Some(Marked { at, decision }) => format!(
            "Evidence after each of {batches} batches; {} after {at:.0} seconds. Dashed: what an abort takes. Shaded: green's share of the traffic.",
            word(decision)
        ),
        None => format!(
            "Evidence after each of {batches} batches; no decision. Dashed: what an abort takes. Shaded: green's share of the traffic."
        ),
    }
}
