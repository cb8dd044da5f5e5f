//! In which numbers the factors of a product enter it.

use formwork_kernels::{
    Write,
    matmul::{Mat, MatMut, matmul},
};

use crate::Scalar;

/// What becomes of the factors of a product on their way into it. Its sums are those of the tensors' own type.
///
/// With [`Bf16`](Operands::Bf16) the two gradients of a product are products of rounded factors as well; what they add
/// up to, and the memory they go to, stays as it is. That is mixed precision as Micikevicius et al. 2017,
/// <https://arxiv.org/abs/1710.03740>, describe it, with a type that has the range of `f32` and so needs no scaling of
/// the loss (Kalamkar et al. 2019, <https://arxiv.org/abs/1905.12322>).
///
/// ```
/// use formwork_tensor::{Tensor, ops::Operands};
/// let (x, w) = (Tensor::from_vec(vec![1.0f32 + 1.0 / 512.0], &[1, 1])?, Tensor::from_vec(vec![3.0f32], &[1, 1])?);
/// assert_eq!(x.linear_in(&w, None, Operands::Own)?.item()?, 3.005859375);
/// assert_eq!(x.linear_in(&w, None, Operands::Bf16)?.item()?, 3.0); // 1 + 2⁻⁹ is no bf16
/// # Ok::<(), formwork_tensor::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Operands {
    /// They are multiplied as they are.
    #[default]
    Own,
    /// `f32` is rounded to the nearest bf16, ties to even; `f64` is multiplied as it is, since it is there for checking.
    Bf16,
}

impl Operands {
    /// `out = a·b`, or `out += a·b`.
    ///
    /// # Panics
    /// Those of [`matmul`].
    pub fn matmul<T: Scalar>(self, out: MatMut<'_, T>, a: Mat<'_, T>, b: Mat<'_, T>, write: Write) {
        match self {
            Operands::Own => matmul(out, a, b, T::one(), write),
            Operands::Bf16 => T::matmul_bf16(out, a, b, write),
        }
    }
}
