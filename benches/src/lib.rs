//! What the benches share: inputs that look like activations, the comparison before the clock starts, the ceilings.
#![forbid(unsafe_code)]

use formwork::kernels::{isa, roofline::Roofline, team};

/// Numbers between −1 and 1 without a pattern a multiplication could profit from.
pub fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Refuses to time a wrong answer.
///
/// # Panics
/// If a number is further from the expected one than `tolerance` times the largest.
pub fn check(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance * largest, "{what}: {found} for {expected} at {i}");
    }
}

/// Refuses to time a wrong product `y = x·Wᵀ`, `W` being `[n, k]`: about 500 of its numbers against sums in `f64`.
///
/// # Panics
/// As [`check`].
pub fn check_linear(what: &str, y: &[f32], x: &[f32], w: &[f32], [n, k]: [usize; 2], tolerance: f32) {
    let product = |at: usize| {
        let (row, col) = (at / n, at % n);
        let pairs = x[row * k..][..k].iter().zip(&w[col * k..][..k]);
        pairs.map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32
    };
    let places = || (0..y.len()).step_by((y.len() / 500).max(1));
    let found: Vec<f32> = places().map(|at| y[at]).collect();
    check(what, &found, &places().map(product).collect::<Vec<_>>(), tolerance);
}

/// Whether every bench is to run once, to see that it does: small sizes are enough then.
pub fn is_test() -> bool {
    std::env::args().any(|arg| arg == "--test") || !std::env::args().any(|arg| arg == "--bench")
}

/// Says what the machine can do at most, since no figure means anything without; nothing in a test.
///
/// Throughput of arithmetic is in operations, a multiply-add counted as two, so criterion's "Gelem/s" reads against the
/// Gop/s here; that of memory in bytes, whose GiB/s are 7% more than GB/s.
pub fn print_roofline() {
    if !is_test() {
        println!("roofline: {}", Roofline::measure(team::threads()));
        println!("dispatch: {}", isa::current().name());
    }
}
