//! A line chart as SVG text: axes with round numbers, a light grid, lines or dots, a legend.
//!
//! ```
//! use formwork_train::run::chart::{Chart, Mark, Scale, Series};
//! let chart = Chart {
//!     title: "squares".into(),
//!     x: "n".into(),
//!     y: "n²".into(),
//!     scale: Scale::Linear,
//!     series: vec![Series { name: "n²".into(), colour: "#1f6feb", mark: Mark::Line, points: vec![(0.0, 0.0), (3.0, 9.0)] }],
//! };
//! let svg = chart.to_svg();
//! assert_eq!(svg.matches("<polyline").count(), 1);
//! ```

use std::fmt::Write;

use super::ticks::{self, Tick};

/// How values become heights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally high.
    #[default]
    Linear,
    /// Equal ratios are equally high; values of 0 and below are left out.
    Log,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line.
    Line,
    /// A thin, pale line that stays behind the others.
    Faint,
    /// A line with a dot at each point.
    Dots,
    /// A dashed level across the whole width, at the value of the last point.
    Level,
}

/// Points that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the legend; empty for none.
    pub name: String,
    /// A colour of SVG.
    pub colour: &'static str,
    /// How they are drawn.
    pub mark: Mark,
    /// From left to right; what is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

/// A chart to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Under the horizontal axis.
    pub x: String,
    /// Beside the vertical axis.
    pub y: String,
    /// Of the vertical axis.
    pub scale: Scale,
    /// Later ones are drawn over earlier ones.
    pub series: Vec<Series>,
}

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 540.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 928.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 472.0;

/// An axis: the values at its two ends and where those stand.
struct Axis {
    scale: Scale,
    values: [f64; 2],
    pixels: [f64; 2],
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let along = |v: f64| if self.scale == Scale::Log { v.ln() } else { v };
        let [low, high] = self.values.map(along);
        let share = (along(value) - low) / (high - low);
        self.pixels[0] + share * (self.pixels[1] - self.pixels[0])
    }

    fn ticks(&self, wanted: usize) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => ticks::linear(self.values[0], self.values[1], wanted),
            Scale::Log => ticks::logarithmic(self.values[0], self.values[1], wanted),
        }
    }
}

