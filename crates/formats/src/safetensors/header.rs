//! Reading the header, and every check on it.
//!
//! All of it is checked before a byte of data is touched: sizes against the file's length, shapes
//! against offsets, and that the tensors tile the data without gap or overlap. Memory is bounded
//! by the header's length, which is bounded by the file's.
//!
//! ```
//! use formwork_formats::{Bytes, ErrorKind, SafeTensors};
//! let header = br#"{"x":{"dtype":"F32","shape":[7],"data_offsets":[0,28]}}"#;
//! let file = [&(header.len() as u64).to_le_bytes()[..], &header[..], &[0; 27]].concat();
//! let error = SafeTensors::from_bytes(Bytes::from(file)).unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::Truncated { needed: 91, found: 90 }));
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry as Place};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{MAX_DIMS, MAX_HEADER, MAX_LINES, MAX_TENSORS, METADATA};
use crate::error::{Error, Result};
use crate::{Dtype, ErrorKind};

/// A checked header: every slot lies in the file and has the size its shape says.
#[derive(Debug, Default)]
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    /// In the order of the data.
    pub(super) slots: Vec<Slot>,
    /// Where in `slots` a name stands.
    pub(super) places: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In bytes from the start of the file.
    pub(super) range: Range<usize>,
}

impl Header {
    pub(super) fn parse(file: &[u8]) -> Result<Self> {
        let (text, data_start) = text(file)?;
        let mut header = Self::default();
        let mut failure = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let parsed = Fill { header: &mut header, failure: &mut failure, data_start }
            .deserialize(&mut json)
            .and_then(|()| json.end());
        match (parsed, failure) {
            (Ok(()), _) => {}
            // The visitor can only hand serde a text; the error with a kind waits beside it.
            (Err(_), Some(error)) => return Err(error),
            (Err(error), None) => {
                return Err(ErrorKind::Json { what: "header", message: error.to_string() }.into());
            }
        }
        // An empty tensor shares its begin with the next one and goes before it.
        header.slots.sort_by_key(|slot| (slot.range.start, slot.range.end));
        for (place, slot) in header.slots.iter().enumerate() {
            if let Some(found) = header.places.get_mut(&slot.name) {
                *found = place;
            }
        }
        header.check_tiling(data_start, file.len())?;
        Ok(header)
    }

    fn check_tiling(&self, data_start: usize, len: usize) -> Result<()> {
        if let Some(last) = self.slots.iter().max_by_key(|slot| slot.range.end)
            && last.range.end > len
        {
            let kind = ErrorKind::Truncated { needed: last.range.end as u64, found: len as u64 };
            return Err(Error::from(kind).at(&last.name));
        }
        let mut end = data_start;
        let mut before = "the header";
        for slot in &self.slots {
            // Offsets are reported as they stand in the header.
            let begin = (slot.range.start - data_start) as u64;
            let used = (end - data_start) as u64;
            if slot.range.start < end {
                let kind = ErrorKind::Overlap { begin, other: before.to_owned(), other_end: used };
                return Err(Error::from(kind).at(&slot.name));
            }
            if slot.range.start > end {
                return Err(Error::from(ErrorKind::Hole { from: used, to: begin }).at(&slot.name));
            }
            (end, before) = (slot.range.end, &slot.name);
        }
        if end < len {
            return Err(ErrorKind::Trailing { used: end as u64, found: len as u64 }.into());
        }
        Ok(())
    }
}

/// The header's text and the offset behind it.
fn text(file: &[u8]) -> Result<(&str, usize)> {
    let found = file.len() as u64;
    let (length, rest) = file.split_first_chunk::<8>().ok_or(ErrorKind::TooShort { found })?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(ErrorKind::HeaderTooLarge { found: length, limit: MAX_HEADER }.into());
    }
    let text = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let text = text.ok_or(ErrorKind::Truncated { needed: length + 8, found })?;
    let utf8 =
        std::str::from_utf8(text).map_err(|error| ErrorKind::NotUtf8 { at: 8 + error.valid_up_to() })?;
    if !utf8.starts_with('{') {
        let message = "expected `{` as the first byte".to_owned();
        return Err(ErrorKind::Json { what: "header", message }.into());
    }
    Ok((utf8, 8 + text.len()))
}

/// Fills the header from the JSON map, leaving an error with a kind in `failure`.
struct Fill<'a> {
    header: &'a mut Header,
    failure: &'a mut Option<Error>,
    data_start: usize,
}

