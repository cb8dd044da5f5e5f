//! Layer normalisation and root-mean-square normalisation of rows, with the residual addition before them.
//!
//! `u = x + delta` (or just `x`), `y = (u − mean) · rstd · gain + bias` with `rstd = 1 / sqrt(var(u) + eps)`;
//! RMS norm has neither mean nor bias and `rstd = 1 / sqrt(mean(u²) + eps)`.
//! `x, delta, u, y`: `[r, d]`; `gain, bias`: `[d]`; `mean, rstd`: `[r]`, saved for the adjoint.
//!
//! Ba, Kiros & Hinton 2016, <https://arxiv.org/abs/1607.06450>; Zhang & Sennrich 2019,
//! <https://arxiv.org/abs/1910.07467>. The variance is that of the row around its own mean (two passes over a row
//! that lies in the first cache), not `E[u²] − E[u]²`, which cancels.
//!
//! ```
//! use formwork_kernels::norm::{rms_norm, RmsNorm};
//!
//! let (mut y, mut rstd) = ([0.0_f64; 2], [0.0; 1]);
//! rms_norm(RmsNorm { x: &[3.0, 4.0], add: None, gain: &[1.0, 2.0], eps: 0.0, y: &mut y, rstd: &mut rstd });
//! assert!((rstd[0] - 1.0 / 12.5_f64.sqrt()).abs() < 1e-15);
//! assert!((y[1] - 8.0 / 12.5_f64.sqrt()).abs() < 1e-15);
//! ```

use crate::{
    Element, Write,
    dest::Dest,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    isa::{self, Isa, LANES},
    reduce::{padded, sum_lanes, sum_map},
    scratch,
};

/// The residual addition that comes before a norm: what is normed is `x + delta`, which is stored as well.
#[derive(Debug)]
pub struct ResidualAdd<'a, T> {
    /// What is added to `x`: `[r, d]`.
    pub delta: &'a [T],
    /// Receives `x + delta`: `[r, d]`.
    pub sum: &'a mut [T],
}

/// What [`layer_norm`] reads and writes.
#[derive(Debug)]
pub struct LayerNorm<'a, T> {
    /// Input rows: `[r, d]`.
    pub x: &'a [T],
    /// The residual addition before the norm, if any.
    pub add: Option<ResidualAdd<'a, T>>,
    /// Scale of each column: `[d]`.
    pub gain: &'a [T],
    /// Shift of each column: `[d]`.
    pub bias: Option<&'a [T]>,
    /// Added to the variance.
    pub eps: T,
    /// Receives the normed rows: `[r, d]`.
    pub y: &'a mut [T],
    /// Receives the mean of each row: `[r]`.
    pub mean: &'a mut [T],
    /// Receives the reciprocal standard deviation of each row: `[r]`.
    pub rstd: &'a mut [T],
}

/// What [`rms_norm`] reads and writes.
#[derive(Debug)]
pub struct RmsNorm<'a, T> {
    /// Input rows: `[r, d]`.
    pub x: &'a [T],
    /// The residual addition before the norm, if any.
    pub add: Option<ResidualAdd<'a, T>>,
    /// Scale of each column: `[d]`.
    pub gain: &'a [T],
    /// Added to the mean square.
    pub eps: T,
    /// Receives the normed rows: `[r, d]`.
    pub y: &'a mut [T],
    /// Receives the reciprocal root mean square of each row: `[r]`.
    pub rstd: &'a mut [T],
}

/// What [`layer_norm_adjoint`] and [`rms_norm_adjoint`] read and write.
#[derive(Debug)]
pub struct NormAdjoint<'a, T> {
    /// The rows that were normed (the sum, where there was a residual addition): `[r, d]`.
    pub x: &'a [T],
    /// Scale of each column: `[d]`.
    pub gain: &'a [T],
    /// The saved means: `[r]`; empty for RMS norm.
    pub mean: &'a [T],
    /// The saved reciprocal deviations: `[r]`.
    pub rstd: &'a [T],
    /// Gradient of the normed rows: `[r, d]`.
    pub dy: &'a [T],
    /// A further gradient that reaches `x` past the norm (the residual stream's): `[r, d]`.
    pub dsum: Option<&'a [T]>,
    /// Receives the gradient of `x`, which is that of `delta` too: `[r, d]`.
    pub dx: Option<Dest<'a, T>>,
    /// Receives the gradient of the gain: `[d]`.
    pub dgain: Option<Dest<'a, T>>,
    /// Receives the gradient of the bias: `[d]`.
    pub dbias: Option<Dest<'a, T>>,
}