impl Chart {
    /// The chart as an SVG document, 960 by 540.
    pub fn to_svg(&self) -> String {
        let mut svg = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut svg);
        svg
    }

    fn write(&self, svg: &mut String) -> std::fmt::Result {
        let (x, y) = (self.x_axis(), self.y_axis());
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="14" fill="{INK}">"#
        )?;
        writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
        writeln!(
            svg,
            r#"<text x="{LEFT}" y="36" font-size="20" font-weight="600">{}</text>"#,
            escape(&self.title)
        )?;
        write_axes(svg, &x, &y)?;
        let middle = (TOP + BOTTOM) / 2.0;
        writeln!(
            svg,
            r#"<text x="{}" y="{}" text-anchor="middle">{}</text>"#,
            (LEFT + RIGHT) / 2.0,
            BOTTOM + 48.0,
            escape(&self.x)
        )?;
        writeln!(
            svg,
            r#"<text x="24" y="{middle}" text-anchor="middle" transform="rotate(-90 24 {middle})">{}</text>"#,
            escape(&self.y)
        )?;
        for series in &self.series {
            self.write_series(svg, series, &x, &y)?;
        }
        self.write_legend(svg)?;
        writeln!(svg, "</svg>")
    }

    fn write_series(&self, svg: &mut String, series: &Series, x: &Axis, y: &Axis) -> std::fmt::Result {
        let places: Vec<_> = self.drawn(series).map(|(px, py)| (x.place(px), y.place(py))).collect();
        let Some(&(_, level)) = places.last() else { return Ok(()) };
        let colour = series.colour;
        let style = match series.mark {
            Mark::Line | Mark::Dots => r#"stroke-width="2.5""#,
            Mark::Faint => r#"stroke-width="1" stroke-opacity="0.3""#,
            Mark::Level => {
                return writeln!(
                    svg,
                    r#"<path d="M{LEFT} {level:.1}H{RIGHT}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="6 5"/>"#
                );
            }
        };
        write!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" {style} stroke-linejoin="round" stroke-linecap="round" points=""#
        )?;
        for (px, py) in &places {
            write!(svg, "{px:.1},{py:.1} ")?;
        }
        writeln!(svg, r#""/>"#)?;
        // A line of one point is invisible, so it gets its dot in any case; many dots would hide the line.
        if places.len() == 1 || (series.mark == Mark::Dots && places.len() <= 60) {
            for (px, py) in &places {
                writeln!(
                    svg,
                    r##"<circle cx="{px:.1}" cy="{py:.1}" r="4" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>"##
                )?;
            }
        }
        Ok(())
    }

    /// Top right, where falling curves leave room.
    fn write_legend(&self, svg: &mut String) -> std::fmt::Result {
        let named: Vec<_> =
            self.series.iter().filter(|s| !s.name.is_empty() && self.drawn(s).next().is_some()).collect();
        let Some(widest) = named.iter().map(|s| s.name.chars().count()).max() else { return Ok(()) };
        // Wide enough for the average sans-serif glyph at this size.
        let (line, width) = (22.0, 54.0 + 7.9 * widest as f64);
        let (left, top) = (RIGHT - width - 8.0, TOP + 8.0);
        let height = line * named.len() as f64 + 10.0;
        writeln!(
            svg,
            r##"<rect x="{left:.1}" y="{top}" width="{width:.1}" height="{height}" rx="6" fill="#ffffff" fill-opacity="0.88" stroke="{GRID}"/>"##
        )?;
        for (i, series) in named.iter().enumerate() {
            let (at, colour) = (top + 5.0 + line * (i as f64 + 0.5), series.colour);
            let (from, to) = (left + 10.0, left + 34.0);
            let style = match series.mark {
                Mark::Level => r#"stroke-width="1.5" stroke-dasharray="6 5""#,
                Mark::Faint => r#"stroke-width="1.5" stroke-opacity="0.4""#,
                Mark::Line | Mark::Dots => r#"stroke-width="2.5""#,
            };
            writeln!(svg, r#"<path d="M{from:.1} {at}H{to:.1}" stroke="{colour}" {style}/>"#)?;
            if series.mark == Mark::Dots {
                writeln!(
                    svg,
                    r##"<circle cx="{:.1}" cy="{at}" r="4" fill="{colour}" stroke="#ffffff" stroke-width="1.5"/>"##,
                    (from + to) / 2.0
                )?;
            }
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{:.1}">{}</text>"#,
                to + 8.0,
                at + 5.0,
                escape(&series.name)
            )?;
        }
        Ok(())
    }

    fn drawn<'s>(&'s self, series: &'s Series) -> impl Iterator<Item = (f64, f64)> + 's {
        let shown = |y: f64| y.is_finite() && (self.scale == Scale::Linear || y > 0.0);
        series.points.iter().copied().filter(move |&(x, y)| x.is_finite() && shown(y))
    }

    fn x_axis(&self) -> Axis {
        let values = ends(
            self.series.iter().filter(|s| s.mark != Mark::Level).flat_map(|s| self.drawn(s)).map(|p| p.0),
        );
        let values = values.unwrap_or([0.0, 1.0]);
        Axis { scale: Scale::Linear, values, pixels: [LEFT, RIGHT] }
    }

    /// With some air above and below the curves.
    fn y_axis(&self) -> Axis {
        let level = |s: &Series| if s.mark == Mark::Level { s.points.len().saturating_sub(1) } else { 0 };
        let values = ends(self.series.iter().flat_map(|s| self.drawn(s).skip(level(s))).map(|p| p.1));
        let [low, high] = values.unwrap_or(if self.scale == Scale::Log { [1.0, 10.0] } else { [0.0, 1.0] });
        let values = match self.scale {
            Scale::Linear => [low - 0.04 * (high - low), high + 0.04 * (high - low)],
            Scale::Log => [low * (low / high).powf(0.04), high * (high / low).powf(0.04)],
        };
        Axis { scale: self.scale, values, pixels: [BOTTOM, TOP] }
    }
}

