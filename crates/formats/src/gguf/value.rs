//! A value of the metadata, of any of the thirteen kinds.
//!
//! ```
//! use formwork_formats::gguf::{Kind, Value};
//! let value = Value::from(-7i16);
//! assert_eq!((value.kind(), value.as_i64(), value.as_u64()), (Kind::I16, Some(-7), None));
//! assert_eq!(Value::from(vec![2.5f32, 0.5]).to_string(), "[2.5, 0.5]");
//! ```

use std::fmt;

use super::array::Array;
use crate::sentence::Quoted;
use crate::{Bytes, Dtype};

/// The kind of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Unsigned integer of 1 byte.
    U8,
    /// Signed integer of 1 byte.
    I8,
    /// Unsigned integer of 2 bytes.
    U16,
    /// Signed integer of 2 bytes.
    I16,
    /// Unsigned integer of 4 bytes.
    U32,
    /// Signed integer of 4 bytes.
    I32,
    /// IEEE single precision.
    F32,
    /// A truth value in 1 byte, 0 or 1.
    Bool,
    /// A text: bytes that should be UTF-8, and are not always.
    String,
    /// Values of one kind, which is no array.
    Array,
    /// Unsigned integer of 8 bytes.
    U64,
    /// Signed integer of 8 bytes.
    I64,
    /// IEEE double precision.
    F64,
}

impl Kind {
    /// Every kind, in the order of their numbers in a file: 0 to 12.
    pub const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The kind of this number in a file.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number)).copied()
    }

    /// The number in a file.
    pub(super) fn number(self) -> u32 {
        self as u32
    }

    /// The type of one number of this kind; `None` for texts and arrays.
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            Self::U8 => Some(Dtype::U8),
            Self::I8 => Some(Dtype::I8),
            Self::U16 => Some(Dtype::U16),
            Self::I16 => Some(Dtype::I16),
            Self::U32 => Some(Dtype::U32),
            Self::I32 => Some(Dtype::I32),
            Self::F32 => Some(Dtype::F32),
            Self::Bool => Some(Dtype::Bool),
            Self::String | Self::Array => None,
            Self::U64 => Some(Dtype::U64),
            Self::I64 => Some(Dtype::I64),
            Self::F64 => Some(Dtype::F64),
        }
    }

    /// The name, for example `"UINT32"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "UINT8",
            Self::I8 => "INT8",
            Self::U16 => "UINT16",
            Self::I16 => "INT16",
            Self::U32 => "UINT32",
            Self::I32 => "INT32",
            Self::F32 => "FLOAT32",
            Self::Bool => "BOOL",
            Self::String => "STRING",
            Self::Array => "ARRAY",
            Self::U64 => "UINT64",
            Self::I64 => "INT64",
            Self::F64 => "FLOAT64",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A value of the metadata.
///
/// Texts and arrays share the bytes of the file they came from. Shown, it is cut to the length of a
/// line.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// See [`Kind::U8`].
    U8(u8),
    /// See [`Kind::I8`].
    I8(i8),
    /// See [`Kind::U16`].
    U16(u16),
    /// See [`Kind::I16`].
    I16(i16),
    /// See [`Kind::U32`].
    U32(u32),
    /// See [`Kind::I32`].
    I32(i32),
    /// See [`Kind::F32`].
    F32(f32),
    /// See [`Kind::Bool`].
    Bool(bool),
    /// See [`Kind::String`].
    String(Bytes),
    /// See [`Kind::Array`].
    Array(Array),
    /// See [`Kind::U64`].
    U64(u64),
    /// See [`Kind::I64`].
    I64(i64),
    /// See [`Kind::F64`].
    F64(f64),
}

