//! What the tests of this crate share: data, comparisons, finite differences, every path and thread count.

use crate::{Element, isa, rng, team};

/// Rounding of a few dozen f32 operations, relative to the larger of the value and one.
pub(crate) const F32: f64 = 5e-6;
/// The same for f64; the fast functions are libm's there.
pub(crate) const F64: f64 = 1e-12;

/// The tolerance of a type.
pub(crate) fn tolerance<T: Element>() -> f64 {
    if size_of::<T>() == 4 { F32 } else { F64 }
}

/// `n` numbers in [−2, 2), the same for every type.
pub(crate) fn numbers<T: Element>(seed: u64, n: usize) -> Vec<T> {
    (0..n).map(|i| T::of(rng::unit(seed, i as u64) * 4.0 - 2.0)).collect()
}

/// Junk that a storing kernel must not read.
pub(crate) fn junk<T: Element>(n: usize) -> Vec<T> {
    vec![T::nan(); n]
}

/// Every element within `tolerance` of the wanted one, relative to the larger of it and one; NaN matches NaN.
#[track_caller]
pub(crate) fn close<T: Element>(what: &str, got: &[T], want: &[T], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let (g, w) = (g.f64(), w.f64());
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= tolerance * w.abs().max(1.0);
        assert!(same, "{what}[{i}]: expected {w}, found {g}");
    }
}

/// Compares `grad` with central differences of `f` at `x`: step 1e-6, 1e-5 relative.
#[track_caller]
pub(crate) fn check_gradient(what: &str, x: &[f64], grad: &[f64], f: impl Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), grad.len(), "{what}: lengths");
    let mut x = x.to_vec();
    for i in 0..x.len() {
        let (old, step) = (x[i], 1e-6);
        x[i] = old + step;
        let up = f(&x);
        x[i] = old - step;
        let down = f(&x);
        x[i] = old;
        let slope = (up - down) / (2.0 * step);
        let error = (slope - grad[i]).abs() / slope.abs().max(grad[i].abs()).max(1e-1);
        assert!(error < 1e-5, "{what}[{i}]: finite differences {slope}, adjoint {}", grad[i]);
    }
}

/// Runs `f` on every instruction set of this machine.
pub(crate) fn on_every_isa(f: impl Fn()) {
    for set in isa::Isa::available() {
        isa::with(set, &f);
    }
}

/// `f` must give the same bits for 1, 2 and 3 threads; returns them.
#[track_caller]
pub(crate) fn same_bits_on_any_threads<T: Element>(f: impl Fn() -> Vec<T>) -> Vec<T> {
    let bits = |v: &[T]| v.iter().map(|v| v.f64().to_bits()).collect::<Vec<_>>();
    let one = team::with_threads(1, &f);
    for n in [2, 3] {
        assert_eq!(bits(&one), bits(&team::with_threads(n, &f)), "1 and {n} threads differ");
    }
    one
}