/// Layer normalisation of each row; see the [module](self).
///
/// # Panics
/// If lengths do not fit.
pub fn layer_norm<T: Element>(n: LayerNorm<'_, T>) {
    assert_eq!(n.mean.len(), n.rstd.len(), "layer_norm: mean and rstd differ in length");
    let mean = Some(Disjoint::new(n.mean));
    forward::<T, true>(Forward {
        x: n.x,
        add: n.add,
        gain: n.gain,
        bias: n.bias,
        eps: n.eps,
        y: n.y,
        mean,
        rstd: n.rstd,
    });
}

/// Root-mean-square normalisation of each row; see the [module](self).
///
/// # Panics
/// If lengths do not fit.
pub fn rms_norm<T: Element>(n: RmsNorm<'_, T>) {
    forward::<T, false>(Forward {
        x: n.x,
        add: n.add,
        gain: n.gain,
        bias: None,
        eps: n.eps,
        y: n.y,
        mean: None,
        rstd: n.rstd,
    });
}

struct Forward<'a, T> {
    x: &'a [T],
    add: Option<ResidualAdd<'a, T>>,
    gain: &'a [T],
    bias: Option<&'a [T]>,
    eps: T,
    y: &'a mut [T],
    mean: Option<Disjoint<'a, T>>,
    rstd: &'a mut [T],
}

fn forward<T: Element, const CENTRED: bool>(n: Forward<'_, T>) {
    let (d, rows) = (n.gain.len(), n.rstd.len());
    assert_eq!(n.x.len(), rows * d, "norm: x must be [{rows}, {d}]");
    assert_eq!(n.y.len(), rows * d, "norm: y must be [{rows}, {d}]");
    assert!(n.bias.is_none_or(|b| b.len() == d), "norm: bias must be [{d}]");
    if let Some(a) = &n.add {
        assert!(
            a.delta.len() == rows * d && a.sum.len() == rows * d,
            "norm: delta and sum must be [{rows}, {d}]"
        );
    }
    let (x, gain, bias, eps) = (n.x, n.gain, n.bias, n.eps);
    let (y, mean, rstd) = (Disjoint::new(n.y), n.mean, Disjoint::new(n.rstd));
    let add = n.add.map(|a| (a.delta, Disjoint::new(a.sum)));
    for_row_ranges(rows, rows_per_task(d), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |isa| {
                for r in range {
                    let span = r * d..(r + 1) * d;
                    // SAFETY: row r belongs to this task alone, in every buffer.
                    let (y, rstd) = unsafe { (y.slice(span.clone()), rstd.slice(r..r + 1)) };
                    let u = match &add {
                        None => &x[span],
                        Some((delta, sum)) => {
                            // SAFETY: as above.
                            let sum = unsafe { sum.slice(span.clone()) };
                            for (s, (&x, &delta)) in
                                sum.iter_mut().zip(x[span.clone()].iter().zip(&delta[span]))
                            {
                                *s = x + delta;
                            }
                            &*sum
                        }
                    };
                    let row_mean = norm_row::<T, CENTRED>(isa, u, Scale { gain, bias, eps }, y, &mut rstd[0]);
                    if let Some(mean) = &mean {
                        // SAFETY: as above.
                        let mean = unsafe { mean.slice(r..r + 1) };
                        mean[0] = row_mean;
                    }
                }
            },
        );
    });
}

#[derive(Clone, Copy)]
struct Scale<'a, T> {
    gain: &'a [T],
    bias: Option<&'a [T]>,
    eps: T,
}