const INK: &str = "#24292f";
const GRID: &str = "#d8dee4";

fn write_axes(svg: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
    for Tick { at, label } in y.ticks(6) {
        let at = y.place(at);
        writeln!(
            svg,
            r#"<path d="M{LEFT} {at:.1}H{RIGHT}" stroke="{GRID}"/><text x="{}" y="{:.1}" text-anchor="end">{label}</text>"#,
            LEFT - 10.0,
            at + 5.0
        )?;
    }
    for Tick { at, label } in x.ticks(8) {
        let at = x.place(at);
        writeln!(
            svg,
            r#"<path d="M{at:.1} {BOTTOM}v6" stroke="{INK}"/><text x="{at:.1}" y="{}" text-anchor="middle">{label}</text>"#,
            BOTTOM + 24.0
        )?;
    }
    writeln!(svg, r#"<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="{INK}"/>"#)
}

/// Smallest and largest, a little apart where they are one.
fn ends(values: impl Iterator<Item = f64>) -> Option<[f64; 2]> {
    let [low, high] =
        values.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], v| [low.min(v), high.max(v)]);
    match low.partial_cmp(&high)? {
        std::cmp::Ordering::Less => Some([low, high]),
        std::cmp::Ordering::Equal if low == 0.0 => Some([-0.5, 0.5]),
        std::cmp::Ordering::Equal => Some([low - 0.1 * low.abs(), low + 0.1 * low.abs()]),
        std::cmp::Ordering::Greater => None,
    }
}

/// Text that may hold anything: markup is spelled out, characters that XML forbids are dropped.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: &[(f64, f64)]) -> Chart {
        let series =
            Series { name: "a <b>".into(), colour: "#000000", mark: Mark::Line, points: points.to_vec() };
        Chart { title: "x & y".into(), x: "x".into(), y: "y".into(), scale, series: vec![series] }
    }

    /// The corners of the first line.
    fn corners(svg: &str) -> Vec<(f64, f64)> {
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let number = |t: &str| t.parse::<f64>().unwrap();
        points
            .split_whitespace()
            .map(|p| p.split_once(',').unwrap())
            .map(|(x, y)| (number(x), number(y)))
            .collect()
    }

    #[test]
    fn points_land_inside_the_axes_and_in_proportion() {
        for (scale, values) in [(Scale::Linear, [1.0, 2.0, 3.0]), (Scale::Log, [1.0, 10.0, 100.0])] {
            let svg = chart(scale, &[(0.0, values[0]), (1.0, values[1]), (2.0, values[2])]).to_svg();
            let at = corners(&svg);
            assert!(
                at.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (TOP..=BOTTOM).contains(y)),
                "{at:?}"
            );
            assert_eq!((at[0].0, at[1].0, at[2].0), (LEFT, (LEFT + RIGHT) / 2.0, RIGHT));
            assert!((at[0].1 - at[1].1 - (at[1].1 - at[2].1)).abs() < 0.2 && at[0].1 > at[2].1, "{at:?}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let odd = [(0.0, 1.0), (1.0, f64::NAN), (f64::INFINITY, 2.0), (3.0, -4.0), (4.0, 2.0)];
        assert_eq!(corners(&chart(Scale::Linear, &odd).to_svg()).len(), 3);
        assert_eq!(corners(&chart(Scale::Log, &odd).to_svg()).len(), 2);
        for points in [&[][..], &[(1.0, 1.0)], &[(0.0, 0.0)], &[(0.0, f64::NAN)]] {
            for scale in [Scale::Linear, Scale::Log] {
                let svg = chart(scale, points).to_svg();
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            }
        }
    }

    #[test]
    fn text_cannot_break_the_document() {
        let svg = chart(Scale::Linear, &[(0.0, 1.0)]).to_svg();
        assert!(svg.contains("x &amp; y") && svg.contains("a &lt;b&gt;"));
    }
}
