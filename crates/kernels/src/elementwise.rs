//! Element by element: sums, products, multiples; and sums over the rows or columns of a matrix.
//!
//! Every result goes to a [`Dest`], so the same function is a forward step and, with [`Write::Add`], the
//! accumulation of a gradient. Adjoints need no functions of their own: that of `a + b` is a copy to each side,
//! that of `a · b` is [`mul`] with the other factor, that of [`scale`] is [`scale`], and that of a bias broadcast
//! over rows is [`column_sums`].
//!
//! ```
//! use formwork_kernels::{dest::Dest, elementwise::column_sums};
//!
//! let mut bias_gradient = [0.0_f32; 3];
//! column_sums(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], Dest::store(&mut bias_gradient)); // [2, 3] to [3]
//! assert_eq!(bias_gradient, [11.0, 22.0, 33.0]);
//! ```

use crate::{
    Element, Write,
    dest::Dest,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    isa::{self, Isa},
    reduce::sum_map,
    scratch,
};

/// `out = a + b`.
///
/// # Panics
/// If lengths differ.
pub fn add<T: Element>(a: &[T], b: &[T], out: Dest<'_, T>) {
    map2(
        a,
        b,
        out,
        #[inline(always)]
        |_, a, b| a + b,
    );
}

/// `out = a + factor · b`.
///
/// # Panics
/// If lengths differ.
pub fn add_scaled<T: Element>(a: &[T], b: &[T], factor: T, out: Dest<'_, T>) {
    map2(
        a,
        b,
        out,
        #[inline(always)]
        |isa, a, b| isa.mul_add(factor, b, a),
    );
}

/// `out = a · b`.
///
/// # Panics
/// If lengths differ.
pub fn mul<T: Element>(a: &[T], b: &[T], out: Dest<'_, T>) {
    map2(
        a,
        b,
        out,
        #[inline(always)]
        |_, a, b| a * b,
    );
}

/// `out = factor · a`; with factor 1 and [`Write::Add`] the accumulation of a gradient.
///
/// # Panics
/// If lengths differ.
pub fn scale<T: Element>(a: &[T], factor: T, out: Dest<'_, T>) {
    map(
        a,
        out,
        #[inline(always)]
        |_, a| a * factor,
    );
}

/// `out[r, :] = x[r, :] + bias` for `x: [r, d]`, `bias: [d]`; the adjoint for the bias is [`column_sums`].
///
/// # Panics
/// If lengths do not fit.
pub fn add_bias<T: Element>(x: &[T], bias: &[T], out: Dest<'_, T>) {
    let Dest { data: out, write } = out;
    assert_eq!(x.len(), out.len(), "add_bias: input and output differ in length");
    let d = bias.len();
    let rows = x.len().checked_div(d).unwrap_or(0);
    assert_eq!(x.len(), rows * d, "add_bias: {} elements are no rows of {d}", x.len());
    let out = Disjoint::new(out);
    for_row_ranges(rows, rows_per_task(d), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |isa| {
                // SAFETY: the task's own rows.
                let out = unsafe { out.rows(&range, d) };
                for (x, out) in x[range.start * d..range.end * d].chunks_exact(d).zip(out.chunks_exact_mut(d))
                {
                    body2(isa, x, bias, out, write, &|_, a, b| a + b);
                }
            },
        );
    });
}

/// Columns that one task sums: two cache lines of `f64`, four registers of `f32`.
const COLUMNS: usize = 64;
/// Rows that are summed one after another before partial sums are joined, in their order.
const SHARD_ROWS: usize = 128;

