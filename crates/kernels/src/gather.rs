//! Rows of a table by id, and the adjoint, which adds rows back: an embedding and its gradient.
//!
//! `y[r, :] = table[ids[r], :]`; `table`: `[n, d]`, `ids`: `[r]`, `y`: `[r, d]`.
//! Several rows may name the same id; their gradients are added in the order of the rows.
//!
//! ```
//! use formwork_kernels::{dest::Dest, gather::{gather, gather_adjoint}};
//!
//! let mut y = [0.0_f32; 4];
//! gather(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, &[2, 0], &mut y);
//! assert_eq!(y, [5.0, 6.0, 1.0, 2.0]);
//! let mut dtable = [f32::NAN; 6];
//! gather_adjoint(&y, 2, &[1, 1], Dest::store(&mut dtable));
//! assert_eq!(dtable, [0.0, 0.0, 6.0, 8.0, 0.0, 0.0]);
//! ```

use crate::{
    Element, Write,
    dest::Dest,
    disjoint::{Disjoint, rows_per_task},
    team,
};

/// Copies row `ids[r]` of the table to row `r` of `y`.
///
/// # Panics
/// If `y` is not `[ids.len(), d]` or an id is past the table.
pub fn gather<T: Element>(table: &[T], d: usize, ids: &[u32], y: &mut [T]) {
    check(table, d, ids, y);
    if d == 0 {
        return;
    }
    let per_task = rows_per_task(d);
    team::for_each_chunk(y, per_task * d, |task, y| {
        for (y, &id) in y.chunks_exact_mut(d).zip(&ids[task * per_task..]) {
            y.copy_from_slice(&table[id as usize * d..][..d]);
        }
    });
}

/// Columns that one task adds: whole cache lines, and few enough that narrow tables still make several tasks.
const COLUMNS: usize = 64;

/// Adjoint of [`gather`]: `dtable[i, :] = Σ_{r: ids[r] = i} dy[r, :]`.
///
/// Tasks divide the columns, not the rows, so every sum runs over the rows in their order.
/// Storing means that rows which no id names become 0.
///
/// # Panics
/// As [`gather`].
pub fn gather_adjoint<T: Element>(dy: &[T], d: usize, ids: &[u32], dtable: Dest<'_, T>) {
    let Dest { data: dtable, write } = dtable;
    check(dtable, d, ids, dy);
    if d == 0 {
        return;
    }
    if write == Write::Store {
        team::for_each_chunk(dtable, rows_per_task(1), |_, part| part.fill(T::zero()));
    }
    // A few rows are added faster than a team is called.
    let columns = if dy.len() < rows_per_task(1) { d } else { COLUMNS };
    let dtable = Disjoint::new(dtable);
    team::parallel(d.div_ceil(columns), |task| {
        let columns = task * columns..d.min((task + 1) * columns);
        for (dy, &id) in dy.chunks_exact(d).zip(ids) {
            let start = id as usize * d;
            // SAFETY: these columns belong to this task alone, in every row.
            let row = unsafe { dtable.slice(start + columns.start..start + columns.end) };
            for (sum, &dy) in row.iter_mut().zip(&dy[columns.clone()]) {
                *sum += dy;
            }
        }
    });
}

fn check<T>(table: &[T], d: usize, ids: &[u32], y: &[T]) {
    assert_eq!(y.len(), ids.len() * d, "gather: rows must be [{}, {d}]", ids.len());
    let n = table.len().checked_div(d).unwrap_or(0);
    assert_eq!(table.len(), n * d, "gather: {} elements are no rows of {d}", table.len());
    if d > 0 {
        for &id in ids {
            assert!((id as usize) < n, "gather: id {id} of {n} rows");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    #[test]
    fn gather_and_its_adjoint_agree_with_plain_loops() {
        for (n, d, r) in [(1, 1, 1), (5, 7, 11), (3, 130, 2), (11, 67, 301), (4, 3, 0), (2, 0, 3)] {
            let ids: Vec<u32> = (0..r).map(|i| (i * i % n.min(7)) as u32).collect();
            let (table, dy) = (numbers::<f64>(1, n * d), numbers::<f64>(2, r * d));
            let y = same_bits_on_any_threads(|| {
                let mut y = junk(r * d);
                gather(&table, d, &ids, &mut y);
                y
            });
            let mut want = vec![0.0; n * d];
            for (i, &id) in ids.iter().enumerate() {
                for j in 0..d {
                    assert_eq!(y[i * d + j], table[id as usize * d + j]);
                    want[id as usize * d + j] += dy[i * d + j];
                }
            }
            let got = same_bits_on_any_threads(|| {
                let mut dtable = junk(n * d);
                gather_adjoint(&dy, d, &ids, Dest::store(&mut dtable));
                dtable
            });
            assert_eq!(got, want, "the same order of addition gives the same bits");
            let mut twice = got.clone();
            gather_adjoint(&dy, d, &ids, Dest::add(&mut twice));
            close("added", &twice, &want.iter().map(|v| 2.0 * v).collect::<Vec<_>>(), F64);
        }
    }

    #[test]
    fn the_adjoint_agrees_with_finite_differences() {
        let ids = [2, 0, 2];
        let (table, dy) = (numbers::<f64>(1, 12), numbers::<f64>(2, 9));
        let mut dtable = junk(12);
        gather_adjoint(&dy, 3, &ids, Dest::store(&mut dtable));
        check_gradient("dtable", &table, &dtable, |table| {
            let mut y = junk(9);
            gather(table, 3, &ids, &mut y);
            y.iter().zip(&dy).map(|(a, b)| a * b).sum()
        });
    }

    #[test]
    #[should_panic(expected = "id 4 of 4 rows")]
    fn an_id_past_the_table_is_refused() {
        gather(&[0.0_f32; 8], 2, &[4], &mut [0.0; 2]);
    }
}