impl<'de> DeserializeSeed<'de> for Fill<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fill<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut metadata_seen = false;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let added = if name == METADATA {
                let again = std::mem::replace(&mut metadata_seen, true).then(|| METADATA.to_owned());
                let Metadata { all, count, twice } = map.next_value()?;
                self.header.metadata = all;
                match again.or(twice) {
                    Some(key) => Err(ErrorKind::DuplicateKey { key }.into()),
                    None => expect_few("lines of metadata", count, MAX_LINES),
                }
            } else {
                match map.next_value::<Info<'de>>() {
                    Ok(info) => self.header.add(&name, info, self.data_start),
                    // The message has line and column already; the name of the tensor serves better.
                    Err(error) => {
                        let message = error.to_string();
                        Err(Error::from(ErrorKind::Json { what: "header", message }).at(&name))
                    }
                }
            };
            if let Err(error) = added {
                *self.failure = Some(error);
                return Err(A::Error::custom("see failure"));
            }
        }
        Ok(())
    }
}

impl Header {
    fn add(&mut self, name: &str, info: Info<'_>, data_start: usize) -> Result<()> {
        let slot = info.check(name, data_start).map_err(|kind| Error::from(kind).at(name))?;
        if self.places.insert(slot.name.clone(), self.slots.len()).is_some() {
            return Err(Error::from(ErrorKind::DuplicateTensor).at(name));
        }
        self.slots.push(slot);
        expect_few("tensors", self.slots.len(), MAX_TENSORS)
    }
}

fn expect_few(what: &'static str, found: usize, limit: usize) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    Err(ErrorKind::TooMany { what, found: found as u64, limit: limit as u64 }.into())
}

/// One tensor as the header has it. Serde refuses a field that stands twice, is missing or unknown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Dims,
    data_offsets: (u64, u64),
}

impl Info<'_> {
    fn check(self, name: &str, data_start: usize) -> std::result::Result<Slot, ErrorKind> {
        // The types in blocks have names of the same kind and are not of this format.
        let dtype = Dtype::from_name(&self.dtype).filter(|dtype| !dtype.is_blocks());
        let dtype = dtype.ok_or_else(|| ErrorKind::UnknownDtype { found: self.dtype.into_owned() })?;
        let Dims { count, first } = self.shape;
        let dims = first.get(..count).ok_or(ErrorKind::TooManyDims { found: count, limit: MAX_DIMS })?;
        let shape: Option<Vec<usize>> = dims.iter().map(|&n| usize::try_from(n).ok()).collect();
        let (shape, size) = shape
            .and_then(|shape| dtype.size_of(&shape).map(|size| (shape, size as u64)))
            .ok_or_else(|| ErrorKind::SizeOverflow { shape: dims.to_vec(), dtype })?;
        let (begin, end) = self.data_offsets;
        let found = end.checked_sub(begin).ok_or(ErrorKind::OffsetsReversed { begin, end })?;
        if found != size {
            return Err(ErrorKind::SizeMismatch { shape, dtype, expected: size, found });
        }
        let offset = |at: u64| usize::try_from(at).ok().and_then(|at| at.checked_add(data_start));
        let range = offset(begin).zip(offset(end)).map(|(begin, end)| begin..end);
        let range = range.ok_or_else(|| ErrorKind::SizeOverflow { shape: dims.to_vec(), dtype })?;
        Ok(Slot { name: name.into(), dtype, shape, range })
    }
}

/// A shape of which at most [`MAX_DIMS`] are kept: a header of zeros cannot fill the memory.
struct Dims {
    count: usize,
    first: [u64; MAX_DIMS],
}

impl<'de> Deserialize<'de> for Dims {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Dims;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of non-negative whole dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Dims, A::Error> {
                let mut dims = Dims { count: 0, first: [0; MAX_DIMS] };
                while dims.count < MAX_DIMS
                    && let Some(n) = seq.next_element()?
                {
                    dims.first[dims.count] = n;
                    dims.count += 1;
                }
                if dims.count == MAX_DIMS {
                    while seq.next_element::<IgnoredAny>()?.is_some() {
                        dims.count += 1;
                    }
                }
                Ok(dims)
            }
        }
        json.deserialize_seq(Collect)
    }
}

/// The string map, of which at most [`MAX_LINES`] are kept, and a key that stands twice in it.
struct Metadata {
    all: BTreeMap<String, String>,
    count: usize,
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(json: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Metadata;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from strings to strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Metadata, A::Error> {
                let (mut all, mut count, mut twice) = (BTreeMap::new(), 0, None);
                while count < MAX_LINES
                    && let Some((key, value)) = map.next_entry::<String, String>()?
                {
                    count += 1;
                    match all.entry(key) {
                        Place::Vacant(place) => drop(place.insert(value)),
                        Place::Occupied(place) => twice = Some(place.key().clone()),
                    }
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Metadata { all, count, twice })
            }
        }
        json.deserialize_map(Collect)
    }
}
