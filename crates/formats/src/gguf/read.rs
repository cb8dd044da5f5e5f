//! Reading metadata and tensor places, and every check on them.
//!
//! All of it is checked before a number is touched. A count is compared with the bytes that remain
//! before anything is done with it, and what is kept of texts and arrays are ranges of the file, so
//! memory is bounded by what was really read, not by what is claimed.
//!
//! ```
//! use formwork_formats::ErrorKind;
//! use formwork_formats::gguf::Gguf;
//! let mut file = b"GGUF\x03\0\0\0".to_vec();
//! file.extend([0u64, u64::MAX].iter().flat_map(|n| n.to_le_bytes()));
//! let error = Gguf::from_bytes(file).unwrap_err();
//! assert!(matches!(error.kind(), ErrorKind::CountPastEnd { found: u64::MAX, limit: 0, .. }));
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use super::array::Array;
use super::metadata::Metadata;
use super::value::{Kind, Value};
use super::{MAGIC, MAX_NAME, MAX_PAIRS, MAX_TENSORS, alignment, expect_whole, types};
use crate::error::{Error, Result};
use crate::{Bytes, Dtype, ErrorKind, MAX_DIMS};

/// The fewest bytes of a pair: a key's length, a byte of it, a kind, a value.
const SMALLEST_PAIR: u64 = 8 + 1 + 4 + 1;

/// The fewest bytes of a tensor's place: a name's length, a byte of it, a count, a type, an offset.
const SMALLEST_PLACE: u64 = 8 + 1 + 4 + 4 + 8;

/// A checked file: every slot lies in it and has the size its shape says.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    /// In the order of the data.
    pub(super) slots: Vec<Slot>,
    /// Where in `slots` a name stands.
    pub(super) places: HashMap<Arc<str>, usize>,
    pub(super) alignment: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// In bytes from where the data begins, and once that is known from the start of the file.
    pub(super) begin: usize,
    pub(super) end: usize,
}

impl Header {
    pub(super) fn parse(file: &Bytes) -> Result<Self> {
        let mut cursor = Cursor { file, at: 0 };
        let [tensors, pairs] = cursor.head()?;
        let metadata = cursor.metadata(pairs)?;
        expect_whole(&metadata)?;
        let alignment = alignment(&metadata)?;
        let (mut slots, mut places) = (Vec::new(), HashMap::new());
        for _ in 0..tensors {
            let slot = cursor.slot(alignment)?;
            if places.insert(slot.name.clone(), slots.len()).is_some() {
                return Err(Error::from(ErrorKind::DuplicateTensor).at(&slot.name));
            }
            slots.push(slot);
        }
        tile(&mut slots, file.len(), cursor.at, alignment as usize)?;
        for (place, slot) in slots.iter().enumerate() {
            if let Some(found) = places.get_mut(&slot.name) {
                *found = place;
            }
        }
        Ok(Self { metadata, slots, places, alignment })
    }
}

/// Orders `slots` by their data and places them behind the header, which ends at `header`: each
/// inside the file and directly behind the one before, up to the alignment.
fn tile(slots: &mut [Slot], len: usize, header: usize, alignment: usize) -> Result<()> {
    // Below 2^63 as every length in memory, so that padding up to 2^20 cannot wrap.
    let data = header.next_multiple_of(alignment);
    for slot in slots.iter_mut() {
        let places = slot.begin.checked_add(data).zip(slot.end.checked_add(data));
        let Some((begin, end)) = places else {
            let shape = slot.shape.iter().map(|&n| n as u64).collect();
            return Err(Error::from(ErrorKind::SizeOverflow { shape, dtype: slot.dtype }).at(&slot.name));
        };
        (slot.begin, slot.end) = (begin, end);
    }
    // An empty tensor shares its begin with the next one and goes before it.
    slots.sort_by_key(|slot| (slot.begin, slot.end));
    if let Some(last) = slots.iter().max_by_key(|slot| slot.end)
        && last.end > len
    {
        let kind = ErrorKind::Truncated { needed: last.end as u64, found: len as u64 };
        return Err(Error::from(kind).at(&last.name));
    }
    // Offsets are reported as they stand in the file.
    let offset = |at: usize| (at - data) as u64;
    let (mut end, mut before) = (data, "the metadata");
    for slot in slots.iter() {
        if slot.begin < end {
            let kind = ErrorKind::Overlap {
                begin: offset(slot.begin),
                other: before.to_owned(),
                other_end: offset(end),
            };
            return Err(Error::from(kind).at(&slot.name));
        }
        let expected = end.next_multiple_of(alignment);
        if slot.begin > expected {
            let kind = ErrorKind::Hole { from: offset(expected), to: offset(slot.begin) };
            return Err(Error::from(kind).at(&slot.name));
        }
        (end, before) = (slot.end, &slot.name);
    }
    // The padding at the end may be there or not: writers differ.
    let used = if slots.is_empty() { data } else { end.next_multiple_of(alignment) };
    if len > used {
        return Err(ErrorKind::Trailing { used: used as u64, found: len as u64 }.into());
    }
    Ok(())
}

