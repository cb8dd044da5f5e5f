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

/// `base^(−2i/w)` for `i < w/2`.
///
/// # Panics
/// If the width is odd.
pub fn inverse_frequencies(width: usize, base: f64) -> Vec<f64> {
    assert!(width.is_multiple_of(2), "rope: expected an even width, found {width}");
    (0..width / 2).map(|i| libm::pow(base, -2.0 * i as f64 / width as f64)).collect()
}

/// How fast each pair turns, and what its cosines and sines are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spectrum<'a> {
    /// Radians per position of each pair: `[w/2]`.
    pub frequencies: &'a [f64],
    /// 1 for a rotation; any other number stretches what is turned, as YaRN does.
    pub scale: f64,
}

/// `scale` times the cosines and sines of `(first + p) · frequencies[i]`, for as many positions `p` as the tables hold.
///
/// # Panics
/// If the tables differ in length or hold a part of a row.
pub fn fill_table<T: Element>(spectrum: &Spectrum<'_>, first: f64, cos: &mut [T], sin: &mut [T]) {
    let &Spectrum { frequencies, scale } = spectrum;
    let pairs = frequencies.len();
    assert_eq!(cos.len(), sin.len(), "rope: tables differ in length");
    if pairs == 0 {
        assert!(cos.is_empty(), "rope: tables of {} elements without frequencies", cos.len());
        return;
    }
    assert!(cos.len().is_multiple_of(pairs), "rope: {} elements are no rows of {pairs}", cos.len());
    let rows = cos.chunks_exact_mut(pairs).zip(sin.chunks_exact_mut(pairs));
    for (p, (cos, sin)) in rows.enumerate() {
        for (i, &frequency) in frequencies.iter().enumerate() {
            let (s, c) = libm::sincos((first + p as f64) * frequency);
            (cos[i], sin[i]) = (T::of(scale * c), T::of(scale * s));
        }
    }
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
mod tests {
    use super::*;
    use crate::testing::*;

    struct Case<T> {
        cos: Vec<T>,
        sin: Vec<T>,
        positions: Vec<u32>,
        width: usize,
        heads: usize,
        head_dim: usize,
        stride: usize,
        pairs: Pairs,
    }

    const BASE: f64 = 100.0;

    fn cases<T: Element>() -> Vec<Case<T>> {
        let mut all = vec![];
        for pairs in [Pairs::Halves, Pairs::Interleaved] {
            for (tokens, heads, head_dim, width, gap) in [
                (5, 3, 10, 10, 0),
                (5, 3, 7, 4, 2),
                (1, 1, 2, 2, 0),
                (0, 2, 4, 4, 0),
                (3, 2, 5, 0, 0),
                (300, 2, 64, 64, 7),
            ] {
                let (mut cos, mut sin) = (junk(11 * width / 2), junk(11 * width / 2));
                let frequencies = inverse_frequencies(width, BASE);
                fill_table(&Spectrum { frequencies: &frequencies, scale: 1.0 }, 0.0, &mut cos, &mut sin);
                let positions = (0..tokens).map(|i| (i * 7 % 11) as u32).collect();
                all.push(Case {
                    cos,
                    sin,
                    positions,
                    width,
                    heads,
                    head_dim,
                    stride: heads * head_dim + gap,
                    pairs,
                });
            }
        }
        all
    }

    impl<T: Element> Case<T> {
        fn rope(&self) -> Rope<'_, T> {
            let Case { cos, sin, positions, width, heads, head_dim, stride, pairs } = self;
            let (width, heads, head_dim, stride) = (*width, *heads, *head_dim, *stride);
            Rope { cos, sin, width, pairs: *pairs, positions, heads, head_dim, stride }
        }

        fn len(&self) -> usize {
            self.positions.len() * self.stride
        }

        /// The formula, in f64.
        fn reference(&self, x: &[T]) -> Vec<T> {
            let mut y = x.to_vec();
            for (token, &p) in self.positions.iter().enumerate() {
                for head in 0..self.heads {
                    let at = token * self.stride + head * self.head_dim;
                    for i in 0..self.width / 2 {
                        let (sin, cos) =
                            (f64::from(p) * BASE.powf(-2.0 * i as f64 / self.width as f64)).sin_cos();
                        let (i, j) = match self.pairs {
                            Pairs::Halves => (at + i, at + i + self.width / 2),
                            Pairs::Interleaved => (at + 2 * i, at + 2 * i + 1),
                        };
                        y[i] = T::of(x[i].f64() * cos - x[j].f64() * sin);
                        y[j] = T::of(x[i].f64() * sin + x[j].f64() * cos);
                    }
                }
            }
            y
        }
    }

    fn check_values<T: Element>() {
        for case in cases::<T>() {
            let x = numbers::<T>(1, case.len());
            let want = case.reference(&x);
            let got = same_bits_on_any_threads(|| {
                let mut y = x.clone();
                rotate(&case.rope(), &mut y, Direction::Forward);
                y
            });
            close("in place, gaps untouched", &got, &want, tolerance::<T>());
            let mut y = vec![T::zero(); case.len()];
            rotate_into(&case.rope(), &x, Dest::store(&mut y), Direction::Forward);
            rotate_into(&case.rope(), &x, Dest::add(&mut y), Direction::Forward);
            for (i, (y, w)) in y.iter().zip(&want).enumerate() {
                let turned = i % case.stride < case.heads * case.head_dim;
                let want = if turned { 2.0 * w.f64() } else { 0.0 };
                assert!(
                    (y.f64() - want).abs() < 4.0 * tolerance::<T>(),
                    "into[{i}]: expected {want}, found {y}"
                );
            }
            let mut back = got;
            rotate(&case.rope(), &mut back, Direction::Backward);
            close("there and back", &back, &x, tolerance::<T>());
        }
    }

    #[test]
    fn values_agree_with_the_formula_on_every_path() {
        on_every_isa(check_values::<f32>);
        on_every_isa(check_values::<f64>);
    }

    #[test]
    fn the_adjoint_agrees_with_finite_differences() {
        for case in cases::<f64>().iter().filter(|c| c.len() < 1000) {
            let (x, dy) = (numbers::<f64>(1, case.len()), numbers::<f64>(2, case.len()));
            let mut dx = dy.clone();
            rotate(&case.rope(), &mut dx, Direction::Backward);
            check_gradient("dx", &x, &dx, |x| {
                let mut y = x.to_vec();
                rotate(&case.rope(), &mut y, Direction::Forward);
                y.iter().zip(&dy).map(|(a, b)| a * b).sum()
            });
        }
    }

    #[test]
    fn a_score_depends_on_the_distance_alone() {
        let case = &cases::<f64>()[0];
        let score = |p: u32, q: u32| {
            let (mut a, mut b) = (numbers::<f64>(1, 10), numbers::<f64>(2, 10));
            for (x, p) in [(&mut a, p), (&mut b, q)] {
                rotate(&Rope { positions: &[p], heads: 1, ..case.rope() }, x, Direction::Forward);
            }
            a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>()
        };
        assert!((score(2, 5) - score(7, 10)).abs() < 1e-12);
        assert!((score(2, 5) - score(2, 6)).abs() > 1e-3);
    }

    #[test]
    fn far_positions_keep_their_angle_in_f32() {
        let (mut cos, mut sin) = ([0.0_f32], [0.0_f32]);
        fill_table(&Spectrum { frequencies: &[1.0], scale: 1.0 }, 1_000_003.0, &mut cos, &mut sin);
        assert!((f64::from(cos[0]) - 1_000_003.0_f64.cos()).abs() < 1e-7);
        assert!((f64::from(sin[0]) - 1_000_003.0_f64.sin()).abs() < 1e-7);
    }

    #[test]
    fn a_scale_stretches_there_and_back() {
        let (mut cos, mut sin) = ([0.0_f64; 4], [0.0; 4]);
        fill_table(&Spectrum { frequencies: &[0.5], scale: 1.5 }, 0.0, &mut cos, &mut sin);
        let layout = Rope {
            cos: &cos,
            sin: &sin,
            width: 2,
            pairs: Pairs::Halves,
            positions: &[3],
            heads: 1,
            head_dim: 2,
            stride: 2,
        };
        let mut x = [2.0, 0.0];
        rotate(&layout, &mut x, Direction::Forward);
        close("stretched", &x, &[3.0 * 1.5_f64.cos(), 3.0 * 1.5_f64.sin()], 1e-15);
        rotate(&layout, &mut x, Direction::Backward);
        close("the adjoint of a factor is the factor", &x, &[4.5, 0.0], 1e-15);
    }

    #[test]
    #[should_panic(expected = "position 11 of 11")]
    fn a_position_past_the_tables_is_refused() {
        let case = &cases::<f64>()[0];
        rotate(&Rope { positions: &[11], ..case.rope() }, &mut [0.0; 30], Direction::Forward);
    }
}
