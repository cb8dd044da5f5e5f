//! Rotary position embedding: pairs of a head's dimensions are turned by angles that grow with the position.
//!
//! Pair `i` of a row at position `p` is turned by `p · base^(−2i/w)`: `(a, b) → (a cos − b sin, a sin + b cos)`,
//! `w` the rotary width. The first `w ≤ e` dimensions of each head are turned, the rest pass through.
//! Rows: `[tokens, heads, e]` with a stride between tokens; `cos, sin`: `[positions, w/2]`.
//!
//! Su et al. 2021, <https://arxiv.org/abs/2104.09864>. Angles are computed in f64 and their sines rounded
//! afterwards: in f32 position 100 000 alone is uncertain by 0.008 radians.
//!
//! ```
//! use formwork_kernels::rope::{fill_table, inverse_frequencies, rotate, Direction, Pairs, Rope, Spectrum};
//!
//! let frequencies = inverse_frequencies(2, 10_000.0); // one pair, turned by the position itself
//! let (mut cos, mut sin) = ([0.0_f64; 4], [0.0; 4]);
//! fill_table(&Spectrum { frequencies: &frequencies, scale: 1.0 }, 0.0, &mut cos, &mut sin);
//! let rope = Rope { cos: &cos, sin: &sin, width: 2, pairs: Pairs::Halves, positions: &[3], heads: 1, head_dim: 2, stride: 2 };
//! let mut x = [1.0, 0.0];
//! rotate(&rope, &mut x, Direction::Forward);
//! assert!((x[0] - 3.0_f64.cos()).abs() < 1e-15 && (x[1] - 3.0_f64.sin()).abs() < 1e-15);
//! ```

mod table;

pub use table::{Spectrum, fill_table, inverse_frequencies};

use crate::{
    Element, Write,
    dest::Dest,
    disjoint::{Disjoint, for_row_ranges, rows_per_task},
    isa::{self, Isa},
};

/// Which two dimensions of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pairs {
    /// `i` with `i + w/2`: GPT-NeoX, LLaMA as published for transformers.
    Halves,
    /// `2i` with `2i + 1`: the paper, GPT-J, LLaMA as published by Meta.
    Interleaved,
}

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// By the angle: the embedding.
    Forward,
    /// By the opposite angle: the adjoint, which is also the inverse unless the tables have a scale.
    Backward,
}

/// The tables and the layout of the rows to turn.
#[derive(Clone, Copy, Debug)]
pub struct Rope<'a, T> {
    /// Cosines: `[positions, w/2]`.
    pub cos: &'a [T],
    /// Sines: `[positions, w/2]`.
    pub sin: &'a [T],
    /// Rotary width `w`: even, at most `head_dim`.
    pub width: usize,
    /// How dimensions are paired.
    pub pairs: Pairs,
    /// The position of each token: a row of the tables.
    pub positions: &'a [u32],
    /// Consecutive heads of each token that are turned.
    pub heads: usize,
    /// Head width `e`.
    pub head_dim: usize,
    /// Elements from one token to the next: at least `heads · head_dim`; more when, say, values follow the keys.
    pub stride: usize,
}

/// Turns the rows of `x` in place. The adjoint is the same with [`Direction::Backward`].
///
/// Elements between the turned heads of one token and the next token are left alone.
///
/// # Panics
/// If lengths do not fit or a position is past the tables.
pub fn rotate<T: Element>(rope: &Rope<'_, T>, x: &mut [T], direction: Direction) {
    rope.check(x.len());
    let e = rope.head_dim;
    let x = Disjoint::new(x);
    for_row_ranges(rope.positions.len(), rows_per_task(rope.heads * e), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |isa| {
                for token in range {
                    let (cos, sin) = rope.angles(token);
                    let start = token * rope.stride;
                    // SAFETY: this token belongs to this task alone, and tokens do not overlap (`check`).
                    let heads = unsafe { x.slice(start..start + rope.heads * e) };
                    for head in heads.chunks_exact_mut(e) {
                        turn(isa, &mut head[..rope.width], rope.pairs, (cos, sin), direction);
                    }
                }
            },
        );
    });
}

