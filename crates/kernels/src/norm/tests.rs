//! Norms against their formula and finite differences.

use super::*;
use crate::testing::*;

/// The formula, in f64.
fn reference(centred: bool, u: &[f64], gain: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let d = gain.len();
    u.chunks(d)
        .flat_map(|row| {
            let mean = if centred { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
            let var = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / d as f64;
            row.iter()
                .zip(gain.iter().zip(bias))
                .map(move |(v, (g, b))| (v - mean) / (var + eps).sqrt() * g + b)
        })
        .collect()
}

struct Case<T> {
    centred: bool,
    rows: usize,
    x: Vec<T>,
    delta: Option<Vec<T>>,
    gain: Vec<T>,
    bias: Option<Vec<T>>,
}

fn case<T: Element>(centred: bool, rows: usize, d: usize, add: bool) -> Case<T> {
    let bias = (centred && add).then(|| numbers(4, d));
    let delta = add.then(|| numbers(2, rows * d));
    Case { centred, rows, x: numbers(1, rows * d), delta, gain: numbers(3, d), bias }
}

const EPS: f64 = 1e-3;

impl<T: Element> Case<T> {
    /// y, the normed rows u, mean, rstd.
    fn run(&self) -> [Vec<T>; 4] {
        let n = self.x.len();
        let (mut y, mut sum, mut mean, mut rstd) = (junk(n), junk(n), junk(self.rows), junk(self.rows));
        let add = self.delta.as_ref().map(|delta| ResidualAdd { delta, sum: &mut sum });
        let (x, gain, bias, eps) = (&self.x[..], &self.gain[..], self.bias.as_deref(), T::of(EPS));
        if self.centred {
            layer_norm(LayerNorm { x, add, gain, bias, eps, y: &mut y, mean: &mut mean, rstd: &mut rstd });
        } else {
            mean.clear();
            rms_norm(RmsNorm { x, add, gain, eps, y: &mut y, rstd: &mut rstd });
        }
        [y, if self.delta.is_some() { sum } else { self.x.clone() }, mean, rstd]
    }

    /// dx, dgain, dbias, each stored over junk and then added once more.
    fn run_adjoint(&self, dy: &[T], dsum: Option<&[T]>) -> [Vec<T>; 3] {
        let [_, u, mean, rstd] = self.run();
        let d = self.gain.len();
        let (mut dx, mut dgain, mut dbias) = (junk(u.len()), junk(d), junk(d));
        for write in [Write::Store, Write::Add] {
            let n = NormAdjoint {
                x: &u,
                gain: &self.gain,
                mean: &mean,
                rstd: &rstd,
                dy,
                dsum,
                dx: Some(Dest { data: &mut dx, write }),
                dgain: Some(Dest { data: &mut dgain, write }),
                dbias: self.centred.then_some(Dest { data: &mut dbias, write }),
            };
            if self.centred { layer_norm_adjoint(n) } else { rms_norm_adjoint(n) }
        }
        [dx, dgain, dbias]
    }
}

fn check_values<T: Element>() {
    for (rows, d) in [(0, 3), (1, 1), (2, 7), (5, 16), (3, 37), (700, 33)] {
        for (centred, add) in [(true, true), (true, false), (false, true), (false, false)] {
            let c = case::<T>(centred, rows, d, add);
            let [y, u, ..] = same_bits_on_any_threads_of(|| c.run());
            let wide = |v: &[T]| v.iter().map(|v| v.f64()).collect::<Vec<_>>();
            let sums: Vec<T> = match &c.delta {
                None => c.x.clone(),
                Some(delta) => c.x.iter().zip(delta).map(|(&a, &b)| a + b).collect(),
            };
            close("sum", &u, &sums, 0.0);
            let bias = c.bias.as_ref().map_or(vec![0.0; d], |b| wide(b));
            let want = reference(centred, &wide(&u), &wide(&c.gain), &bias, EPS);
            close("y", &wide(&y), &want, 4.0 * tolerance::<T>());
        }
    }
}

fn same_bits_on_any_threads_of<T: Element>(f: impl Fn() -> [Vec<T>; 4]) -> [Vec<T>; 4] {
    same_bits_on_any_threads(|| f().concat());
    f()
}

#[test]
fn values_agree_with_the_formula_on_every_path() {
    on_every_isa(check_values::<f32>);
    on_every_isa(check_values::<f64>);
}

#[test]
fn adjoints_agree_with_finite_differences() {
    for (centred, rows, d) in [(true, 3, 7), (false, 3, 7), (true, 1, 19), (false, 2, 16), (true, 37, 2)] {
        let c = case::<f64>(centred, rows, d, true);
        let (dy, dsum) = (numbers::<f64>(8, rows * d), numbers::<f64>(9, rows * d));
        let loss = |c: &Case<f64>| {
            let [y, u, ..] = c.run();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            2.0 * (dot(&y, &dy) + dot(&u, &dsum)) // stored and added: twice the gradient
        };
        let [dx, dgain, dbias] = c.run_adjoint(&dy, Some(&dsum));
        check_gradient("dx", &c.x, &dx, |x| loss(&Case { x: x.to_vec(), ..case(centred, rows, d, true) }));
        check_gradient("dgain", &c.gain, &dgain, |g| {
            loss(&Case { gain: g.to_vec(), ..case(centred, rows, d, true) })
        });
        if let Some(bias) = &c.bias {
            let with = |b: &[f64]| loss(&Case { bias: Some(b.to_vec()), ..case(centred, rows, d, true) });
            check_gradient("dbias", bias, &dbias, with);
        }
    }
}

#[test]
fn adjoints_give_the_same_bits_on_any_threads_and_nearly_the_same_on_any_path() {
    let c = case::<f32>(true, 211, 37, true);
    let dy = numbers::<f32>(8, 211 * 37);
    let want = isa::with(Isa::Scalar, || c.run_adjoint(&dy, None).concat());
    on_every_isa(|| {
        let got = same_bits_on_any_threads(|| c.run_adjoint(&dy, None).concat());
        close("adjoint", &got, &want, 2e-5); // sums of 211 rows
    });
}

#[test]
fn an_infinite_or_missing_number_spoils_its_own_row_only() {
    let mut c = case::<f32>(true, 3, 7, false);
    c.x[8] = f32::INFINITY;
    let [y, ..] = c.run();
    assert!(y[7..14].iter().all(|v| v.is_nan()));
    assert!(y[..7].iter().chain(&y[14..]).all(|v| v.is_finite()));
}
