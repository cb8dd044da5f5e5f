//! Numbers to test with: the same for every run, machine and type.
//!
//! Each is rounded to the nearest f32, so that an f32 and an f64 run of the same op see the same input.
//!
//! ```
//! use formwork_testkit::normals;
//! let x = normals(7, &[2, 3]);
//! assert_eq!(x, normals(7, &[2, 3]));
//! assert_eq!(x[[1, 2]] as f32 as f64, x[[1, 2]]);
//! assert!(x.iter().all(|v| v.abs() < 9.0));
//! ```

use formwork_kernels::{Element, rng};
use formwork_tensor::{DType, Pool, Tensor, dispatch};
use ndarray::{ArrayD, IxDyn};

/// From where an op's input is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Domain {
    /// Standard normal numbers.
    #[default]
    Normal,
    /// Uniform in [0.5, 2): where logarithms, roots and quotients are smooth.
    Positive,
    /// Normal numbers moved out of [−0.1, 0.1]: for functions with a kink or a pole at zero.
    AwayFromZero,
    /// Uniform between two bounds.
    Uniform {
        /// The least number.
        low: f64,
        /// What all numbers stay below.
        high: f64,
    },
}

/// Standard normal numbers from a seed, of shape `dims`.
pub fn normals(seed: u64, dims: &[usize]) -> ArrayD<f64> {
    sample(Domain::Normal, seed, dims)
}

/// Numbers of a domain from a seed, of shape `dims`.
pub fn sample(domain: Domain, seed: u64, dims: &[usize]) -> ArrayD<f64> {
    let number = |i: u64| match domain {
        Domain::Normal => rng::normal(seed, i),
        Domain::Positive => 0.5 + 1.5 * rng::unit(seed, i),
        Domain::AwayFromZero => {
            let v = rng::normal(seed, i);
            v + 0.1_f64.copysign(v)
        }
        Domain::Uniform { low, high } => low + (high - low) * rng::unit(seed, i),
    };
    let count: usize = dims.iter().product();
    let numbers = (0..count as u64).map(|i| f64::from(number(i) as f32)).collect();
    ArrayD::from_shape_vec(IxDyn(dims), numbers).expect("as many numbers as the shape holds")
}

/// A row-major tensor of the given type with an array's numbers, its memory from `pool`.
///
/// # Panics
/// If the array has more axes than a tensor can have.
pub fn tensor(values: &ArrayD<f64>, dtype: DType, pool: Option<&Pool>) -> Tensor {
    dispatch!(dtype, T => {
        let mut buffer = formwork_tensor::Buffer::<T>::new(values.len(), pool);
        for (to, from) in buffer.iter_mut().zip(values) {
            *to = <T as Element>::of(*from);
        }
        Tensor::from_buffer(buffer, values.shape()).expect("a shape that a tensor can have")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_domain_keeps_its_bounds() {
        let check = |domain, holds: fn(f64) -> bool| {
            let x = sample(domain, 3, &[1000]);
            assert!(x.iter().all(|&v| holds(v)), "{domain:?}");
            assert!(x.iter().any(|&v| v != x[0]), "{domain:?} is constant");
        };
        check(Domain::Normal, f64::is_finite);
        check(Domain::Positive, |v| (0.5..=2.0).contains(&v));
        check(Domain::AwayFromZero, |v| v.abs() >= 0.0999);
        check(Domain::Uniform { low: -3.0, high: -2.0 }, |v| (-3.0..=-2.0).contains(&v));
    }

    #[test]
    fn normal_numbers_have_mean_0_and_variance_1() {
        let x = normals(11, &[10_000]);
        let mean = x.mean().unwrap();
        let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / x.len() as f64;
        // Four standard errors of each at this count.
        assert!(mean.abs() < 0.04, "{mean}");
        assert!((variance - 1.0).abs() < 0.06, "{variance}");
    }
}
