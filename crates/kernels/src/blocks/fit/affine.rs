//! Fitting `x ≈ scale · level − min` with levels `0..=top` and `min ≥ 0`.
//!
//! For levels `l` and weights `w`, the weighted least squares line has
//!
//! ```text
//! D = Σw · Σwl² − (Σwl)²,   scale = (Σw · Σwlx − Σwx · Σwl)/D,   −min = (Σwl² · Σwx − Σwl · Σwlx)/D
//! ```
//!
//! and where that asks for a negative `min`, `min = 0` and `scale = Σwlx/Σwl²`. Candidate levels are the numbers
//! rounded at `steps + 1` inverse scales around `top/(max − min)`.

use crate::blocks::round::nearest;

/// A line through a group.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::blocks) struct Affine {
    /// What a level is worth; never negative for finite numbers.
    pub scale: f32,
    /// What is subtracted; never negative for finite numbers.
    pub min: f32,
}

/// What a candidate is judged by.
#[derive(Clone, Copy, Debug)]
pub(in crate::blocks) enum Error {
    /// The weighted sum of magnitudes.
    Absolute,
    /// The weighted sum of squares.
    Squared,
}

impl Error {
    #[inline(always)]
    fn of(self, difference: f32) -> f32 {
        match self {
            Error::Absolute => difference.abs(),
            Error::Squared => difference * difference,
        }
    }
}

/// The candidates: inverse scales `(first + step · i + top)/(max − min)` for `i` in `0..=steps`.
#[derive(Clone, Copy, Debug)]
pub(in crate::blocks) struct Search {
    /// The highest level.
    pub top: u8,
    /// Where the candidates begin, in levels.
    pub first: f32,
    /// How far apart they are.
    pub step: f32,
    /// The last one.
    pub steps: u8,
    /// What they are judged by.
    pub error: Error,
}

/// The best line found and its levels.
///
/// Equal numbers at or below 0 need no levels: scale 0 and their negation as minimum.
#[inline(always)]
pub(in crate::blocks) fn fit<const G: usize>(
    x: &[f32; G],
    weights: &[f32; G],
    search: &Search,
    levels: &mut [u8; G],
) -> Affine {
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
    for (&x, &w) in x.iter().zip(weights).skip(1) {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        sum_w += w;
        sum_x += w * x;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max == min {
        *levels = [0; G];
        return Affine { scale: 0.0, min: -min };
    }
    // Moves with the best line below; the candidates are cut from the range of the numbers.
    let (low, range, top) = (min, max - min, f32::from(search.top));
    let mut best = {
        let inverse = top / range;
        *levels = quantised(x, inverse, low, search.top);
        Affine { scale: 1.0 / inverse, min: -low }
    };
    let mut least = error(x, weights, levels, best, search.error);
    for i in 0..=search.steps {
        let low = -best.min;
        let inverse = (search.first + search.step * f32::from(i) + top) / (max - low);
        let candidate = quantised(x, inverse, low, search.top);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((&x, &w), &l) in x.iter().zip(weights).zip(&candidate) {
            let l = f32::from(l);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut line = Affine {
                scale: (sum_w * sum_xl - sum_x * sum_l) / determinant,
                min: -((sum_l2 * sum_x - sum_l * sum_xl) / determinant),
            };
            if line.min < 0.0 {
                line = Affine { scale: sum_xl / sum_l2, min: -0.0 };
            }
            let found = error(x, weights, &candidate, line, search.error);
            if found < least {
                (*levels, least, best) = (candidate, found, line);
            }
        }
    }
    best
}

/// The levels of `x` on a line whose scale and minimum are settled; a scale of 0 leaves `levels` as they are.
#[inline(always)]
pub(in crate::blocks) fn requantise<const G: usize>(
    x: &[f32; G],
    line: Affine,
    top: u8,
    levels: &mut [u8; G],
) {
    if line.scale == 0.0 {
        return;
    }
    for (level, x) in levels.iter_mut().zip(x) {
        *level = nearest((x + line.min) / line.scale).clamp(0, i32::from(top)) as u8;
    }
}

#[inline(always)]
fn quantised<const G: usize>(x: &[f32; G], inverse: f32, low: f32, top: u8) -> [u8; G] {
    let mut levels = [0; G];
    for (level, x) in levels.iter_mut().zip(x) {
        *level = nearest(inverse * (x - low)).clamp(0, i32::from(top)) as u8;
    }
    levels
}

/// The weighted error of a line, summed in order.
#[inline(always)]
fn error<const G: usize>(
    x: &[f32; G],
    weights: &[f32; G],
    levels: &[u8; G],
    line: Affine,
    error: Error,
) -> f32 {
    let mut sum = 0.0;
    for ((x, w), &l) in x.iter().zip(weights).zip(levels) {
        sum += w * error.of(line.scale * f32::from(l) - line.min - x);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEARCH: Search = Search { top: 15, first: -1.0, step: 0.1, steps: 20, error: Error::Squared };

    #[test]
    fn a_line_through_levels_is_found() {
        let x: [f32; 32] = std::array::from_fn(|i| 0.25 * (i * 7 % 16) as f32 - 1.5);
        let mut levels = [9; 32];
        let line = fit(&x, &[1.0; 32], &SEARCH, &mut levels);
        assert!((line.scale - 0.25).abs() < 1e-6 && (line.min - 1.5).abs() < 1e-6, "{line:?}");
        assert_eq!(levels, std::array::from_fn(|i| (i * 7 % 16) as u8));
    }

    #[test]
    fn the_search_beats_the_range_where_one_number_sticks_out() {
        let x: [f32; 32] = std::array::from_fn(|i| if i == 3 { 2.0 } else { ((i * 7 % 32) as f32).sin() });
        let weights = [1.0; 32];
        let mut levels = [0; 32];
        let line = fit(&x, &weights, &SEARCH, &mut levels);
        let (low, range) = (-0.999_990_2, 2.999_990_2);
        let plain = Affine { scale: range / 15.0, min: -low };
        let naive = error(&x, &weights, &quantised(&x, 15.0 / range, low, 15), plain, Error::Squared);
        let found = error(&x, &weights, &levels, line, Error::Squared);
        assert!(found < naive, "{found} is not below {naive}");
    }

    #[test]
    fn numbers_above_zero_have_no_minimum_and_equal_ones_below_have_no_scale() {
        let mut levels = [7; 16];
        let above = fit(&[3.0; 16], &[1.0; 16], &SEARCH, &mut levels);
        assert_eq!((above.min, levels), (0.0, [15; 16]));
        let below = fit(&[-3.0; 16], &[1.0; 16], &SEARCH, &mut levels);
        assert_eq!((below.scale, below.min, levels), (0.0, 3.0, [0; 16]));
    }

    #[test]
    fn a_scale_of_zero_leaves_the_levels() {
        let mut levels = [7; 16];
        requantise(&[1.0; 16], Affine { scale: 0.0, min: 1.0 }, 15, &mut levels);
        assert_eq!(levels, [7; 16]);
    }
}
