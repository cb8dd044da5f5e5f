//! Fitting `x ≈ scale · level` with signed levels `−n..n`, stored as `level + n`.
//!
//! Weights are `w = x²`. For given levels the weighted least squares scale is `Σwxl/Σwl²`, and of two sets of levels
//! the better has the larger `(Σwxl)²/Σwl²`, compared without the division. The number of the largest magnitude
//! starts out as level `−n`, the one that has no counterpart.

use crate::blocks::q4::largest;
use crate::blocks::round::nearest;

/// A group whose numbers are all smaller than this in magnitude counts as zero.
pub(in crate::blocks) const TINY: f32 = 1e-15;

/// Tries 18 scales around the one of the largest magnitude and returns the best, writing its levels.
///
/// A group of zeros gives scale 0 and stored levels 0.
#[inline(always)]
pub(in crate::blocks) fn search<const G: usize>(x: &[f32; G], n: i32, levels: &mut [u8; G]) -> f32 {
    let largest = largest(x);
    if largest.abs() < TINY {
        *levels = [0; G];
        return 0.0;
    }
    let (first, sums) = quantised(x, -(n as f32) / largest, n);
    *levels = stored(&first, n);
    let mut scale = if sums.l2 == 0.0 { 0.0 } else { sums.lx / sums.l2 };
    let mut best = scale * sums.lx;
    for step in (-9..=9).filter(|&step| step != 0) {
        let (candidate, sums) = quantised(x, -(n as f32 + 0.1 * step as f32) / largest, n);
        if sums.l2 > 0.0 && sums.lx * sums.lx > best * sums.l2 {
            *levels = stored(&candidate, n);
            scale = sums.lx / sums.l2;
            best = scale * sums.lx;
        }
    }
    scale
}

/// Starts from the scale of the largest magnitude and moves one level at a time to where it serves the others best,
/// up to five rounds; returns the scale of the final levels.
///
/// A group of zeros gives scale 0 and stored levels 0.
#[inline(always)]
pub(in crate::blocks) fn refine<const G: usize>(x: &[f32; G], n: i32, levels: &mut [u8; G]) -> f32 {
    let largest = largest(x);
    if largest.abs() < TINY {
        *levels = [0; G];
        return 0.0;
    }
    let (mut signed, mut sums) = quantised(x, -(n as f32) / largest, n);
    for _ in 0..5 {
        let mut changed = false;
        for (&x, level) in x.iter().zip(&mut signed) {
            let w = x * x;
            let old = *level as f32;
            // The sums without this number give the scale at which it is rounded anew.
            let mut without = Sums { lx: sums.lx - w * x * old, l2: sums.l2 };
            if without.lx > 0.0 {
                without.l2 -= w * old * old;
                let moved = nearest(x * without.l2 / without.lx).clamp(-n, n - 1);
                if moved != *level {
                    let with = without.and(w, x, moved);
                    if with.l2 > 0.0 && with.lx * with.lx * sums.l2 > sums.lx * sums.lx * with.l2 {
                        (*level, sums, changed) = (moved, with, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    *levels = stored(&signed, n);
    if sums.l2 > 0.0 { sums.lx / sums.l2 } else { 0.0 }
}

/// The stored levels of `x` at a scale that is settled; a scale of 0 leaves `levels` as they are.
#[inline(always)]
pub(in crate::blocks) fn requantise<const G: usize>(x: &[f32; G], scale: f32, n: i32, levels: &mut [u8; G]) {
    if scale == 0.0 {
        return;
    }
    for (level, x) in levels.iter_mut().zip(x) {
        *level = (nearest(x / scale).clamp(-n, n - 1) + n) as u8;
    }
}

/// `Σwxl` and `Σwl²`.
#[derive(Clone, Copy)]
struct Sums {
    lx: f32,
    l2: f32,
}

impl Sums {
    #[inline(always)]
    fn and(self, w: f32, x: f32, level: i32) -> Sums {
        let l = level as f32;
        Sums { lx: self.lx + w * x * l, l2: self.l2 + w * l * l }
    }
}

#[inline(always)]
fn quantised<const G: usize>(x: &[f32; G], inverse: f32, n: i32) -> ([i32; G], Sums) {
    let levels = x.map(|x| nearest(inverse * x).clamp(-n, n - 1));
    let mut sums = Sums { lx: 0.0, l2: 0.0 };
    for (&x, &level) in x.iter().zip(&levels) {
        sums = sums.and(x * x, x, level);
    }
    (levels, sums)
}

#[inline(always)]
fn stored<const G: usize>(signed: &[i32; G], n: i32) -> [u8; G] {
    signed.map(|level| (level + n) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fit's figure of merit, `(Σwxl)²/Σwl²`.
    fn merit(x: &[f32; 16], n: i32, levels: &[u8; 16]) -> f64 {
        let (mut lx, mut l2) = (0.0, 0.0);
        for (&x, &level) in x.iter().zip(levels) {
            let (x, l) = (f64::from(x), f64::from(i32::from(level) - n));
            (lx, l2) = (lx + x * x * x * l, l2 + x * x * l * l);
        }
        lx * lx / l2
    }

    fn group(seed: usize) -> [f32; 16] {
        std::array::from_fn(|i| ((seed * 31 + i * 17) as f32 * 0.37).sin().powi(3))
    }

    #[test]
    fn multiples_of_a_scale_are_found() {
        let x: [f32; 16] = std::array::from_fn(|i| 0.5 * (i as f32 - 8.0));
        for fit in [search, refine] {
            let mut levels = [0; 16];
            let scale = fit(&x, 8, &mut levels);
            assert!((scale - 0.5).abs() < 1e-6, "{scale}");
            assert_eq!(levels, std::array::from_fn(|i| i as u8));
        }
    }

    #[test]
    fn both_ways_are_no_worse_than_the_scale_of_the_largest() {
        let mut better = 0;
        for seed in 0..50 {
            let x = group(seed);
            let naive = merit(&x, 4, &stored(&quantised(&x, -4.0 / largest(&x), 4).0, 4));
            for fit in [search, refine] {
                let mut levels = [0; 16];
                fit(&x, 4, &mut levels);
                let found = merit(&x, 4, &levels);
                assert!(found >= naive * (1.0 - 1e-6), "group {seed}: {found} is below {naive}");
                better += usize::from(found > naive * (1.0 + 1e-6));
            }
        }
        assert!(better > 50, "{better} of 100 fits improved");
    }

    #[test]
    fn a_group_of_nothing_has_scale_zero() {
        for fit in [search, refine] {
            let mut levels = [5; 16];
            assert_eq!(fit(&[0.9e-15; 16], 4, &mut levels), 0.0);
            assert_eq!(levels, [0; 16]);
        }
    }
}
