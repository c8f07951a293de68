//! The error rates that the evidence comes from.

use serde::{Deserialize, Serialize};

use super::svg::{Anchor, Axis, Frame, Sheet, time_axis};
use crate::interval::confidence_sequence;
use crate::judge::Total;
use crate::maths::count;

/// What is drawn.
#[derive(Clone, Debug)]
pub struct Rates<'a> {
    /// The batches, in the order of time.
    pub batches: &'a [Served],
    /// The objective, if there is one.
    pub objective: Option<f64>,
}

/// One batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Served {
    /// Its end, in seconds since green's first production request.
    pub at: f64,
    /// Blue's requests; none where nothing is known.
    pub baseline: Total,
    /// Green's requests.
    pub candidate: Total,
}

/// The confidence of the bands.
const ALPHA: f64 = 0.05;

/// Time to the right, the share of failing requests upwards: a dot for each batch and side, the
/// rate of all batches so far as a line with its 95 % confidence sequence as a band, and the
/// objective. The bands are a picture only: they take the rates to be steady.
pub fn rates(rates: &Rates<'_>) -> String {
    const HEIGHT: f64 = 400.0;
    let sides: [fn(&Served) -> Total; 2] = [|served| served.baseline, |served| served.candidate];
    let bands = sides.map(|of| band(rates.batches, of));
    let dots = sides.map(|of| {
        let batches = rates.batches.iter();
        batches
            .filter_map(|served| Some((served.at, of(served).rate()?)))
            .collect::<Vec<_>>()
    });
    // The first bands are as wide as everything; what matters is where they end.
    let highest = dots
        .iter()
        .flatten()
        .map(|(_, rate)| *rate)
        .chain(
            bands
                .iter()
                .filter_map(|band| band.last().map(|point| point.upper)),
        )
        .chain(rates.objective)
        .fold(0.001, f64::max);
    let until = rates.batches.last().map_or(1.0, |served| served.at);
    let (unit, x_name) = time_axis(until);
    let top = (highest * 110.0).min(100.0);
    let frame = Frame {
        x: Axis::linear((0.0, until / unit), (Frame::LEFT, Frame::RIGHT)),
        y: Axis::linear((0.0, top), (Frame::bottom(HEIGHT), Frame::TOP)),
    };
    let mut sheet = Sheet::new(HEIGHT, "Failed requests", &description(rates));
    frame.draw(&mut sheet, x_name, "failed requests, %");
    sheet.legend(&[(0, "blue"), (3, "green")]);
    if let Some(objective) = rates.objective {
        let y = frame.y.place(objective * 100.0);
        sheet.line("limit axis", (Frame::LEFT, y), (Frame::RIGHT, y));
        sheet.text(
            (Frame::RIGHT - 4.0, y - 4.0),
            Anchor::End,
            "soft",
            "objective",
        );
    }
    for (series, (band, dots)) in [0, 3].into_iter().zip(bands.iter().zip(&dots)) {
        let x = |at: f64| frame.x.place(at / unit);
        let y = |rate: f64| frame.y.place(rate * 100.0);
        let upper = band.iter().map(|point| (x(point.at), y(point.upper)));
        let lower = band.iter().rev().map(|point| (x(point.at), y(point.lower)));
        let area: Vec<_> = upper.chain(lower).collect();
        if !area.is_empty() {
            sheet.path(&format!("band f{series}"), &area, true);
        }
        let line: Vec<_> = band
            .iter()
            .map(|point| (x(point.at), y(point.rate)))
            .collect();
        sheet.path(&format!("line s{series}"), &line, false);
        for (at, rate) in dots {
            sheet.symbol(series, (x(*at), y(*rate)), 3.0);
        }
    }
    sheet.finish()
}

/// A rate so far, with its band.
struct Point {
    at: f64,
    rate: f64,
    lower: f64,
    upper: f64,
}

fn band(batches: &[Served], of: impl Fn(&Served) -> Total) -> Vec<Point> {
    let mut sum = Total::default();
    batches
        .iter()
        .filter_map(|served| {
            let Total { requests, errors } = of(served);
            sum.requests = sum.requests.saturating_add(requests);
            sum.errors = sum.errors.saturating_add(errors);
            let interval = confidence_sequence(sum.errors, sum.requests, ALPHA).ok()?;
            (sum.requests > 0).then(|| Point {
                at: served.at,
                rate: count(sum.errors) / count(sum.requests),
                lower: interval.lower,
                upper: interval.upper,
            })
        })
        .collect()
}

fn description(rates: &Rates<'_>) -> String {
    let said = |name: &str, of: fn(&Served) -> Total| {
        let (errors, requests) = rates
            .batches
            .iter()
            .map(of)
            .fold((0, 0), |sum: (u64, u64), t| {
                (
                    sum.0.saturating_add(t.errors),
                    sum.1.saturating_add(t.requests),
                )
            });
        format!("{name} fails {errors} of {requests}")
    };
    format!(
        "{}, {}. Dots: batches. Lines: the rates so far, in their 95 % confidence sequences.",
        said("Green", |served| served.candidate),
        said("blue", |served| served.baseline)
    )
}
