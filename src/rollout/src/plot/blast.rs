//! The blast radius: how many requests a bad version fails, under each strategy.

use super::svg::{Anchor, Axis, Frame, SERIES, Sheet, WIDTH};
use crate::simulate::Row;

/// The height of a row, in pixels.
const ROW: f64 = 26.0;
/// Between two strategies.
const GAP: f64 = 14.0;
/// Where the distributions begin: left of it stand the names.
const LEFT: f64 = 190.0;
const RIGHT: f64 = WIDTH - 130.0;

/// Failed requests to the right, on a logarithmic axis; a distribution for each strategy and
/// watch, its median as a line and the 95 % quantile as a triangle. No failure at all stands at
/// the left end.
pub fn blast_radius(rows: &[Row]) -> String {
    let watches = watches(rows);
    let groups = rows.chunk_by(|a, b| a.strategy == b.strategy);
    let strategies = groups.clone().count();
    let tall = |n: usize, each: f64| f64::from(u32::try_from(n).unwrap_or(u32::MAX)) * each;
    let height = Frame::TOP + tall(rows.len(), ROW) + tall(strategies, GAP) + 48.0;
    let highest = rows
        .iter()
        .flat_map(|row| row.distribution.iter().map(|bin| bin.to))
        .fold(10.0, f64::max);
    let x = Axis::logarithmic((1.0, highest), (LEFT, RIGHT));
    let mut sheet = Sheet::new(
        height,
        "Failed requests of a bad version",
        &description(rows),
    );
    let bottom = Frame::bottom(height);
    for (value, text) in x.ticks() {
        let at = x.place(value);
        sheet.line("grid", (at, Frame::TOP), (at, bottom));
        sheet.text((at, bottom + 19.0), Anchor::Middle, "soft", &text);
    }
    sheet.text(
        (f64::midpoint(LEFT, RIGHT), bottom + 38.0),
        Anchor::Middle,
        "",
        "failed requests of one release (at the left end: none)",
    );
    sheet.text(
        (WIDTH - 12.0, Frame::TOP - 6.0),
        Anchor::End,
        "soft",
        "median, 95 %",
    );
    let legend: Vec<_> = watches
        .iter()
        .enumerate()
        .map(|(i, name)| (i % SERIES, *name))
        .collect();
    sheet.legend(&legend);
    let mut y = Frame::TOP + GAP / 2.0;
    for group in groups {
        for (index, row) in group.iter().enumerate() {
            let middle = y + ROW / 2.0;
            if index == 0 {
                sheet.text((16.0, middle + 4.0), Anchor::Start, "", &row.strategy);
            }
            let series = watches
                .iter()
                .position(|name| *name == row.watch)
                .unwrap_or(0);
            violin(&mut sheet, &x, row, (series % SERIES, middle));
            y += ROW;
        }
        y += GAP;
    }
    sheet.finish()
}

/// The watches, in the order in which they come first.
pub(super) fn watches(rows: &[Row]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.watch.as_str()) {
            names.push(&row.watch);
        }
    }
    names
}

fn violin(sheet: &mut Sheet, x: &Axis, row: &Row, (series, middle): (usize, f64)) {
    let widest = row
        .distribution
        .iter()
        .map(|bin| bin.share)
        .fold(0.0, f64::max);
    let place = |failures: f64| x.place(failures.max(1.0));
    for bin in &row.distribution {
        let half = (ROW / 2.0 - 2.0) * bin.share / widest;
        // The count 0 stands left of the axis.
        let (left, right) = if bin.from < 1.0 {
            (LEFT - 10.0, LEFT - 4.0)
        } else {
            (place(bin.from), place(bin.to))
        };
        sheet.path(
            &format!("f{series}"),
            &[
                (left, middle - half),
                (right, middle - half),
                (right, middle + half),
                (left, middle + half),
            ],
            true,
        );
    }
    let failures = &row.bad.failures;
    let at = |failures: f64| {
        if failures < 1.0 {
            LEFT - 7.0
        } else {
            place(failures)
        }
    };
    let (median, q95) = (at(failures.q50), at(failures.q95));
    let half = ROW / 2.0 - 1.0;
    sheet.line("mark", (median, middle - half), (median, middle + half));
    sheet.path(
        "mark",
        &[
            (q95, middle + half - 6.0),
            (q95 - 4.0, middle + half),
            (q95 + 4.0, middle + half),
        ],
        true,
    );
    let label = format!("{:.0}, {:.0}", failures.q50, failures.q95);
    sheet.text((WIDTH - 12.0, middle + 4.0), Anchor::End, "soft", &label);
}

fn description(rows: &[Row]) -> String {
    rows.iter()
        .map(|row| {
            format!(
                "{}, {}: median {:.0}, 95 % {:.0}.",
                row.strategy, row.watch, row.bad.failures.q50, row.bad.failures.q95
            )
        })
        .collect::<Vec<_>>()
        .join(" ")
}
