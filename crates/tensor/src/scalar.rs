//! The Rust types behind [`DType`].

use std::sync::Arc;

use formwork_kernels::Element;

use crate::{
    DType, Memory, Storage,
    pool::{Pool, Shelves},
    tape::Destination,
};

/// `f32` and `f64`: what ties a Rust type to its [`DType`]. Sealed, as the kernels' `Element` is.
pub trait Scalar: Element {
    /// The run-time name of this type.
    const DTYPE: DType;
    #[doc(hidden)]
    fn store(memory: Arc<dyn Memory<Self>>) -> Storage;
    #[doc(hidden)]
    fn read(storage: &Storage) -> Option<&Arc<dyn Memory<Self>>>;
    #[doc(hidden)]
    fn read_mut(storage: &mut Storage) -> Option<&mut Arc<dyn Memory<Self>>>;
    #[doc(hidden)]
    fn shelves(pool: &Pool) -> &Shelves<Self>;
    #[doc(hidden)]
    fn destination(slice: &mut [Self]) -> Destination<'_>;
    #[doc(hidden)]
    fn slice(destination: Destination<'_>) -> Option<&mut [Self]>;
}

macro_rules! scalar {
    ($type:ty, $variant:ident, $shelves:ident) => {
        impl Scalar for $type {
            const DTYPE: DType = DType::$variant;
            fn store(memory: Arc<dyn Memory<Self>>) -> Storage {
                Storage::$variant(memory)
            }
            fn read(storage: &Storage) -> Option<&Arc<dyn Memory<Self>>> {
                match storage {
                    Storage::$variant(memory) => Some(memory),
                    _ => None,
                }
            }
            fn read_mut(storage: &mut Storage) -> Option<&mut Arc<dyn Memory<Self>>> {
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
        }
    };
}
scalar!(f32, F32, f32);
scalar!(f64, F64, f64);
