//! The kernels against the formula, their adjoint against finite differences, on every path.

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
            assert!((y.f64() - want).abs() < 4.0 * tolerance::<T>(), "into[{i}]: expected {want}, found {y}");
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