/// A place in the file; everything before it has been read and checked.
struct Cursor<'a> {
    file: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    /// Checks magic and version, and returns the numbers of tensors and of pairs.
    fn head(&mut self) -> Result<[u64; 2]> {
        let magic: [u8; 4] = self.take()?;
        if magic != MAGIC {
            return Err(ErrorKind::NotGguf { found: magic }.into());
        }
        match self.u32()? {
            2 | 3 => {}
            version if matches!(version.swap_bytes(), 1..=3) => return Err(ErrorKind::BigEndian.into()),
            found => return Err(ErrorKind::UnsupportedVersion { found }.into()),
        }
        let (tensors, pairs) = (self.u64()?, self.u64()?);
        self.expect_count("tensors", tensors, SMALLEST_PLACE, MAX_TENSORS)?;
        self.expect_count("metadata values", pairs, SMALLEST_PAIR, MAX_PAIRS)?;
        Ok([tensors, pairs])
    }

    fn metadata(&mut self, pairs: u64) -> Result<Metadata> {
        let mut metadata = Metadata::new();
        for _ in 0..pairs {
            let key = self.name()?;
            if metadata.contains(&key) {
                return Err(ErrorKind::DuplicateKey { key: key.to_string() }.into());
            }
            let value = self.value().map_err(|error| error.at_key(&key))?;
            metadata.push(key, value);
        }
        Ok(metadata)
    }

    fn value(&mut self) -> Result<Value> {
        Ok(match self.kind()? {
            Kind::U8 => Value::U8(u8::from_le_bytes(self.take()?)),
            Kind::I8 => Value::I8(i8::from_le_bytes(self.take()?)),
            Kind::U16 => Value::U16(u16::from_le_bytes(self.take()?)),
            Kind::I16 => Value::I16(i16::from_le_bytes(self.take()?)),
            Kind::U32 => Value::U32(self.u32()?),
            Kind::I32 => Value::I32(i32::from_le_bytes(self.take()?)),
            Kind::F32 => Value::F32(f32::from_le_bytes(self.take()?)),
            Kind::Bool => {
                let [byte] = self.take()?;
                expect_bools(&[byte])?;
                Value::Bool(byte == 1)
            }
            Kind::String => Value::String(self.text()?),
            Kind::Array => Value::Array(self.array()?),
            Kind::U64 => Value::U64(self.u64()?),
            Kind::I64 => Value::I64(i64::from_le_bytes(self.take()?)),
            Kind::F64 => Value::F64(f64::from_le_bytes(self.take()?)),
        })
    }

    fn kind(&mut self) -> Result<Kind> {
        let found = self.u32()?;
        Kind::from_number(found).ok_or_else(|| ErrorKind::UnknownKind { found }.into())
    }

    fn array(&mut self) -> Result<Array> {
        let kind = self.kind()?;
        if kind == Kind::Array {
            return Err(ErrorKind::NestedArray.into());
        }
        let count = self.u64()?;
        let smallest = kind.dtype().map_or(8, |dtype| dtype.block_bytes() as u64);
        self.expect_count("elements of an array", count, smallest, u64::MAX)?;
        let begin = self.at;
        match kind.dtype() {
            // No overflow: so many bytes remain.
            Some(_) => self.at += (count * smallest) as usize,
            None => {
                for _ in 0..count {
                    self.text()?;
                }
            }
        }
        let bytes = self.file.slice(begin..self.at).expect("checked element by element");
        if kind == Kind::Bool {
            expect_bools(&bytes)?;
        }
        Ok(Array::checked(kind, count as usize, bytes))
    }

    /// The place of a tensor; its begin and end still count from where the data begins.
    fn slot(&mut self, alignment: u64) -> Result<Slot> {
        let name = self.name()?;
        self.place(alignment)
            .map(|(dtype, shape, begin, end)| Slot { name: name.clone(), dtype, shape, begin, end })
            .map_err(|error| error.at(&name))
    }

    fn place(&mut self, alignment: u64) -> Result<(Dtype, Vec<usize>, usize, usize)> {
        let found = self.u32()? as usize;
        if found > MAX_DIMS {
            return Err(ErrorKind::TooManyDims { found, limit: MAX_DIMS }.into());
        }
        let mut dims = [0; MAX_DIMS];
        let dims = &mut dims[..found];
        for dim in dims.iter_mut() {
            *dim = self.u64()?;
        }
        // Innermost first in the file.
        dims.reverse();
        let dtype = types::dtype(self.u32()?)?;
        let begin = self.u64()?;
        let overflow = || Error::from(ErrorKind::SizeOverflow { shape: dims.to_vec(), dtype });
        let shape: Option<Vec<usize>> = dims.iter().map(|&n| usize::try_from(n).ok()).collect();
        let shape = shape.ok_or_else(overflow)?;
        if !dtype.has_whole_blocks(&shape) {
            let found = dims.last().copied().unwrap_or(1);
            return Err(ErrorKind::PartialBlock { dtype, found, block: dtype.block() }.into());
        }
        let size = dtype.size_of(&shape).ok_or_else(overflow)?;
        if !begin.is_multiple_of(alignment) {
            return Err(ErrorKind::Misaligned { begin, alignment }.into());
        }
        let begin = usize::try_from(begin).map_err(|_| overflow())?;
        let end = begin.checked_add(size).ok_or_else(overflow)?;
        Ok((dtype, shape, begin, end))
    }

    /// A key or the name of a tensor.
    fn name(&mut self) -> Result<Arc<str>> {
        let text = self.text()?;
        let (begin, found) = (self.at - text.len(), text.len() as u64);
        if found == 0 || found > MAX_NAME {
            return Err(ErrorKind::NameLength { found, limit: MAX_NAME }.into());
        }
        let name = std::str::from_utf8(&text)
            .map_err(|error| ErrorKind::NotUtf8 { at: begin + error.valid_up_to() })?;
        Ok(name.into())
    }

    /// A length and so many bytes.
    fn text(&mut self) -> Result<Bytes> {
        let length = self.u64()?;
        self.expect_count("bytes of a text", length, 1, u64::MAX)?;
        let end = self.at + length as usize;
        let text = self.file.slice(self.at..end).expect("so many bytes remain");
        self.at = end;
        Ok(text)
    }

    /// Refuses `found` of `what` if the rest of the file cannot hold as many, each of at least
    /// `smallest` bytes, or if they are more than any honest file has.
    fn expect_count(&self, what: &'static str, found: u64, smallest: u64, most: u64) -> Result<()> {
        let limit = (self.file.len() - self.at) as u64 / smallest;
        if found > limit {
            return Err(ErrorKind::CountPastEnd { what, found, limit }.into());
        }
        if found > most {
            return Err(ErrorKind::TooMany { what, found, limit: most }.into());
        }
        Ok(())
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let found = self.file.len() as u64;
        let bytes = self.file[self.at..].first_chunk().copied();
        let bytes = bytes.ok_or(ErrorKind::Truncated { needed: (self.at + N) as u64, found })?;
        self.at += N;
        Ok(bytes)
    }
}

fn expect_bools(bytes: &[u8]) -> Result<()> {
    match bytes.iter().find(|&&byte| byte > 1) {
        Some(&found) => Err(ErrorKind::NotBool { found }.into()),
        None => Ok(()),
    }
}