/// Turns the rows of `x` into `y`, which has the same layout. The adjoint is the same with [`Direction::Backward`].
///
/// # Panics
/// As [`rotate`], and if lengths differ.
pub fn rotate_into<T: Element>(rope: &Rope<'_, T>, x: &[T], y: Dest<'_, T>, direction: Direction) {
    let Dest { data: y, write } = y;
    rope.check(x.len());
    assert_eq!(x.len(), y.len(), "rope: input and output differ in length");
    let e = rope.head_dim;
    let y = Disjoint::new(y);
    for_row_ranges(rope.positions.len(), rows_per_task(rope.heads * e), |_, range| {
        isa::dispatch(
            #[inline(always)]
            |isa| {
                for token in range {
                    let (cos, sin) = rope.angles(token);
                    let span = token * rope.stride..token * rope.stride + rope.heads * e;
                    // SAFETY: this token belongs to this task alone, and tokens do not overlap (`check`).
                    let heads = unsafe { y.slice(span.clone()) };
                    for (x, y) in x[span].chunks_exact(e).zip(heads.chunks_exact_mut(e)) {
                        turn_into(isa, x, (y, write), (rope.pairs, rope.width), (cos, sin), direction);
                    }
                }
            },
        );
    });
}

impl<T: Element> Rope<'_, T> {
    fn check(&self, len: usize) {
        let half = self.width / 2;
        assert!(
            self.width.is_multiple_of(2) && self.width <= self.head_dim && self.head_dim > 0,
            "rope: expected an even width of at most {}, found {}",
            self.head_dim,
            self.width
        );
        assert_eq!(self.cos.len(), self.sin.len(), "rope: tables differ in length");
        let extent = self.heads * self.head_dim;
        assert!(self.stride >= extent, "rope: tokens of {extent} elements overlap at stride {}", self.stride);
        let needed = match self.positions.len() {
            0 => 0,
            n => (n - 1) * self.stride + extent,
        };
        assert!(len >= needed, "rope: expected {needed} elements, found {len}");
        for &p in self.positions {
            let rows = self.cos.len().checked_div(half).unwrap_or(usize::MAX);
            assert!((p as usize) < rows, "rope: position {p} of {rows}");
        }
    }

    #[inline(always)]
    fn angles(&self, token: usize) -> (&[T], &[T]) {
        let half = self.width / 2;
        let start = self.positions[token] as usize * half;
        (&self.cos[start..start + half], &self.sin[start..start + half])
    }
}

/// `(a, b)` turned by the angle or by its opposite.
#[inline(always)]
fn turned<T: Element>(isa: Isa, [a, b]: [T; 2], cos: T, sin: T, direction: Direction) -> [T; 2] {
    let sin = if direction == Direction::Forward { sin } else { -sin };
    [isa.mul_add(a, cos, -(b * sin)), isa.mul_add(a, sin, b * cos)]
}

#[inline(always)]
fn turn<T: Element>(isa: Isa, x: &mut [T], pairs: Pairs, (cos, sin): (&[T], &[T]), direction: Direction) {
    match pairs {
        Pairs::Halves => {
            let (a, b) = x.split_at_mut(cos.len());
            for ((a, b), (&cos, &sin)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
                [*a, *b] = turned(isa, [*a, *b], cos, sin, direction);
            }
        }
        Pairs::Interleaved => {
            for (pair, (&cos, &sin)) in x.as_chunks_mut::<2>().0.iter_mut().zip(cos.iter().zip(sin)) {
                *pair = turned(isa, *pair, cos, sin, direction);
            }
        }
    }
}

#[inline(always)]
fn turn_into<T: Element>(
    isa: Isa,
    x: &[T],
    (y, write): (&mut [T], Write),
    (pairs, width): (Pairs, usize),
    (cos, sin): (&[T], &[T]),
    direction: Direction,
) {
    let half = width / 2;
    let ((x, x_rest), (y, y_rest)) = (x.split_at(width), y.split_at_mut(width));
    match pairs {
        Pairs::Halves => {
            let ((xa, xb), (ya, yb)) = (x.split_at(half), y.split_at_mut(half));
            for i in 0..half {
                let [a, b] = turned(isa, [xa[i], xb[i]], cos[i], sin[i], direction);
                (ya[i], yb[i]) = (write.combine(ya[i], a), write.combine(yb[i], b));
            }
        }
        Pairs::Interleaved => {
            for (i, (x, y)) in x.as_chunks::<2>().0.iter().zip(y.as_chunks_mut::<2>().0).enumerate() {
                let [a, b] = turned(isa, *x, cos[i], sin[i], direction);
                *y = [write.combine(y[0], a), write.combine(y[1], b)];
            }
        }
    }
    for (y, &x) in y_rest.iter_mut().zip(x_rest) {
        *y = write.combine(*y, x);
    }
}

#[cfg(test)]
mod tests;