/// One row; returns its mean.
#[inline(always)]
fn norm_row<T: Element, const CENTRED: bool>(
    isa: Isa,
    u: &[T],
    scale: Scale<'_, T>,
    y: &mut [T],
    rstd: &mut T,
) -> T {
    let width = T::of(u.len() as f64);
    let mean = if CENTRED { sum_map(u, |v| v) / width } else { T::zero() };
    let square = sum_map(u, |v| (v - mean) * (v - mean)) / width;
    *rstd = (square + scale.eps).sqrt().recip();
    let rstd = *rstd;
    match scale.bias {
        None => {
            for (y, (&u, &gain)) in y.iter_mut().zip(u.iter().zip(scale.gain)) {
                *y = (u - mean) * rstd * gain;
            }
        }
        Some(bias) => {
            for (y, ((&u, &gain), &bias)) in y.iter_mut().zip(u.iter().zip(scale.gain).zip(bias)) {
                *y = isa.mul_add((u - mean) * rstd, gain, bias);
            }
        }
    }
    mean
}

/// Adjoint of [`layer_norm`], with `û = (u − mean) · rstd` and `dû = dy · gain`:
///
/// - `dx = rstd · (dû − mean(dû) − û · mean(dû · û)) + dsum`: the direct term, the mean's, the deviation's, and what
///   came past the norm;
/// - `dgain = Σ_rows dy · û`, `dbias = Σ_rows dy`.
///
/// # Panics
/// If lengths do not fit.
pub fn layer_norm_adjoint<T: Element>(n: NormAdjoint<'_, T>) {
    assert_eq!(n.mean.len(), n.rstd.len(), "layer_norm_adjoint: mean and rstd differ in length");
    adjoint::<T, true>(n);
}

/// Adjoint of [`rms_norm`]: that of [`layer_norm_adjoint`] with mean 0 and without the mean's term.
///
/// # Panics
/// If lengths do not fit, `mean` is not empty or `dbias` is asked for.
pub fn rms_norm_adjoint<T: Element>(n: NormAdjoint<'_, T>) {
    assert!(n.mean.is_empty() && n.dbias.is_none(), "rms_norm_adjoint: there is no mean and no bias");
    adjoint::<T, false>(n);
}

/// Rows whose gain gradients are summed one after another. A multiple of it, so that there are at most 64 such
/// shards, depends on the shape alone; so does the order in which shards are joined.
const SHARD_ROWS: usize = 16;

fn adjoint<T: Element, const CENTRED: bool>(n: NormAdjoint<'_, T>) {
    let (d, rows) = (n.gain.len(), n.rstd.len());
    assert!(n.x.len() == rows * d && n.dy.len() == rows * d, "norm adjoint: x and dy must be [{rows}, {d}]");
    assert!(n.dsum.is_none_or(|s| s.len() == rows * d), "norm adjoint: dsum must be [{rows}, {d}]");
    assert!(n.dx.as_ref().is_none_or(|g| g.data.len() == rows * d), "norm adjoint: dx must be [{rows}, {d}]");
    for g in [&n.dgain, &n.dbias].into_iter().flatten() {
        assert_eq!(g.data.len(), d, "norm adjoint: dgain and dbias must be [{d}]");
    }
    let columns = n.dgain.is_some() || n.dbias.is_some();
    let per_shard = rows.div_ceil(64).next_multiple_of(SHARD_ROWS).max(SHARD_ROWS);
    let shards = rows.div_ceil(per_shard);
    // Each shard sums dy·û and dy of its rows: [shards, 2, d].
    scratch::with(if columns { shards * 2 * d } else { 0 }, |partials: &mut [T]| {
        let parts = Disjoint::new(partials);
        let dx = n.dx.map(|g| (Disjoint::new(g.data), g.write));
        let (x, gain, dy) = (n.x, n.gain, n.dy);
        for_row_ranges(rows, per_shard, |shard, range| {
            isa::dispatch(
                #[inline(always)]
                |isa| {
                    // SAFETY: the shard's own 2·d partial sums.
                    let part = unsafe {
                        parts.slice(if columns { shard * 2 * d..(shard + 1) * 2 * d } else { 0..0 })
                    };
                    part.fill(T::zero());
                    for r in range {
                        let span = r * d..(r + 1) * d;
                        let mean = if CENTRED { n.mean[r] } else { T::zero() };
                        let row =
                            Row { x: &x[span.clone()], dy: &dy[span.clone()], gain, mean, rstd: n.rstd[r] };
                        if let Some((dx, write)) = &dx {
                            // SAFETY: row r belongs to this task alone.
                            let dx = unsafe { dx.slice(span.clone()) };
                            adjoint_row::<T, CENTRED>(isa, row, n.dsum.map(|s| &s[span]), dx, *write);
                        }
                        if columns {
                            let (dgain, dbias) = part.split_at_mut(d);
                            column_terms(isa, row, dgain, dbias);
                        }
                    }
                },
            );
        });
        for (dest, at) in [(n.dgain, 0), (n.dbias, d)] {
            if let Some(dest) = dest {
                join_shards(partials, 2 * d, at, dest);
            }
        }
    });
}