/// `out[j] = Σ_r x[r, j]` for `x: [r, d]`, `out: [d]`: the gradient of a bias.
///
/// Rows are summed in shards whose number depends on the shape alone and which are joined in order.
///
/// # Panics
/// If `x` is no whole number of rows.
pub fn column_sums<T: Element>(x: &[T], out: Dest<'_, T>) {
    let Dest { data: out, write } = out;
    let d = out.len();
    let rows = x.len().checked_div(d).unwrap_or(0);
    assert_eq!(x.len(), rows * d, "column_sums: {} elements are no rows of {d}", x.len());
    let per_shard = rows.div_ceil(64).next_multiple_of(SHARD_ROWS).max(1);
    let shards = rows.div_ceil(per_shard);
    scratch::with(shards * d, |partials: &mut [T]| {
        let parts = Disjoint::new(partials);
        for_row_ranges(rows, per_shard, |shard, range| {
            // SAFETY: the shard's own partial sums.
            let part = unsafe { parts.rows(&(shard..shard + 1), d) };
            isa::dispatch(
                #[inline(always)]
                |_| sum_rows(&x[range.start * d..range.end * d], part),
            );
        });
        if write == Write::Store {
            out.fill(T::zero());
        }
        for part in partials.chunks_exact(d.max(1)) {
            for (sum, &part) in out.iter_mut().zip(part) {
                *sum += part;
            }
        }
    });
}

/// `part[j] = Σ_r x[r, j]`, a block of columns at a time, whose sums stay in registers.
#[inline(always)]
fn sum_rows<T: Element>(x: &[T], part: &mut [T]) {
    let d = part.len();
    let (blocks, tail) = part.as_chunks_mut::<COLUMNS>();
    let tail_start = d - tail.len();
    for (b, block) in blocks.iter_mut().enumerate() {
        let mut sums = [T::zero(); COLUMNS];
        for row in x.chunks_exact(d) {
            let row = &row[b * COLUMNS..(b + 1) * COLUMNS];
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
        *block = sums;
    }
    tail.fill(T::zero());
    if !tail.is_empty() {
        for row in x.chunks_exact(d) {
            for (sum, &x) in tail.iter_mut().zip(&row[tail_start..]) {
                *sum += x;
            }
        }
    }
}

/// `out[r] = Σ_j x[r, j]` for `x: [r, d]`, `out: [r]`.
///
/// # Panics
/// If `x` does not hold `out.len()` rows of `d`.
pub fn row_sums<T: Element>(x: &[T], d: usize, out: Dest<'_, T>) {
    let Dest { data: out, write } = out;
    let rows = out.len();
    assert_eq!(x.len(), rows * d, "row_sums: x must be [{rows}, {d}]");
    let out = Disjoint::new(out);
    for_row_ranges(rows, rows_per_task(d), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |_| {
                // SAFETY: the task's own rows.
                let out = unsafe { out.rows(&range, 1) };
                for (out, r) in out.iter_mut().zip(range) {
                    *out = write.combine(*out, sum_map(&x[r * d..(r + 1) * d], |v| v));
                }
            },
        );
    });
}

/// `out[i] = f(x[i])` in parallel and vectorised; `f` must be `#[inline(always)]`.
pub(crate) fn map<T: Element>(x: &[T], out: Dest<'_, T>, f: impl Fn(Isa, T) -> T + Sync) {
    let Dest { data: out, write } = out;
    assert_eq!(x.len(), out.len(), "elementwise: input and output differ in length");
    let out = Disjoint::new(out);
    for_row_ranges(x.len(), rows_per_task(1), |_, range| {
        // SAFETY: the task's own elements.
        let out = unsafe { out.slice(range.clone()) };
        isa::dispatch(
            #[inline(always)]
            |isa| body(isa, &x[range], out, write, &f),
        );
    });
}

#[inline(always)]
fn body<T: Element>(isa: Isa, x: &[T], out: &mut [T], write: Write, f: &impl Fn(Isa, T) -> T) {
    // Loops, not `for_each`: the function behind that is not always inlined, and then not vectorised.
    match write {
        Write::Store => {
            for (&x, out) in x.iter().zip(out) {
                *out = f(isa, x);
            }
        }
        Write::Add => {
            for (&x, out) in x.iter().zip(out) {
                *out += f(isa, x);
            }
        }
    }
}

