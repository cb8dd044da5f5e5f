//! Every way in which a weight file can be wrong, one variant each.
//!
//! Each sentence says what was expected, what was found and what to try; [`Error`](crate::Error)
//! puts the file and the tensor in front.
//!
//! ```
//! use formwork_formats::{Dtype, ErrorKind};
//! let kind = ErrorKind::WrongLength { expected: 15, found: 14 };
//! assert_eq!(kind.to_string(), "expected a slice of 15 numbers, found 14; size it by the entry's shape");
//! ```

use std::io;

use crate::Dtype;

/// The kind of a failure. Sizes and offsets are in bytes unless said otherwise.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The system refused: opening, reading, writing, syncing or renaming.
    Io {
        /// What was tried, for example `open the file`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The path is a folder, a pipe or a device where a regular file is needed.
    NotAFile,
    /// The path given for writing has no last component to name a file by.
    NoFileName,
    /// The memory for reading a file could not be had.
    OutOfMemory {
        /// How much it would have been.
        bytes: u64,
    },
    /// A folder without weights that we can read.
    NoWeights,
    /// A folder with several candidates and no index that says which belong together.
    Ambiguous {
        /// Their names.
        found: Vec<String>,
    },
    /// A folder with one shard of several and no index.
    ShardWithoutIndex {
        /// Its name.
        shard: String,
    },
    /// Fewer than the eight bytes that give the header's length.
    TooShort {
        /// Length of the file.
        found: u64,
    },
    /// The header claims to be longer than any honest one.
    HeaderTooLarge {
        /// Its claimed length.
        found: u64,
        /// The longest allowed.
        limit: u64,
    },
    /// The header or a tensor ends behind the end of the file.
    Truncated {
        /// The length the header asks for.
        needed: u64,
        /// Length of the file.
        found: u64,
    },
    /// The header, the index or a name is not UTF-8.
    NotUtf8 {
        /// Offset of the first wrong byte in the file.
        at: usize,
    },
    /// The header or index is not JSON, or not JSON of the expected form.
    Json {
        /// `header` or `index`.
        what: &'static str,
        /// What is wrong, with line and column of the JSON.
        message: String,
    },
    /// A key stands twice.
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A tensor's name stands twice in one file.
    DuplicateTensor,
    /// A number type that is unknown or not supported.
    UnknownDtype {
        /// As it stands in the file.
        found: String,
    },
    /// More dimensions than [`MAX_DIMS`](crate::MAX_DIMS).
    TooManyDims {
        /// How many there are.
        found: usize,
        /// How many there may be.
        limit: usize,
    },
    /// The bytes of a shape, or where they end, do not fit the address space.
    SizeOverflow {
        /// The dimensions.
        shape: Vec<u64>,
        /// The type of the numbers.
        dtype: Dtype,
    },
    /// Shape and type ask for another number of bytes than the offsets span.
    SizeMismatch {
        /// The dimensions.
        shape: Vec<usize>,
        /// The type of the numbers.
        dtype: Dtype,
        /// Bytes by shape and type.
        expected: u64,
        /// Bytes by offsets.
        found: u64,
    },
    /// The begin offset lies behind the end offset.
    OffsetsReversed {
        /// Where the data begins, from the end of the header.
        begin: u64,
        /// Where it ends.
        end: u64,
    },
    /// Two tensors share bytes.
    Overlap {
        /// Where its data begins, from where the data of the file begins.
        begin: u64,
        /// The tensor that lies there.
        other: String,
        /// Where that one ends.
        other_end: u64,
    },
    /// Bytes that belong to no tensor, before this one.
    Hole {
        /// Where they begin, from where the data of the file begins.
        from: u64,
        /// Where they end.
        to: u64,
    },
    /// Bytes that belong to no tensor, after the last one.
    Trailing {
        /// The length the header accounts for.
        used: u64,
        /// Length of the file.
        found: u64,
    },
    /// The index names a shard outside its folder.
    ShardOutsideFolder {
        /// As it stands in the index.
        shard: String,
    },
    /// The index names a shard that is not there.
    MissingShard {
        /// Its name.
        shard: String,
    },
    /// A shard was handed over that the index does not name.
    UnlistedShard {
        /// Its name.
        shard: String,
    },
    /// The index promises a tensor that its shard does not hold.
    NotInShard {
        /// The shard that the index names.
        shard: String,
        /// The shard that holds it, if any.
        instead: Option<String>,
    },
    /// Two shards hold a tensor of the same name.
    InTwoShards {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
    /// The entry's type cannot be read or written in this way.
    WrongDtype {
        /// The type.
        dtype: Dtype,
        /// What it should be, in words.
        wanted: &'static str,
    },
    /// The caller's slice has another length than the entry.
    WrongLength {
        /// Numbers in the entry.
        expected: usize,
        /// Numbers in the slice.
        found: usize,
    },
    /// A range of numbers reaches past the end of the entry.
    RangePastEnd {
        /// Index of the first number.
        first: usize,
        /// How many were asked for.
        count: usize,
        /// Numbers in the entry.
        len: usize,
    },
    /// A finite number would become infinite, or wrap, in the other type.
    OutOfRange {
        /// Its index in the tensor, row-major.
        index: u64,
        /// The number.
        value: f64,
        /// The other type.
        target: &'static str,
    },
    /// A tensor to be written is called like the header's metadata.
    ReservedName,
    /// Data arrived for another tensor than the next one declared, or for one too many.
    OutOfOrder {
        /// The next one declared; `None` after the last.
        expected: Option<String>,
    },
    /// More data than the declared shape holds.
    TooMuchData {
        /// Bytes by the declared shape.
        declared: u64,
        /// Bytes with what was to be appended.
        found: u64,
    },
    /// The file was finished, or used on after an error, before all declared data had arrived.
    Unfinished {
        /// Bytes of all declared tensors.
        declared: u64,
        /// Bytes appended.
        found: u64,
    },
    /// Not all shards could be written.
    MissingShards {
        /// How many there should be.
        expected: usize,
        /// How many are complete.
        found: usize,
    },
    /// The place to write to already holds something that must not be mixed with.
    AlreadyThere {
        /// Its name.
        found: String,
    },
    /// The file does not begin as a GGUF file does.
    NotGguf {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// A GGUF file of a version that we do not read.
    UnsupportedVersion {
        /// The version.
        found: u32,
    },
    /// A GGUF file whose numbers are big-endian.
    BigEndian,
    /// A count or a length that the bytes that remain in the file cannot hold.
    CountPastEnd {
        /// What is counted, for example `tensors`.
        what: &'static str,
        /// The count in the file.
        found: u64,
        /// How many the rest of the file can hold at most.
        limit: u64,
    },
    /// More of something than any honest file has.
    TooMany {
        /// What is counted, for example `tensors`.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many there may be.
        limit: u64,
    },
    /// A name or key is empty or longer than it may be.
    NameLength {
        /// Its bytes.
        found: u64,
        /// The most it may have.
        limit: u64,
    },
    /// A metadata value of a kind that does not exist.
    UnknownKind {
        /// Its number in the file.
        found: u32,
    },
    /// A metadata array whose elements are arrays.
    NestedArray,
    /// A truth value that is neither 0 nor 1.
    NotBool {
        /// The byte.
        found: u8,
    },
    /// A text of the metadata that is not UTF-8.
    NotText {
        /// Place of the first wrong byte in the text.
        at: usize,
    },
    /// A metadata value of another kind, or out of the range, that was asked for.
    WrongValue {
        /// What it should be, in words.
        wanted: &'static str,
        /// What it is, in words.
        found: String,
    },
    /// The alignment of the data is no power of two, or larger than any honest one.
    BadAlignment {
        /// The alignment.
        found: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A tensor's data does not begin at a multiple of the file's alignment.
    Misaligned {
        /// Where it begins, from where the data of the file begins.
        begin: u64,
        /// The alignment.
        alignment: u64,
    },
    /// A tensor type of GGUF that is unknown or that we do not read.
    UnsupportedType {
        /// Its number in the file.
        number: u32,
        /// Its name, if the number is one of a known type.
        name: Option<&'static str>,
    },
    /// A row, or a range within one, that is no whole number of blocks.
    PartialBlock {
        /// The type of the numbers.
        dtype: Dtype,
        /// Numbers in the row, or before the cut.
        found: u64,
        /// Numbers in a block.
        block: usize,
    },
    /// One file of a model that is split into several GGUF files.
    Split {
        /// How many files there are.
        parts: u64,
    },
    /// A range of rows reaches past the end of the first axis.
    RowsPastEnd {
        /// The first row asked for.
        start: usize,
        /// The row behind the last one.
        end: usize,
        /// How many rows there are.
        rows: usize,
    },
}
