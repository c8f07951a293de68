//! What all pictures are drawn with: a sheet, axes, and one style for light and dark.

use std::fmt::Write as _;

/// A sheet's width in pixels.
pub(super) const WIDTH: f64 = 760.0;

/// Classes instead of colours, so that a dark ground changes them all. The colours of the series
/// are told apart by the colour-blind, and each has its own dashes.
const STYLE: &str = "\
.rp{font:12px system-ui,sans-serif}\
.rp text{fill:#1f2328}.rp .soft{fill:#59636e}.rp .title{font-size:15px;font-weight:600}\
.rp .paper{fill:#fff}.rp .grid{stroke:#d1d9e0;stroke-width:1}.rp .axis{stroke:#59636e;stroke-width:1}\
.rp .shade{fill:#d1d9e0;fill-opacity:.5}\
.rp .line{fill:none;stroke-width:2;stroke-linejoin:round}.rp .limit{fill:none;stroke-width:1.5;stroke-dasharray:6 4}\
.rp .mark{stroke:#1f2328;stroke-width:1.5;fill:none}\
.rp .s0{stroke:#0072b2}.rp .s1{stroke:#b34700}.rp .s2{stroke:#7a3e9d}.rp .s3{stroke:#00785a}\
.rp .f0{fill:#0072b2}.rp .f1{fill:#b34700}.rp .f2{fill:#7a3e9d}.rp .f3{fill:#00785a}\
.rp .band{fill-opacity:.18;stroke:none}\
@media(prefers-color-scheme:dark){\
.rp text{fill:#e6edf3}.rp .soft{fill:#9198a1}.rp .paper{fill:#0d1117}\
.rp .grid{stroke:#2f363d}.rp .axis{stroke:#9198a1}.rp .shade{fill:#2f363d}.rp .mark{stroke:#e6edf3}\
.rp .s0{stroke:#58b4f0}.rp .s1{stroke:#ff9a4d}.rp .s2{stroke:#c99aee}.rp .s3{stroke:#3fcf9f}\
.rp .f0{fill:#58b4f0}.rp .f1{fill:#ff9a4d}.rp .f2{fill:#c99aee}.rp .f3{fill:#3fcf9f}}";

/// How many series have colours of their own.
pub(super) const SERIES: usize = 4;

/// A picture in the making.
pub(super) struct Sheet {
    svg: String,
    height: f64,
}

/// Where a text is fixed.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    const fn as_str(self) -> &'static str {
        match self {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        }
    }
}

/// A coordinate: a tenth of a pixel is enough, and no number has two spellings.
pub(super) fn px(value: f64) -> String {
    let tenths = (value * 10.0).round() / 10.0;
    // Minus zero is zero.
    format!("{}", tenths + 0.0)
}

pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // What XML 1.0 cannot hold at all.
            c if c.is_control() && !matches!(c, '\n' | '\t') => {
                escaped.push(char::REPLACEMENT_CHARACTER);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

impl Sheet {
    /// A sheet with a title, which it shows, and a description, which it does not.
    pub fn new(height: f64, title: &str, description: &str) -> Sheet {
        let mut sheet = Sheet {
            svg: String::new(),
            height,
        };
        let (title, description) = (escaped(title), escaped(description));
        let (w, h) = (px(WIDTH), px(height));
        sheet.put(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"rp\" role=\"img\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\">"
        ));
        sheet.put(&format!("<title>{title}</title>"));
        sheet.put(&format!("<desc>{description}</desc>"));
        sheet.put(&format!("<style>{STYLE}</style>"));
        sheet.put(&format!(
            "<rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>"
        ));
        sheet.put(&format!(
            "<text class=\"title\" x=\"16\" y=\"24\">{title}</text>"
        ));
        sheet
    }

    /// A line of SVG as it is.
    pub fn put(&mut self, svg: &str) {
        self.svg.push_str(svg);
        self.svg.push('\n');
    }

    pub fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let (x, y, text) = (px(x), px(y), escaped(text));
        let anchor = anchor.as_str();
        let class = if class.is_empty() {
            String::new()
        } else {
            format!(" class=\"{class}\"")
        };
        self.put(&format!(
            "<text{class} x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        self.path(class, &[(x1, y1), (x2, y2)], false);
    }

    /// A line through points, or the area within them.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)], closed: bool) {
        let mut d = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(d, "{letter}{} {}", px(*x), px(*y));
        }
        if closed {
            d.push('Z');
        }
        self.put(&format!("<path class=\"{class}\" d=\"{d}\"/>"));
    }

    /// A mark of a series: its shape, like its colour, is its own.
    pub fn symbol(&mut self, series: usize, (x, y): (f64, f64), size: f64) {
        let class = format!("f{}", series % SERIES);
        match series % SERIES {
            0 => self.put(&format!(
                "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"/>",
                px(x),
                px(y),
                px(size)
            )),
            1 => self.path(
                &class,
                &[(x - size, y + size), (x, y - size), (x + size, y + size)],
                true,
            ),
            2 => self.path(
                &class,
                &[
                    (x - size, y - size),
                    (x + size, y - size),
                    (x + size, y + size),
                    (x - size, y + size),
                ],
                true,
            ),
            _ => self.path(
                &class,
                &[(x - size, y), (x, y - size), (x + size, y), (x, y + size)],
                true,
            ),
        }
    }

    /// The names of the series in a row under the title.
    pub fn legend(&mut self, entries: &[(usize, &str)]) {
        let mut x = 22.0;
        for (series, name) in entries {
            self.symbol(*series, (x, 42.0), 4.0);
            self.text((x + 10.0, 46.0), Anchor::Start, "soft", name);
            let letters = u32::try_from(name.chars().count()).unwrap_or(0);
            x += 34.0 + 6.4 * f64::from(letters);
        }
    }

    pub fn finish(mut self) -> String {
        self.svg.push_str("</svg>\n");
        self.svg
    }

    pub fn height(&self) -> f64 {
        self.height
    }
}

