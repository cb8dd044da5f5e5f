//! The ops of this crate, each with its adjoint below it, and the methods of [`Tensor`] that call them.
//!
//! They are what custom blocks are written with. The fused ops of a part (a norm, attention) live in that part's crate.

mod arithmetic;
mod cat;
mod gather;
mod linear;
mod linears;
mod matmul;
mod operands;
mod reduce;
mod softmax;
mod unary;
mod view;

pub use arithmetic::{AddScaled, Binary};
pub use cat::Cat;
pub use gather::Gather;
pub use linear::Linear;
pub use linears::Linears;
pub use matmul::MatMul;
pub use operands::Operands;
pub use reduce::Sum;
pub use softmax::Softmax;
pub use unary::Unary;
pub use view::View;

use formwork_kernels::Write;
use ndarray::{ArrayViewMutD, IxDyn};

use crate::{Buffer, Error, Pool, Result, Scalar, Shape, Tensor};

/// Elements that one task of a parallel elementwise loop works on; fixed, so that the split never depends on threads.
pub(crate) const CHUNK: usize = 16 * 1024;

/// `to[i] = f(a[i])`, vectorised and in parallel.
pub(crate) fn map<T: Scalar>(to: &mut [T], write: Write, a: &[T], f: impl Fn(T) -> T + Sync) {
    formwork_kernels::team::for_each_chunk(to, CHUNK, |i, to| {
        let a = &a[i * CHUNK..i * CHUNK + to.len()];
        formwork_kernels::isa::dispatch(
            #[inline(always)]
            |_| each(to, write, a, a, |a, _| f(a)),
        );
    });
}

/// `to[i] = f(a[i], b[i])`, vectorised and in parallel.
pub(crate) fn map2<T: Scalar>(to: &mut [T], write: Write, a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) {
    formwork_kernels::team::for_each_chunk(to, CHUNK, |i, to| {
        let range = i * CHUNK..i * CHUNK + to.len();
        let (a, b) = (&a[range.clone()], &b[range]);
        formwork_kernels::isa::dispatch(
            #[inline(always)]
            |_| each(to, write, a, b, &f),
        );
    });
}

#[inline(always)]
fn each<T: Scalar>(to: &mut [T], write: Write, a: &[T], b: &[T], f: impl Fn(T, T) -> T) {
    // Plain loops: a closure handed to an iterator may stay a call, and then nothing is vectorised.
    match write {
        Write::Store => {
            for (to, (&a, &b)) in to.iter_mut().zip(a.iter().zip(b)) {
                *to = f(a, b);
            }
        }
        Write::Add => {
            for (to, (&a, &b)) in to.iter_mut().zip(a.iter().zip(b)) {
                *to += f(a, b);
            }
        }
    }
}

/// A row-major tensor that `fill` writes, its memory from `pool`.
pub(crate) fn fresh<T: Scalar>(
    dims: &[usize],
    pool: Option<&Pool>,
    fill: impl FnOnce(&mut [T]),
) -> Result<Tensor> {
    let mut values = Buffer::<T>::new(Shape::new(dims)?.len(), pool);
    fill(&mut values);
    Tensor::from_buffer(values, dims)
}

/// Row-major memory seen as an array.
pub(crate) fn shaped<'a, T: Scalar>(memory: &'a mut [T], dims: &[usize]) -> ArrayViewMutD<'a, T> {
    ArrayViewMutD::from_shape(IxDyn(dims), memory).expect("memory has the size of its shape")
}

/// An op's inputs, where it takes exactly `N`.
pub(crate) fn exactly<'a, 't, const N: usize>(
    op: &'static str,
    inputs: &'a [&'t Tensor],
) -> Result<[&'t Tensor; N]>
where
    't: 'a,
{
    inputs.try_into().map_err(|_| Error::invalid(op, format_args!("{N} inputs"), inputs.len()))
}

/// The first pool among the inputs.
pub(crate) fn pool_of<'t>(inputs: &[&'t Tensor]) -> Option<&'t Pool> {
    inputs.iter().find_map(|t| t.pool())
}