impl Value {
    /// An array of texts, or of bytes that may not be UTF-8.
    pub fn strings<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Array(Array::strings_of(texts))
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::U8(_) => Kind::U8,
            Self::I8(_) => Kind::I8,
            Self::U16(_) => Kind::U16,
            Self::I16(_) => Kind::I16,
            Self::U32(_) => Kind::U32,
            Self::I32(_) => Kind::I32,
            Self::F32(_) => Kind::F32,
            Self::Bool(_) => Kind::Bool,
            Self::String(_) => Kind::String,
            Self::Array(_) => Kind::Array,
            Self::U64(_) => Kind::U64,
            Self::I64(_) => Kind::I64,
            Self::F64(_) => Kind::F64,
        }
    }

    /// The number of any integer kind, if it is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U64(n) => Some(n),
            _ => self.as_i64().and_then(|n| u64::try_from(n).ok()),
        }
    }

    /// The number of any integer kind, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::I8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U64(n) => i64::try_from(n).ok(),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// The number of either float kind.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::F32(n) => Some(n.into()),
            Self::F64(n) => Some(n),
            _ => None,
        }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(yes) = *self { Some(yes) } else { None }
    }

    /// The bytes of a text.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::String(bytes) = self { Some(bytes) } else { None }
    }

    /// The text, if it is one and UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The array.
    pub fn as_array(&self) -> Option<&Array> {
        if let Self::Array(array) = self { Some(array) } else { None }
    }

    /// Appends the value as it stands in a file, behind its kind.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(n) => out.push(*n),
            Self::I8(n) => out.extend(n.to_le_bytes()),
            Self::U16(n) => out.extend(n.to_le_bytes()),
            Self::I16(n) => out.extend(n.to_le_bytes()),
            Self::U32(n) => out.extend(n.to_le_bytes()),
            Self::I32(n) => out.extend(n.to_le_bytes()),
            Self::F32(n) => out.extend(n.to_le_bytes()),
            Self::Bool(yes) => out.push(u8::from(*yes)),
            Self::String(bytes) => {
                out.extend((bytes.len() as u64).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Array(array) => array.encode(out),
            Self::U64(n) => out.extend(n.to_le_bytes()),
            Self::I64(n) => out.extend(n.to_le_bytes()),
            Self::F64(n) => out.extend(n.to_le_bytes()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(n) => write!(f, "{n}"),
            Self::I8(n) => write!(f, "{n}"),
            Self::U16(n) => write!(f, "{n}"),
            Self::I16(n) => write!(f, "{n}"),
            Self::U32(n) => write!(f, "{n}"),
            Self::I32(n) => write!(f, "{n}"),
            Self::F32(n) => write!(f, "{n}"),
            Self::Bool(yes) => write!(f, "{yes}"),
            Self::String(bytes) => show(bytes, f),
            Self::Array(array) => write!(f, "{array}"),
            Self::U64(n) => write!(f, "{n}"),
            Self::I64(n) => write!(f, "{n}"),
            Self::F64(n) => write!(f, "{n}"),
        }
    }
}

/// A text from a file: quoted, escaped, cut, whatever its bytes are.
pub(super) fn show(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    // No more than is shown is looked at, since a text may be as long as the file.
    let head = &bytes[..bytes.len().min(512)];
    write!(f, "{}", Quoted(&String::from_utf8_lossy(head)))
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.as_bytes().into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into_bytes().into())
    }
}

impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Bool(yes)
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}

macro_rules! from_numbers {
    ($($number:ty => $kind:ident),+) => {$(
        impl From<$number> for Value {
            fn from(number: $number) -> Self {
                Self::$kind(number)
            }
        }

        impl From<&[$number]> for Value {
            fn from(numbers: &[$number]) -> Self {
                let bytes = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
                Self::Array(Array::numbers_of(Kind::$kind, numbers.len(), bytes))
            }
        }

        impl From<Vec<$number>> for Value {
            fn from(numbers: Vec<$number>) -> Self {
                numbers[..].into()
            }
        }
    )+};
}

from_numbers!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32);
from_numbers!(f32 => F32, u64 => U64, i64 => I64, f64 => F64);

impl From<&[bool]> for Value {
    fn from(values: &[bool]) -> Self {
        let bytes = values.iter().map(|&yes| u8::from(yes)).collect();
        Self::Array(Array::numbers_of(Kind::Bool, values.len(), bytes))
    }
}

impl From<Vec<bool>> for Value {
    fn from(values: Vec<bool>) -> Self {
        values[..].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_numbers_of_the_format() {
        for (number, kind) in (0..).zip(Kind::ALL) {
            assert_eq!((kind.number(), Kind::from_number(number)), (number, Some(kind)));
        }
        assert_eq!(Kind::from_number(13), None);
        assert_eq!((Kind::String.number(), Kind::Array.number(), Kind::F64.number()), (8, 9, 12));
    }

    #[test]
    fn integers_are_asked_for_by_value_and_not_by_kind() {
        assert_eq!(Value::from(5u8).as_u64(), Some(5));
        assert_eq!(Value::from(-5i64).as_u64(), None);
        assert_eq!(Value::from(u64::MAX).as_u64(), Some(u64::MAX));
        assert_eq!(Value::from(u64::MAX).as_i64(), None);
        assert_eq!(Value::from(1.0f32).as_u64(), None);
        assert_eq!(Value::from(1u32).as_f64(), None);
        assert_eq!(Value::from(true).as_u64(), None);
        assert_eq!(Value::from(0.25f32).as_f64(), Some(0.25));
    }

    #[test]
    fn a_hostile_text_is_shown_in_a_line() {
        let text = Value::String([b'\n', 0xff, 0x1b].repeat(100_000).into()).to_string();
        assert!(text.len() < 1500 && !text.contains(['\n', '\u{1b}']), "{text}");
        assert_eq!(Value::from("a\"b").to_string(), "\"a\\\"b\"");
    }
}
