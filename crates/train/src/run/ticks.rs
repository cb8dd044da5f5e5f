//! Where the marks of an axis stand, and what they say.
//!
//! Steps of 1, 2 or 5 times a power of ten, the classic choice (Heckbert 1990, "Nice numbers for graph labels").

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// Round numbers in `[low, high]`, about `wanted` of them.
pub(super) fn linear(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return vec![Tick { at: low, label: label(low, 0) }];
    }
    let wanted = wanted.max(1) as f64;
    let unit = 10f64.powf((span / wanted).log10().floor());
    let misses = |step: &f64| (span / step - wanted).abs();
    let steps = [1.0, 2.0, 5.0, 10.0].map(|m| m * unit);
    let step = steps.into_iter().min_by(|a, b| misses(a).total_cmp(&misses(b))).unwrap_or(unit);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).map(|at| Tick { at, label: label(at, decimals) }).collect()
}

/// 1, 2 and 5 times powers of ten in `[low, high]`; round numbers in between where those are fewer than three.
pub(super) fn logarithmic(low: f64, high: f64, wanted: usize) -> Vec<Tick> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    // Many decades leave room for powers of ten only, and then for some of them.
    let decades = (last - first).max(1) as usize;
    let factors: &[f64] = if decades * 3 <= wanted * 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let every = decades.div_ceil(wanted.max(1)).max(1) as i32;
    let ticks: Vec<Tick> = (first..=last)
        .filter(|power| power.rem_euclid(every) == 0)
        .flat_map(|power| factors.iter().map(move |f| (power, f * 10f64.powi(power))))
        .filter(|(_, at)| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(at))
        .map(|(power, at)| Tick { at, label: label(at, (-power).max(0) as usize) })
        .collect();
    if ticks.len() >= 3 { ticks } else { linear(low, high, wanted) }
}

/// A number with so many decimals; thousands are set apart by thin spaces, large or tiny ones written with a power.
fn label(value: f64, decimals: usize) -> String {
    if decimals > 6 || value.abs() >= 1e9 {
        return format!("{value:e}");
    }
    let text = format!("{value:.decimals$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("−", rest));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && whole.len() >= 5 && (whole.len() - i) % 3 == 0 {
            grouped.push('\u{2009}');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<&str> {
        ticks.iter().map(|t| t.label.as_str()).collect()
    }

    #[test]
    fn linear_marks_are_round_and_inside() {
        let check = |low, high, wanted: &[&str]| assert_eq!(labels(&linear(low, high, 5)), wanted);
        check(0.0, 2000.0, &["0", "500", "1000", "1500", "2000"]);
        check(1.87, 4.21, &["2.0", "2.5", "3.0", "3.5", "4.0"]);
        check(
            0.0,
            50_000.0,
            &["0", "10\u{2009}000", "20\u{2009}000", "30\u{2009}000", "40\u{2009}000", "50\u{2009}000"],
        );
        check(-1.0, 1.0, &["−1.0", "−0.5", "0.0", "0.5", "1.0"]);
        check(3.0, 3.0, &["3"]);
    }

    #[test]
    fn logarithmic_marks_follow_the_decades() {
        let check = |low, high, wanted: &[&str]| assert_eq!(labels(&logarithmic(low, high, 6)), wanted);
        check(0.8, 11.0, &["1", "2", "5", "10"]);
        check(0.001, 1000.0, &["0.001", "0.01", "0.1", "1", "10", "100", "1000"]);
        check(3.1, 4.4, &["3.2", "3.4", "3.6", "3.8", "4.0", "4.2", "4.4"]);
    }
}
