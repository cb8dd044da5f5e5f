//! What the benches share: inputs that look like activations, and the comparison before the clock starts.
#![forbid(unsafe_code)]

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
