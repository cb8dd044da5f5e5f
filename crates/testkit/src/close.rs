//! Comparisons, and how far apart results may be.
//!
//! A difference is judged against the largest expected number of the array (at least 0.1): rounding errors of a sum
//! are as large as its terms, so an element that nearly cancels cannot be held to its own size.
//!
//! ```
//! use formwork_testkit::{F64, assert_close, difference};
//! assert_close(&[1.0, 2.0], &[1.0, 2.0 + 1e-15], F64, "two numbers");
//! let words = difference(&[1.0, 2.5], &[1.0, 2.0], F64).unwrap_err();
//! assert_eq!(words, "at [1]: expected 2, found 2.5; 1 of 2 differ by more than 1e-12 of 2");
//! ```

use formwork_kernels::Element;
use formwork_tensor::{Tensor, dispatch};
use ndarray::{ArrayBase, ArrayD, Data, Dimension};

/// Values of f32 ops: the rounding of some dozens of operations of 6e-8 each, or of an f32 approximation good to 4 ulp.
pub const F32: f64 = 5e-6;

/// Gradients of f32 ops: products of two results that each are off by [`F32`], and sums of them.
pub const F32_GRADIENT: f64 = 2e-5;

/// Values of f64 ops: as [`F32`], with a rounding of 1.1e-16, and some room for reordered sums.
pub const F64: f64 = 1e-12;

/// Gradients against central differences of step 1e-6: truncation gives about 1e-12, cancellation about 1e-9 for
/// results near 1, so a gradient that is off by 1e-5 is wrong.
pub const SLOPE: f64 = 1e-5;

/// Results are measured against their largest element, but not against less than this.
pub(crate) const FLOOR: f64 = 0.1;

/// Something with a shape and numbers: a tensor, an array, a slice.
pub trait Numbers {
    /// The numbers as f64.
    ///
    /// # Panics
    /// If a tensor's memory cannot be read.
    fn numbers(&self) -> ArrayD<f64>;
}

impl Numbers for Tensor {
    fn numbers(&self) -> ArrayD<f64> {
        dispatch!(self.dtype(), T => {
            let view = self.view::<T>().expect("host memory of the type just asked for");
            view.mapv(Element::f64)
        })
    }
}

impl<T: Element, S: Data<Elem = T>, D: Dimension> Numbers for ArrayBase<S, D> {
    fn numbers(&self) -> ArrayD<f64> {
        self.mapv(Element::f64).into_dyn()
    }
}

impl<T: Element> Numbers for [T] {
    fn numbers(&self) -> ArrayD<f64> {
        ndarray::ArrayView1::from(self).mapv(Element::f64).into_dyn()
    }
}

impl<T: Element> Numbers for Vec<T> {
    fn numbers(&self) -> ArrayD<f64> {
        self.as_slice().numbers()
    }
}

impl<T: Element, const N: usize> Numbers for [T; N] {
    fn numbers(&self) -> ArrayD<f64> {
        self.as_slice().numbers()
    }
}

/// Panics unless `found` has the shape of `expected` and is within `tolerance` of its largest number everywhere.
///
/// NaN is close to NaN alone, and an infinity to itself alone.
///
/// # Panics
/// With `what`, the first place that differs, and how many do.
#[track_caller]
pub fn assert_close(
    found: &(impl Numbers + ?Sized),
    expected: &(impl Numbers + ?Sized),
    tolerance: f64,
    what: &str,
) {
    if let Err(words) = difference(found, expected, tolerance) {
        panic!("{what}: {words}");
    }
}

/// [`assert_close`] as a `Result`.
///
/// # Errors
/// Where they differ, in words.
pub fn difference(
    found: &(impl Numbers + ?Sized),
    expected: &(impl Numbers + ?Sized),
    tolerance: f64,
) -> Result<(), String> {
    let (found, expected) = (found.numbers(), expected.numbers());
    if found.shape() != expected.shape() {
        return Err(format!("expected shape {:?}, found {:?}", expected.shape(), found.shape()));
    }
    let finite = expected.iter().filter(|v| v.is_finite());
    let scale = finite.fold(FLOOR, |largest, v| largest.max(v.abs()));
    let close = |f: f64, e: f64| f == e || (f.is_nan() && e.is_nan()) || (f - e).abs() <= tolerance * scale;
    let mut wrong = found.indexed_iter().zip(&expected).filter(|((_, f), e)| !close(**f, **e));
    let Some(((place, f), e)) = wrong.next() else { return Ok(()) };
    let (count, place) = (wrong.count() + 1, place.slice());
    let of = found.len();
    Err(format!(
        "at {place:?}: expected {e}, found {f}; {count} of {of} differ by more than {tolerance:e} of {scale}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn numbers_are_close_only_where_they_should_be() {
        let check = |found: &[f64], expected: &[f64], close: bool| {
            assert_eq!(difference(found, expected, F64).is_ok(), close, "{found:?} and {expected:?}");
        };
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        check(&[1.0, nan, inf], &[1.0, nan, inf], true);
        check(&[nan], &[1.0], false);
        check(&[1.0], &[nan], false);
        check(&[inf], &[-inf], false);
        check(&[1.0], &[inf], false);
        check(&[1000.0, 1e-10], &[1000.0, 0.0], true);
        check(&[1000.0, 1e-8], &[1000.0, 0.0], false);
        check(&[1.0], &[1.0, 1.0], false);
        check(&[], &[], true);
    }

    #[test]
    fn tensors_arrays_and_slices_compare_with_each_other() {
        let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
        assert_close(&x, &array![[1.0, 2.0], [3.0, 4.0]], F64, "a tensor and an array");
        assert_close(
            &x.transpose(0, 1).unwrap(),
            &array![[1.0f32, 3.0], [2.0, 4.0]],
            F64,
            "a strided tensor",
        );
        assert!(difference(&x, &[1.0, 2.0, 3.0, 4.0], F64).is_err(), "another shape");
    }
}
