//! Keys and values as attention reads them: as numbers, or in the block formats of [`blocks`](crate::blocks), as a cache
//! holds them to take less memory and less time to read.
//!
//! A row of `e` numbers in blocks is filled up to whole blocks; what it is filled with is not looked at. One tile of keys
//! at a time is decoded, so the whole is never held as numbers.
//!
//! ```
//! use formwork_kernels::{attention::{Blocks, Strides}, blocks::Format};
//!
//! // 3 tokens of 2 heads of width 48, which takes two blocks: [b, heads, tokens, bytes of a row].
//! let row = Blocks::row_bytes(Format::Q8_0, 48);
//! assert_eq!(row, 68);
//! let data = vec![0; 2 * 3 * row];
//! let keys = Blocks::new(&data, Format::Q8_0, Strides::heads_first(2, 3, row));
//! # let _ = keys;
//! ```

use super::{
    Strides, View,
    tile::{Lanes, Matrix, WIDTH},
};
use crate::{
    Element,
    blocks::{self, Format},
    scratch,
};

/// Keys or values `[b, g, s, e]`; a [`View`] becomes one by `into()`.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a, T> {
    /// Numbers of the type that attention computes in.
    Plain(View<'a, T>),
    /// Blocks, which stand for `f32`s.
    Blocks(Blocks<'a>),
}

impl<'a, T> From<View<'a, T>> for Stored<'a, T> {
    fn from(view: View<'a, T>) -> Self {
        Stored::Plain(view)
    }
}

/// A strided view of rows in blocks.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    data: &'a [u8],
    format: Format,
    strides: Strides,
}

impl<'a> Blocks<'a> {
    /// A view whose row `[b, h, t]` begins at byte `b · batch + h · head + t · token`.
    pub fn new(data: &'a [u8], format: Format, strides: Strides) -> Self {
        Blocks { data, format, strides }
    }

    /// Bytes of a row of `e` numbers, filled up to whole blocks.
    pub fn row_bytes(format: Format, e: usize) -> usize {
        e.div_ceil(format.block()) * format.block_bytes()
    }

    /// The format of the blocks.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The bytes of `n` rows from `[batch, head, token]` on, and those from one to the next.
    #[inline(always)]
    pub(super) fn rows(&self, at: [usize; 3], n: usize, e: usize) -> (&'a [u8], usize) {
        let (step, row) = (self.strides.token, Self::row_bytes(self.format, e));
        let start = self.strides.offset(at);
        (if n == 0 { &[] } else { &self.data[start..][..(n - 1) * step + row] }, step)
    }

    /// Decodes `n` rows from `[batch, head, token]` on into rows of `row` numbers.
    fn load<T: Element>(&self, at: [usize; 3], n: usize, e: usize, to: &mut [T], row: usize) {
        let (bytes, step) = self.rows(at, n, e);
        let (row_bytes, whole) = (Self::row_bytes(self.format, e), e.next_multiple_of(self.format.block()));
        if step == row_bytes && whole == row {
            self.decode(bytes, &mut to[..n * row], n * row);
            return;
        }
        for (i, to) in to.chunks_mut(row).take(n).enumerate() {
            self.decode(&bytes[i * step..][..row_bytes], &mut to[..e], whole);
        }
    }

    /// Decodes whole blocks, `whole` numbers, of which the first `to.len()` are wanted.
    fn decode<T: Element>(&self, bytes: &[u8], to: &mut [T], whole: usize) {
        scratch::with(whole, |numbers: &mut [f32]| {
            blocks::decode(self.format, bytes, numbers);
            for (to, &x) in to.iter_mut().zip(&*numbers) {
                *to = T::of(f64::from(x));
            }
        });
    }
}

impl<'a, T: Element> Stored<'a, T> {
    pub(super) fn check(&self, name: &str, dims: [usize; 4]) {
        match self {
            Stored::Plain(view) => view.check(name, dims),
            Stored::Blocks(blocks) => {
                let [b, g, s, e] = dims;
                let bytes = [b, g, s, Blocks::row_bytes(blocks.format, e)];
                View::new(blocks.data, blocks.strides).check(name, bytes);
            }
        }
    }

    /// Copies or decodes `n` rows from `[batch, head, token]` on to a tile whose rows are `row` numbers apart; what lies
    /// in a row past `e` is of no account.
    #[inline(always)]
    pub(super) fn load(&self, at: [usize; 3], n: usize, e: usize, tile: &mut [Lanes<T>]) {
        let row = e.next_multiple_of(WIDTH);
        let to = Matrix::flat(tile);
        match self {
            Stored::Plain(view) => {
                for (from, to) in view.matrix(at, n, e).rows(n, e).zip(to.chunks_exact_mut(row)) {
                    let (whole, tail) = from.as_chunks::<16>();
                    for (to, from) in to.as_chunks_mut().0.iter_mut().zip(whole) {
                        *to = *from;
                    }
                    for (to, &from) in to[e - tail.len()..].iter_mut().zip(tail) {
                        *to = from;
                    }
                }
            }
            Stored::Blocks(blocks) => blocks.load(at, n, e, to, row),
        }
    }

    /// Asks for `n` rows from `[batch, head, token]` on to be near when [`Stored::load`] comes for them.
    #[inline(always)]
    pub(super) fn prefetch(&self, [batch, head, token]: [usize; 3], n: usize, e: usize) {
        if let Stored::Plain(view) = self {
            (token..token + n).for_each(|token| view.prefetch([batch, head, token], e));
        }
    }

    /// A row of numbers, decoded where need be: for the reference.
    pub(super) fn row(&self, at: [usize; 3], e: usize) -> Vec<T> {
        match self {
            Stored::Plain(view) => view.row(at, e).to_vec(),
            Stored::Blocks(blocks) => {
                let mut row = vec![T::zero(); e];
                blocks.load(at, 1, e, &mut row, e);
                row
            }
        }
    }
}
