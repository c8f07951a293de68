//! The trade-off: what a good version waits, against what a bad one costs.

use super::blast::watches;
use super::svg::{Anchor, Axis, Frame, SERIES, Sheet};
use crate::simulate::Row;

/// Time to the full shift of a good version to the right, expected failed requests of a bad one
/// upwards on a logarithmic axis: a column for each strategy and a point for each watch, with
/// the probability that it rolls a good version back.
pub fn trade_off(rows: &[Row]) -> String {
    const HEIGHT: f64 = 460.0;
    let watches = watches(rows);
    let minutes = |row: &Row| row.t_full_s / 60.0;
    let longest = rows.iter().map(minutes).fold(1.0, f64::max);
    let failures = |row: &Row| row.bad.failures.mean.max(0.1);
    let most = rows.iter().map(failures).fold(1.0, f64::max);
    let least = rows.iter().map(failures).fold(most, f64::min);
    let frame = Frame {
        // Room for what stands right of the last points.
        x: Axis::linear((0.0, longest * 1.15), (Frame::LEFT, Frame::RIGHT)),
        y: Axis::logarithmic(
            (least / 1.5, most * 1.5),
            (Frame::bottom(HEIGHT), Frame::TOP + NAMES),
        ),
    };
    let mut sheet = Sheet::new(
        HEIGHT,
        "What caution costs, and what it saves",
        &description(rows),
    );
    frame.draw(
        &mut sheet,
        "minutes until a good version has all traffic",
        "expected failed requests of a bad version",
    );
    let series = |row: &Row| {
        let place = watches.iter().position(|name| *name == row.watch);
        place.unwrap_or(0) % SERIES
    };
    let legend: Vec<_> = watches
        .iter()
        .enumerate()
        .map(|(i, name)| (i % SERIES, *name))
        .collect();
    sheet.legend(&legend);
    let mut columns: Vec<(f64, &str)> = rows
        .iter()
        .map(|row| (frame.x.place(minutes(row)), row.strategy.as_str()))
        .collect();
    columns.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
    columns.dedup();
    name_columns(&mut sheet, &columns);

    let mut points: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                frame.x.place(minutes(row)),
                frame.y.place(failures(row)),
                row,
            )
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    // A label that would lie on the one above it in its column is pushed down.
    let mut above: Option<(f64, f64)> = None;
    for (x, y, row) in points {
        let lowest = above.filter(|(column, _)| (x - column).abs() < 1.0);
        let label = lowest.map_or(y + 4.0, |(_, lowest)| (y + 4.0).max(lowest + LINE));
        if label - y > 6.0 {
            sheet.line("grid", (x, y), (x + 9.0, label - 4.0));
        }
        sheet.symbol(series(row), (x, y), 4.5);
        sheet.text((x + 11.0, label), Anchor::Start, "soft", &chance(row));
        above = Some((x, label));
    }
    sheet.text(
        (Frame::RIGHT + 40.0, 46.0),
        Anchor::End,
        "soft",
        "beside each point: good versions rolled back",
    );
    sheet.finish()
}

/// The height of the columns' names.
const NAMES: f64 = 52.0;

/// A name above each column, in as many lines as they need not to touch.
fn name_columns(sheet: &mut Sheet, columns: &[(f64, &str)]) {
    let mut ends: Vec<f64> = Vec::new();
    for (x, name) in columns {
        let letters = u32::try_from(name.chars().count()).unwrap_or(0);
        let width = 7.0 * f64::from(letters);
        // At the right end a name stands left of its column.
        let from = x.min(Frame::RIGHT + 48.0 - width);
        let line = ends
            .iter()
            .position(|end| *end <= from)
            .unwrap_or(ends.len());
        if line == ends.len() {
            ends.push(0.0);
        }
        ends[line] = from + width + 8.0;
        let line = f64::from(u32::try_from(line).unwrap_or(0));
        let y = Frame::TOP + 10.0 + line * (LINE + 1.0);
        sheet.line("grid", (*x, y + 4.0), (*x, Frame::bottom(sheet.height())));
        sheet.text((from, y), Anchor::Start, "", name);
    }
}

/// A line of text, in pixels.
const LINE: f64 = 13.0;

/// The probability of a false rollback, as far as it is known.
fn chance(row: &Row) -> String {
    let percent = row.good_rollback * 100.0;
    if let (true, Some(runs)) = (row.good_rollback <= 0.0, row.good_runs) {
        format!("none of {runs}")
    } else if percent < 0.1 {
        "< 0.1 %".to_owned()
    } else if percent < 10.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

fn description(rows: &[Row]) -> String {
    rows.iter()
        .map(|row| {
            format!(
                "{}, {}: all traffic after {:.0} min, {:.0} failed requests of a bad version, good versions rolled back: {}.",
                row.strategy,
                row.watch,
                row.t_full_s / 60.0,
                row.bad.failures.mean,
                chance(row)
            )
        })
        .collect::<Vec<_>>()
        .join(" ")
}
