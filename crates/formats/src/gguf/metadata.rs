//! What a GGUF file says about its model: values by key, in the order of the file.
//!
//! ```
//! use formwork_formats::gguf::Metadata;
//! let mut metadata = Metadata::new();
//! metadata.set("llama.block_count", 7u32);
//! metadata.set("llama.rope.freq_base", 1e4f32);
//! assert_eq!(metadata.u64("llama.block_count")?, Some(7));
//! assert_eq!(metadata.u64("llama.context_length")?, None);
//! let error = metadata.u64("llama.rope.freq_base").unwrap_err();
//! assert_eq!(error.key(), Some("llama.rope.freq_base"));
//! # Ok::<(), formwork_formats::Error>(())
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::array::{Array, Strings, Text};
use super::value::Value;
use crate::ErrorKind;
use crate::error::{Error, Result};

/// Values by key, in order. Each key stands once.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    pairs: Vec<(Arc<str>, Value)>,
    places: HashMap<Arc<str>, usize>,
}

impl Metadata {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`: in its place if it is there already, else at the end.
    pub fn set(&mut self, key: impl AsRef<str>, value: impl Into<Value>) {
        let (key, value) = (key.as_ref(), value.into());
        match self.places.get(key) {
            Some(&place) => self.pairs[place].1 = value,
            None => self.push(key.into(), value),
        }
    }

    /// Adds a key that is not there yet.
    pub(super) fn push(&mut self, key: Arc<str>, value: Value) {
        self.places.insert(key.clone(), self.pairs.len());
        self.pairs.push((key, value));
    }

    /// The value of this key, or `None`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.places.get(key).map(|&place| &self.pairs[place].1)
    }

    /// Whether this key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// All keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.pairs.iter().map(|(key, value)| (&**key, value))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The number at `key`, of any integer kind.
    ///
    /// # Errors
    /// It is no integer, or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a whole number from 0 on", Value::as_u64)
    }

    /// The number at `key`, of any integer kind.
    ///
    /// # Errors
    /// It is no integer, or above `i64::MAX`.
    pub fn i64(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "a whole number below 2^63", Value::as_i64)
    }

    /// The number at `key`, of either float kind.
    ///
    /// # Errors
    /// It is no float.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a FLOAT32 or FLOAT64", Value::as_f64)
    }

    /// The truth value at `key`.
    ///
    /// # Errors
    /// It is none.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a BOOL", Value::as_bool)
    }

    /// The text at `key`.
    ///
    /// # Errors
    /// It is no text, or not UTF-8; then [`Metadata::get`] has its bytes.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        let bytes = self.typed(key, "a STRING", Value::as_bytes)?;
        bytes.map(|bytes| Text::from(bytes).str().map_err(|error| error.at_key(key))).transpose()
    }

    /// The texts of the array at `key`.
    ///
    /// # Errors
    /// It is no array of texts.
    pub fn strings(&self, key: &str) -> Result<Option<Strings<'_>>> {
        self.typed(key, "an ARRAY of STRING", |value| value.as_array().and_then(Array::strings))
    }

    /// The numbers of the array at `key`.
    ///
    /// # Errors
    /// It is no array of `FLOAT32`.
    pub fn f32s(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = f32> + '_>> {
        self.typed(key, "an ARRAY of FLOAT32", |value| value.as_array().and_then(Array::f32s))
    }

    /// The numbers of the array at `key`, of any integer kind.
    ///
    /// # Errors
    /// It is no array of integers, or one is above `i64::MAX`.
    pub fn i64s(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = i64> + '_>> {
        self.typed(key, "an ARRAY of integers", |value| value.as_array().and_then(Array::i64s))
    }

    /// The truth values of the array at `key`.
    ///
    /// # Errors
    /// It is no array of truth values.
    pub fn bools(&self, key: &str) -> Result<Option<impl ExactSizeIterator<Item = bool> + '_>> {
        self.typed(key, "an ARRAY of BOOL", |value| value.as_array().and_then(Array::bools))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            let found = match value {
                Value::Array(array) => format!("an ARRAY of {} {}", array.len(), array.kind()),
                value => format!("{} {value}", value.kind()),
            };
            Error::from(ErrorKind::WrongValue { wanted, found }).at_key(key)
        })
    }
}

/// The same keys and values in the same order.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.pairs == other.pairs
    }
}

impl<K: AsRef<str>, V: Into<Value>> Extend<(K, V)> for Metadata {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        pairs.into_iter().for_each(|(key, value)| self.set(key, value));
    }
}

impl<K: AsRef<str>, V: Into<Value>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut metadata = Self::new();
        metadata.extend(pairs);
        metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_place_when_it_is_set_again() {
        let mut metadata: Metadata = [("a", 2u8), ("b", 3), ("c", 5)].into_iter().collect();
        metadata.set("a", 7u8);
        let pairs: Vec<_> = metadata.iter().map(|(key, value)| (key, value.as_u64())).collect();
        assert_eq!(pairs, [("a", Some(7)), ("b", Some(3)), ("c", Some(5))]);
    }

    #[test]
    fn a_value_of_another_kind_is_named_with_what_was_found() {
        let mut metadata = Metadata::new();
        metadata.extend([("negative", Value::from(-7i32)), ("text", Value::from("llama"))]);
        metadata.extend([("list", Value::strings(["a"])), ("raw", Value::String(vec![0xff].into()))]);
        metadata.extend([("f", Value::from(0.5f64)), ("large", Value::from(vec![u64::MAX]))]);
        fn check<T>(found: Result<Option<T>>, key: &str, part: &str) {
            let error = found.map(drop).unwrap_err();
            assert_eq!(error.key(), Some(key));
            assert!(error.to_string().contains(part), "{error}");
        }
        check(metadata.u64("negative"), "negative", "found INT32 -7");
        check(metadata.u64("text"), "text", "found STRING \"llama\"");
        check(metadata.i64("f"), "f", "found FLOAT64 0.5");
        check(metadata.f64("negative"), "negative", "expected a FLOAT32 or FLOAT64");
        check(metadata.bool("text"), "text", "expected a BOOL");
        check(metadata.str("list"), "list", "found an ARRAY of 1 STRING");
        check(metadata.str("raw"), "raw", "expected UTF-8");
        check(metadata.strings("text"), "text", "expected an ARRAY of STRING");
        check(metadata.f32s("list"), "list", "expected an ARRAY of FLOAT32");
        check(metadata.i64s("large"), "large", "expected an ARRAY of integers");
        check(metadata.bools("list"), "list", "expected an ARRAY of BOOL");
        assert_eq!(metadata.str("nothing").unwrap(), None);
    }
}
