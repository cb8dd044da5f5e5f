//! Arithmetic of transformer blocks on slices, with adjoints, and the thread team.
//!
//! Everything here is a pure function of slices or strided views, generic over [`Element`] (`f32`, `f64`).
//! Shapes are checked by the caller, who can say which layer was wrong; a kernel asserts them and panics.
//!
//! - [`element`]: the two floating point types and their fast transcendental functions.
//! - [`isa`]: which vector instructions run, and how one generic body is compiled for each.
//! - [`team`]: persistent worker threads; work is split by shape alone, so the bits do not depend on their number.
//! - [`mod@matmul`]: products in all transpositions, strided and batched.
//! - [`mod@attention`]: attention in tiles, forward and backward, with memory linear in the context.
//! - [`blocks`]: matrices in the block formats of published files.
//! - [`norm`], [`mod@softmax`], [`activation`], [`rope`], [`mod@cross_entropy`], [`mod@gather`], [`elementwise`]: rows
//!   and elements, each forward with its adjoint below it.
//! - [`roofline`]: what the machine can do at most.
//! - [`mod@adamw`] and [`rng`]: the optimiser's pass over flat memory, and random numbers by counter.
//!
//! ```
//! use formwork_kernels::{matmul::{matmul, Mat, MatMut}, Write};
//!
//! let x = [1.0_f32, 2.0, 3.0]; // [1, 3]
//! let w = [1.0_f32, 0.0, 1.0, 0.5, 0.5, 0.5]; // [2, 3]
//! let mut y = [f32::NAN; 2]; // x·Wᵀ, [1, 2]
//! matmul(MatMut::row_major(&mut y, 1, 2), Mat::row_major(&x, 1, 3), Mat::row_major(&w, 2, 3).transposed(), 1.0, Write::Store);
//! assert_eq!(y, [4.0, 3.0]);
//! ```

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod blocks;
pub mod cross_entropy;
pub mod dest;
mod disjoint;
pub mod element;
pub mod elementwise;
pub mod gather;
pub mod isa;
pub mod matmul;
pub mod memory;
pub mod norm;
pub mod packed;
mod prefetch;
mod reduce;
pub mod rng;
pub mod roofline;
pub mod rope;
pub mod scratch;
pub mod softmax;
pub mod team;
#[cfg(test)]
mod testing;
mod transpose;

pub use dest::Dest;
pub use element::Element;
pub use memory::AlignedVec;

/// How a result meets its destination.
///
/// The first writer of a gradient stores, later ones add, so nothing is ever zeroed beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    /// Overwrite the destination without reading it: it may hold junk, even NaN.
    Store,
    /// Add to what the destination holds.
    Add,
}

impl Write {
    /// What the destination becomes when `new` meets `old`; `old` is ignored by [`Write::Store`].
    ///
    /// ```
    /// use formwork_kernels::Write;
    /// assert_eq!(Write::Store.combine(f32::NAN, 2.0), 2.0);
    /// assert_eq!(Write::Add.combine(1.0, 2.0), 3.0);
    /// ```
    #[inline(always)]
    pub fn combine<T: Element>(self, old: T, new: T) -> T {
        match self {
            Write::Store => new,
            Write::Add => old + new,
        }
    }
}