#[derive(Clone, Copy)]
struct Row<'a, T> {
    x: &'a [T],
    dy: &'a [T],
    gain: &'a [T],
    mean: T,
    rstd: T,
}

#[inline(always)]
fn adjoint_row<T: Element, const CENTRED: bool>(
    isa: Isa,
    r: Row<'_, T>,
    dsum: Option<&[T]>,
    dx: &mut [T],
    write: Write,
) {
    let Row { x, dy, gain, mean, rstd } = r;
    let d = x.len();
    let (dy, gain, dx) = (&dy[..d], &gain[..d], &mut dx[..d]);
    let Sums { direct, along } = row_sums(x, dy, gain, mean);
    let width = T::of(d as f64);
    let direct = if CENTRED { direct / width } else { T::zero() };
    let along = along * rstd / width;
    for i in 0..d {
        let u = (x[i] - mean) * rstd;
        let past = dsum.map_or(T::zero(), |dsum| dsum[i]);
        let value = isa.mul_add(rstd, isa.mul_add(dy[i], gain[i], -direct) - u * along, past);
        dx[i] = write.combine(dx[i], value);
    }
}

/// `Σ dû` and `Σ dû · (x − mean)`.
struct Sums<T> {
    direct: T,
    along: T,
}

#[inline(always)]
fn row_sums<T: Element>(x: &[T], dy: &[T], gain: &[T], mean: T) -> Sums<T> {
    let (mut direct, mut along) = ([T::zero(); LANES], [T::zero(); LANES]);
    let ((xs, x_tail), (dys, dy_tail)) = (x.as_chunks::<LANES>(), dy.as_chunks::<LANES>());
    let (gains, gain_tail) = gain.as_chunks::<LANES>();
    for ((x, dy), gain) in xs.iter().zip(dys).zip(gains) {
        for l in 0..LANES {
            let du = dy[l] * gain[l];
            direct[l] += du;
            along[l] += du * (x[l] - mean);
        }
    }
    let (x, dy, gain) = (padded(x_tail), padded(dy_tail), padded(gain_tail));
    for l in 0..LANES {
        let du = dy[l] * gain[l]; // 0 past the end
        direct[l] += du;
        along[l] += du * (x[l] - mean);
    }
    Sums { direct: sum_lanes(direct), along: sum_lanes(along) }
}

#[inline(always)]
fn column_terms<T: Element>(isa: Isa, r: Row<'_, T>, dgain: &mut [T], dbias: &mut [T]) {
    for ((dgain, dbias), (&x, &dy)) in dgain.iter_mut().zip(dbias).zip(r.x.iter().zip(r.dy)) {
        *dgain = isa.mul_add(dy, (x - r.mean) * r.rstd, *dgain);
        *dbias += dy;
    }
}

/// Adds the partial sums `[shards, stride]` at columns `at..at + d` in the order of the shards.
fn join_shards<T: Element>(partials: &[T], stride: usize, at: usize, dest: Dest<'_, T>) {
    let Dest { data: dest, write } = dest;
    let d = dest.len();
    if write == Write::Store {
        dest.fill(T::zero());
    }
    for part in partials.chunks_exact(stride.max(1)) {
        for (sum, &part) in dest.iter_mut().zip(&part[at..at + d]) {
            *sum += part;
        }
    }
}

#[cfg(test)]
mod tests;