/// `out[i] = f(x[i], y[i])` in parallel and vectorised; `f` must be `#[inline(always)]`.
pub(crate) fn map2<T: Element>(x: &[T], y: &[T], out: Dest<'_, T>, f: impl Fn(Isa, T, T) -> T + Sync) {
    let Dest { data: out, write } = out;
    assert!(x.len() == y.len() && x.len() == out.len(), "elementwise: inputs and output differ in length");
    let out = Disjoint::new(out);
    for_row_ranges(x.len(), rows_per_task(1), |_, range| {
        // SAFETY: the task's own elements.
        let out = unsafe { out.slice(range.clone()) };
        isa::dispatch(
            #[inline(always)]
            |isa| body2(isa, &x[range.clone()], &y[range], out, write, &f),
        );
    });
}

#[inline(always)]
fn body2<T: Element>(isa: Isa, x: &[T], y: &[T], out: &mut [T], write: Write, f: &impl Fn(Isa, T, T) -> T) {
    match write {
        Write::Store => {
            for ((&x, &y), out) in x.iter().zip(y).zip(out) {
                *out = f(isa, x, y);
            }
        }
        Write::Add => {
            for ((&x, &y), out) in x.iter().zip(y).zip(out) {
                *out += f(isa, x, y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn check_values<T: Element>() {
        for n in [0, 1, 7, 37, 40_013] {
            let (a, b, k) = (numbers::<T>(1, n), numbers::<T>(2, n), T::of(0.3));
            let want = |f: fn(f64, f64) -> f64| {
                a.iter().zip(&b).map(|(a, b)| T::of(f(a.f64(), b.f64()))).collect::<Vec<_>>()
            };
            let check = |name: &str, f: &dyn Fn(Dest<'_, T>), want: Vec<T>| {
                let got = same_bits_on_any_threads(|| {
                    let mut out = junk(n);
                    f(Dest::store(&mut out));
                    out
                });
                close(name, &got, &want, tolerance::<T>());
                let mut out = b.clone();
                f(Dest::add(&mut out));
                let want: Vec<T> = want.iter().zip(&b).map(|(&w, &b)| w + b).collect();
                close(name, &out, &want, tolerance::<T>());
            };
            check("add", &|o| add(&a, &b, o), want(|a, b| a + b));
            check("add_scaled", &|o| add_scaled(&a, &b, k, o), want(|a, b| a + 0.3 * b));
            check("mul", &|o| mul(&a, &b, o), want(|a, b| a * b));
            check("scale", &|o| scale(&a, k, o), want(|a, _| 0.3 * a));
        }
    }

    #[test]
    fn values_agree_with_plain_arithmetic_on_every_path() {
        on_every_isa(check_values::<f32>);
        on_every_isa(check_values::<f64>);
    }

    #[test]
    fn sums_and_broadcasts_agree_with_plain_loops_and_add() {
        for (r, d) in [(0, 3), (1, 1), (3, 7), (2, 64), (301, 71), (5, 200)] {
            on_every_isa(|| {
                let (x, bias) = (numbers::<f64>(1, r * d), numbers::<f64>(2, d));
                let columns: Vec<f64> = (0..d).map(|j| (0..r).map(|i| x[i * d + j]).sum()).collect();
                let twice = |v: &[f64]| v.iter().map(|v| 2.0 * v).collect::<Vec<_>>();
                let got = same_bits_on_any_threads(|| {
                    let mut out = junk(d);
                    column_sums(&x, Dest::store(&mut out));
                    column_sums(&x, Dest::add(&mut out));
                    out
                });
                close("columns", &got, &twice(&columns), F64 * 100.0); // hundreds of terms
                let mut out = junk(r);
                row_sums(&x, d, Dest::store(&mut out));
                row_sums(&x, d, Dest::add(&mut out));
                let rows: Vec<f64> = x.chunks(d).map(|row| row.iter().sum()).collect();
                close("rows", &out, &twice(&rows), F64 * 100.0);
                let mut out = junk(r * d);
                add_bias(&x, &bias, Dest::store(&mut out));
                let want: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + bias[i % d]).collect();
                close("bias", &out, &want, 0.0);
            });
        }
    }

    #[test]
    #[should_panic(expected = "7 elements are no rows of 2")]
    fn a_broken_row_is_refused() {
        column_sums(&[0.0; 7], Dest::store(&mut [0.0; 2]));
    }
}