/// Values on a line of pixels.
pub(super) struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Axis {
    /// From `low` at pixel `from` to `high` at pixel `to`.
    pub fn linear((low, high): (f64, f64), (from, to): (f64, f64)) -> Axis {
        let high = if high > low { high } else { low + 1.0 };
        Axis {
            low,
            high,
            from,
            to,
            logarithmic: false,
        }
    }

    /// The same, evenly spaced by powers of ten; `low` is positive.
    pub fn logarithmic((low, high): (f64, f64), pixels: (f64, f64)) -> Axis {
        let low = low.max(1e-9).log10();
        let high = high.max(1e-9).log10();
        Axis {
            logarithmic: true,
            ..Axis::linear((low, high), pixels)
        }
    }

    /// Where a value stands; beyond the ends, at the end.
    pub fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic {
            value.max(1e-9).log10()
        } else {
            value
        };
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }

    /// Values worth a line, and how they are written.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        if self.logarithmic {
            // Few decades have room for more than their powers.
            let within: &[f64] = if self.high - self.low > 2.5 {
                &[1.0]
            } else {
                &[1.0, 2.0, 5.0]
            };
            let first = self.low.floor();
            let decades = (0..32_u8).map(|i| first + f64::from(i));
            return decades
                .flat_map(|decade| {
                    let unit = 10_f64.powf(decade);
                    within.iter().map(move |times| (times * unit, decade))
                })
                .filter(|(value, _)| {
                    let place = value.log10();
                    place >= self.low - 1e-9 && place <= self.high + 1e-9
                })
                .map(|(value, decade)| (value, plain(value, decade.min(0.0))))
                .collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let magnitude = rough.log10().floor();
        let unit = 10_f64.powf(magnitude);
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|times| times * unit)
            .find(|step| *step >= rough)
            .unwrap_or(unit);
        let first = (self.low / step - 1e-9).ceil();
        (0..32_u8)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|value| *value <= self.high + step * 1e-9)
            .map(|value| (value, plain(value, step.log10().floor().min(0.0))))
            .collect()
    }
}

/// A number with as many decimals as a step of this power of ten needs.
fn plain(value: f64, power: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few digits"
    )]
    let decimals = (-power).clamp(0.0, 9.0) as usize;
    let text = format!("{:.decimals$}", value + 0.0);
    if text
        .trim_start_matches('-')
        .chars()
        .all(|c| matches!(c, '0' | '.'))
    {
        "0".to_owned()
    } else {
        text
    }
}

/// A frame with both axes' lines, numbers and names.
pub(super) struct Frame {
    pub x: Axis,
    pub y: Axis,
}

impl Frame {
    /// Where the drawing is, within a sheet of this height.
    pub const LEFT: f64 = 64.0;
    pub const RIGHT: f64 = WIDTH - 56.0;
    pub const TOP: f64 = 60.0;

    pub fn bottom(height: f64) -> f64 {
        height - 48.0
    }

    /// Draws the grid, the numbers and the names, and opens the part that is clipped to it.
    pub fn draw(&self, sheet: &mut Sheet, x_name: &str, y_name: &str) {
        let bottom = Frame::bottom(sheet.height());
        for (value, text) in self.y.ticks() {
            let y = self.y.place(value);
            sheet.line("grid", (Frame::LEFT, y), (Frame::RIGHT, y));
            sheet.text((Frame::LEFT - 8.0, y + 4.0), Anchor::End, "soft", &text);
        }
        for (value, text) in self.x.ticks() {
            let x = self.x.place(value);
            sheet.line("axis", (x, bottom), (x, bottom + 5.0));
            sheet.text((x, bottom + 19.0), Anchor::Middle, "soft", &text);
        }
        sheet.line("axis", (Frame::LEFT, bottom), (Frame::RIGHT, bottom));
        let middle = f64::midpoint(Frame::LEFT, Frame::RIGHT);
        sheet.text((middle, bottom + 38.0), Anchor::Middle, "", x_name);
        let y = f64::midpoint(Frame::TOP, bottom);
        sheet.put(&format!(
            "<text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            px(y),
            escaped(y_name)
        ));
    }
}

/// Seconds on an axis: in minutes from five minutes on.
pub(super) fn time_axis(until: f64) -> (f64, &'static str) {
    if until > 300.0 {
        (60.0, "minutes since green's first request")
    } else {
        (1.0, "seconds since green's first request")
    }
}
