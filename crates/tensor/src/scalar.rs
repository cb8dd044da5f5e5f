//! The Rust types behind [`DType`].

use std::sync::Arc;

use formwork_kernels::{
    Element, Write,
    matmul::{Mat, MatMut, matmul, matmul_bf16},
};

use crate::{
    DType, Memory, Storage,
    pool::{Pool, Shelves},
    storage::Shared,
    tape::Destination,
};

/// `f32` and `f64`: what ties a Rust type to its [`DType`]. Sealed, as the kernels' `Element` is.
pub trait Scalar: Element {
    /// The run-time name of this type.
    const DTYPE: DType;
    #[doc(hidden)]
    fn store(memory: Arc<dyn Memory<Self>>) -> Storage;
    #[doc(hidden)]
    fn read(storage: &Storage) -> Option<&Shared<Self>>;
    #[doc(hidden)]
    fn read_mut(storage: &mut Storage) -> Option<&mut Shared<Self>>;
    #[doc(hidden)]
    fn shelves(pool: &Pool) -> &Shelves<Self>;
    #[doc(hidden)]
    fn destination(slice: &mut [Self]) -> Destination<'_>;
    #[doc(hidden)]
    fn slice(destination: Destination<'_>) -> Option<&mut [Self]>;
    /// The product of factors that are rounded to bf16, where that is less than this type has.
    #[doc(hidden)]
    fn matmul_bf16(out: MatMut<'_, Self>, a: Mat<'_, Self>, b: Mat<'_, Self>, write: Write);
}

macro_rules! scalar {
    ($type:ty, $variant:ident, $shelves:ident, $matmul_bf16:path) => {
        impl Scalar for $type {
            const DTYPE: DType = DType::$variant;
            fn store(memory: Arc<dyn Memory<Self>>) -> Storage {
                Storage::$variant(Shared::new(memory))
            }
            fn read(storage: &Storage) -> Option<&Shared<Self>> {
                match storage {
                    Storage::$variant(memory) => Some(memory),
                    _ => None,
                }
            }
            fn read_mut(storage: &mut Storage) -> Option<&mut Shared<Self>> {
                match storage {
                    Storage::$variant(memory) => Some(memory),
                    _ => None,
                }
            }
            fn shelves(pool: &Pool) -> &Shelves<Self> {
                &pool.0.$shelves
            }
            fn destination(slice: &mut [Self]) -> Destination<'_> {
                Destination::$variant(slice)
            }
            fn slice(destination: Destination<'_>) -> Option<&mut [Self]> {
                match destination {
                    Destination::$variant(slice) => Some(slice),
                    _ => None,
                }
            }
            fn matmul_bf16(out: MatMut<'_, Self>, a: Mat<'_, Self>, b: Mat<'_, Self>, write: Write) {
                $matmul_bf16(out, a, b, 1.0, write);
            }
        }
    };
}
scalar!(f32, F32, f32, matmul_bf16);
scalar!(f64, F64, f64, matmul);
