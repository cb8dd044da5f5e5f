//! Tiles through the `gemm` crate, on the calling thread.
//!
//! Its convention is `dst = alpha · dst + beta · lhs · rhs` for matrices with contiguous columns; ours have
//! contiguous rows, so it is given the transposed product `outᵀ = bᵀ · aᵀ`.

use super::product::Product;
use crate::{Element, Write};
use gemm_common::Parallelism;

/// The crate's entry point for one type.
pub trait Gemm: Sized {
    #[doc(hidden)]
    const GEMM: fn() -> Kernel<Self>;
}

/// `m, n, k`, then address, column stride and row stride of the destination, whether it is read, the same of left
/// and right, `alpha`, `beta`, three conjugations and the crate's own threads.
pub(crate) type Kernel<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

impl Gemm for f32 {
    const GEMM: fn() -> Kernel<f32> = || gemm_f32::gemm::f32::get_gemm_fn();
}

impl Gemm for f64 {
    const GEMM: fn() -> Kernel<f64> = || gemm_f64::gemm::f64::get_gemm_fn();
}

/// # Safety
/// As [`Product`] says.
pub(super) unsafe fn run<T: Element>(p: Product<T>) {
    // SAFETY: the addresses and strides describe the matrices that the caller vouches for; strides of matrices
    // that lie in memory fit an `isize`. The destination is not read when it is to be overwritten.
    unsafe {
        T::GEMM()(
            p.cols,
            p.rows,
            p.depth,
            p.out,
            p.out_stride as isize,
            1,
            p.write == Write::Add,
            p.b.data,
            p.b.row_stride as isize,
            p.b.col_stride as isize,
            p.a.data,
            p.a.row_stride as isize,
            p.a.col_stride as isize,
            T::one(),
            p.alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
