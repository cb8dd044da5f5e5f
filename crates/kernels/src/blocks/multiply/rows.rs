//! Rows of a matrix in blocks: by id, as an embedding reads them, or all.

use super::{Matrix, panel};
use crate::{Element, disjoint::rows_per_task, team};

/// Decodes row `ids[r]` of `w` to row `r` of `y`: `w`: `[n, d]`, `y`: `[ids.len(), d]`.
///
/// # Panics
/// If `y` has another shape, an id is past the rows, or the bytes of `w` are not those of its shape.
///
/// ```
/// use formwork_kernels::blocks::{Format, multiply::{Matrix, gather}};
/// let bytes = [0x80, 0x3f, 0x00, 0x40, 0x40, 0x40]; // 1, 2, 3 as bf16
/// let mut y = [0.0_f32; 2];
/// gather(Matrix { format: Format::Bf16, bytes: &bytes, rows: 3, cols: 1 }, &[2, 0], &mut y);
/// assert_eq!(y, [3.0, 1.0]);
/// ```
pub fn gather<T: Element>(w: Matrix<'_>, ids: &[u32], y: &mut [T]) {
    for &id in ids {
        assert!((id as usize) < w.rows, "blocks: id {id} of {} rows", w.rows);
    }
    decode_rows(w, ids.len(), |r| ids[r] as usize, y);
}

/// Decodes all of `w` to `y`, `[n, d]`.
///
/// # Panics
/// If `y` has another shape, or the bytes of `w` are not those of its shape.
pub fn dense<T: Element>(w: Matrix<'_>, y: &mut [T]) {
    decode_rows(w, w.rows, |r| r, y);
}

fn decode_rows<T: Element>(w: Matrix<'_>, count: usize, row: impl Fn(usize) -> usize + Sync, y: &mut [T]) {
    let (d, bytes) = (w.cols, w.row_bytes("blocks"));
    assert!(count.checked_mul(d) == Some(y.len()), "blocks: expected rows [{count}, {d}], found {}", y.len());
    if d == 0 {
        return;
    }
    let per_task = rows_per_task(d);
    team::for_each_chunk(y, per_task * d, |task, y| {
        for (r, y) in y.chunks_exact_mut(d).enumerate() {
            let from = row(task * per_task + r) * bytes;
            panel::decode(w.format, &w.bytes[from..from + bytes], y);
        }
    });
}
