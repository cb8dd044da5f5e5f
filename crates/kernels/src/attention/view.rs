//! Strided views of queries, keys, values and their gradients: `[b, heads, tokens, e]` in any memory order, the last
//! dimension contiguous.
//!
//! The projections of a layer give `[b, t, h, e]` or, fused, `[b, t, (h + 2g) · e]`; a cache holds `[b, g, s, e]`.
//! Attention reads and writes them where they lie.
//!
//! ```
//! use formwork_kernels::attention::{Strides, View};
//!
//! let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
//! let q = View::new(&data, Strides::tokens_first(3, 2, 2)); // [b, t = 3, h = 2, e = 2]
//! assert_eq!(q.row([0, 1, 2], 2), [10.0, 11.0]); // batch 0, head 1, token 2
//! ```

use super::{Shape, tile::Matrix};
use crate::{disjoint::Disjoint, prefetch};

/// Elements from one index to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// From one batch row to the next.
    pub batch: usize,
    /// From one head to the next.
    pub head: usize,
    /// From one token to the next.
    pub token: usize,
}

impl Strides {
    /// Those of contiguous `[b, tokens, heads, e]`.
    pub fn tokens_first(tokens: usize, heads: usize, e: usize) -> Self {
        Strides { batch: tokens * heads * e, head: e, token: heads * e }
    }

    /// Those of contiguous `[b, heads, tokens, e]`.
    pub fn heads_first(heads: usize, tokens: usize, e: usize) -> Self {
        Strides { batch: heads * tokens * e, head: tokens * e, token: e }
    }

    #[inline(always)]
    pub(super) fn offset(&self, [batch, head, token]: [usize; 3]) -> usize {
        batch * self.batch + head * self.head + token * self.token
    }

    /// Elements from the first to just past the last of `[b, heads, tokens, e]`.
    ///
    /// It must not wrap around: unsafe code relies on every index below it being where it seems to be.
    fn extent(&self, dims: [usize; 4]) -> usize {
        let [b, heads, tokens, e] = dims;
        if dims.contains(&0) {
            return 0;
        }
        [(b, self.batch), (heads, self.head), (tokens, self.token)]
            .into_iter()
            .try_fold(e, |sum, (n, stride)| sum.checked_add((n - 1).checked_mul(stride)?))
            .unwrap_or_else(|| panic!("attention: {dims:?} with {self:?} is past the address space"))
    }

    /// Whether no two rows of `e` elements share one: each stride must pass all that the smaller ones span.
    fn rows_are_disjoint(&self, [b, heads, tokens, e]: [usize; 4]) -> bool {
        let mut steps = [(self.batch, b), (self.head, heads), (self.token, tokens)];
        steps.sort_unstable();
        let mut span = e;
        if steps.iter().any(|(_, n)| *n == 0) {
            return true;
        }
        steps.iter().filter(|(_, n)| *n > 1).all(|&(stride, n)| {
            let past = stride >= span;
            span += stride * (n - 1);
            past
        })
    }
}

/// Strides and starts of queries, keys and values in one buffer `[b, t, (h + 2g) · e]`.
fn fused(shape: &Shape) -> (Strides, [usize; 3]) {
    let Shape { heads, kv_heads, head_dim: e, queries, keys, .. } = *shape;
    assert_eq!(queries, keys, "attention: fused queries, keys and values have as many keys as queries");
    let token = (heads + 2 * kv_heads) * e;
    (Strides { batch: queries * token, head: e, token }, [0, heads * e, (heads + kv_heads) * e])
}

/// A strided view to read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    data: &'a [T],
    strides: Strides,
}

impl<'a, T> View<'a, T> {
    /// A view whose element `[b, h, t, i]` is `data[b · batch + h · head + t · token + i]`.
    pub fn new(data: &'a [T], strides: Strides) -> Self {
        View { data, strides }
    }

    /// Queries, keys and values of a fused projection `[b, t, (h + 2g) · e]`.
    ///
    /// # Panics
    /// If the buffer has another length or the shape has more keys than queries.
    pub fn fused(data: &'a [T], shape: &Shape) -> [Self; 3] {
        let (strides, starts) = fused(shape);
        assert_eq!(
            data.len(),
            shape.batch * strides.batch,
            "attention: length of fused queries, keys and values"
        );
        starts.map(|start| View { data: &data[start.min(data.len())..], strides })
    }

