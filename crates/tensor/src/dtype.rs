//! The types of numbers that a tensor holds.

use std::fmt;

/// The type of a tensor's numbers.
///
/// Activations are `f32`. `f64` exists so that every op and block can be checked against finite differences
/// where those mean something. Narrower formats live in weights and caches, never in an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit IEEE numbers.
    F32,
    /// 64-bit IEEE numbers.
    F64,
}

impl DType {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
        })
    }
}

/// Runs an expression with a type name bound to the Rust type of a [`DType`](crate::DType).
///
/// ```
/// use formwork_tensor::{DType, dispatch};
/// let bytes = dispatch!(DType::F64, T => std::mem::size_of::<T>());
/// assert_eq!(bytes, 8);
/// ```
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
            // `DType` is non-exhaustive outside this crate; f32 is the type of every activation.
            _ => {
                type $T = f32;
                $body
            }
        }
    };
}