    /// Row `[batch, head, token]` of `e` elements.
    ///
    /// # Panics
    /// If it lies past the data.
    #[inline(always)]
    pub fn row(&self, index: [usize; 3], e: usize) -> &'a [T] {
        &self.data[self.strides.offset(index)..][..e]
    }

    /// Rows `[batch, head, token..token + n]` of `e` elements as a matrix.
    #[inline(always)]
    pub(super) fn matrix(&self, index: [usize; 3], n: usize, e: usize) -> Matrix<'a, T> {
        let row = self.strides.token;
        // Without rows there need be no data, where the first would begin either.
        let data = if n == 0 { &[] } else { &self.data[self.strides.offset(index)..][..(n - 1) * row + e] };
        Matrix { data, row, column: 1 }
    }

    /// Asks for row `[batch, head, token]` to be near soon. Rows of many heads lie pages apart, where the CPU does not
    /// look ahead by itself.
    #[inline(always)]
    pub(super) fn prefetch(&self, index: [usize; 3], e: usize) {
        prefetch::second(self.row(index, e).as_ptr(), e);
    }

    pub(super) fn check(&self, name: &str, dims: [usize; 4]) {
        let (needed, found) = (self.strides.extent(dims), self.data.len());
        assert!(found >= needed, "attention: {name} {dims:?} needs {needed} elements, found {found}");
    }
}

/// A strided view to write. Its rows never overlap, which is checked when it is used.
pub struct ViewMut<'a, T> {
    data: Disjoint<'a, T>,
    start: usize,
    strides: Strides,
}

impl<T> std::fmt::Debug for ViewMut<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ViewMut").field("strides", &self.strides).field("len", &self.data.len()).finish()
    }
}

impl<'a, T> ViewMut<'a, T> {
    /// A view whose element `[b, h, t, i]` is `data[b · batch + h · head + t · token + i]`.
    pub fn new(data: &'a mut [T], strides: Strides) -> Self {
        ViewMut { data: Disjoint::new(data), start: 0, strides }
    }

    /// Gradients of queries, keys and values in one buffer `[b, t, (h + 2g) · e]`.
    ///
    /// # Panics
    /// As [`View::fused`].
    pub fn fused(data: &'a mut [T], shape: &Shape) -> [Self; 3] {
        let (strides, starts) = fused(shape);
        assert_eq!(data.len(), shape.batch * strides.batch, "attention: length of fused gradients");
        // Together the three cover every token's columns once, so no row of one overlaps one of another.
        let data = Disjoint::new(data);
        starts.map(|start| ViewMut { data: data.share(), start, strides })
    }

    pub(super) fn check(&self, name: &str, dims: [usize; 4]) {
        let needed = self.start + self.strides.extent(dims);
        let found = self.data.len();
        assert!(
            dims.contains(&0) || found >= needed,
            "attention: {name} {dims:?} needs {needed} elements, found {found}"
        );
        assert!(
            self.strides.rows_are_disjoint(dims),
            "attention: rows of {name} {dims:?} overlap with {:?}",
            self.strides
        );
    }

    /// # Safety
    /// After `check` with dimensions that hold `index`, and while no one else uses this row.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller vouches for the row")]
    pub(super) unsafe fn row(&self, index: [usize; 3], e: usize) -> &mut [T] {
        let start = self.start + self.strides.offset(index);
        // SAFETY: the caller's promise; rows do not overlap by `check`.
        unsafe { self.data.slice(start..start + e) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_rows_are_noticed() {
        for (batch, head, token, fits) in [
            (30, 10, 2, true),
            (30, 2, 6, true),
            (30, 2, 5, false),
            (29, 10, 2, false),
            (30, 1, 6, false),
            (0, 2, 6, false),
        ] {
            let found = Strides { batch, head, token }.rows_are_disjoint([2, 3, 5, 2]);
            assert_eq!(found, fits, "{batch} {head} {token}");
        }
        assert!(Strides { batch: 0, head: 0, token: 2 }.rows_are_disjoint([1, 1, 5, 2]));
    }

    #[test]
    #[should_panic(expected = "is past the address space")]
    fn strides_that_wrap_around_are_refused() {
        let strides = Strides { batch: 0, head: 0, token: usize::MAX / 2 + 1 };
        View::new(&[0.0; 8], strides).check("q", [1, 1, 3, 2]);
    }

    #[test]
    #[should_panic(expected = "attention: out [2, 3, 5, 2] needs 60 elements, found 59")]
    fn a_short_buffer_is_refused() {
        ViewMut::new(&mut [0.0; 59], Strides::heads_first(3, 5, 2)).check("out", [2, 3, 5, 2]);
    }

    #[test]
    fn fused_parts_lie_behind_one_another() {
        let shape = Shape { batch: 1, heads: 2, kv_heads: 1, queries: 2, keys: 2, head_dim: 3 };
        let data: Vec<usize> = (0..24).collect();
        let [q, k, v] = View::fused(&data, &shape);
        assert_eq!([q.row([0, 1, 1], 3)[0], k.row([0, 0, 1], 3)[0], v.row([0, 0, 0], 3)[2]], [15, 18, 11]);
    }
}
