//! The sentence of each [`ErrorKind`]: expected, found, what to try.
//!
//! Names come from strangers, so they are quoted, escaped and cut before they reach a log.
//!
//! ```
//! use formwork_formats::ErrorKind;
//! let found = "x".repeat(1_000_000);
//! assert!(ErrorKind::AlreadyThere { found }.to_string().len() < 200);
//! ```

use std::fmt;
use std::io;

use crate::{Dtype, ErrorKind};

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ErrorKind as E;
        match self {
            E::Io { action, source } => {
                write!(f, "could not {action}: {source}; {}", remedy(source.kind()))
            }
            E::NotAFile => {
                f.write_str("expected a regular file, found a folder or device; give the path of a file")
            }
            E::NoFileName => f.write_str("expected a path that ends in a name, found none; name the target"),
            E::OutOfMemory { bytes } => {
                write!(f, "no memory for {bytes} bytes; build with the feature mmap or free memory")
            }
            E::NoWeights => f.write_str(
                "expected model.safetensors, model.safetensors.index.json or a .gguf file in the folder, \
                 found none; give the path of the weights",
            ),
            E::Ambiguous { found } => write!(
                f,
                "expected one file of weights or an index in the folder, found {} candidates ({}); \
                 give the path of one",
                found.len(),
                List(found)
            ),
            E::ShardWithoutIndex { shard } => write!(
                f,
                "expected a whole model or an index in the folder, found the shard {} alone; \
                 fetch the index and the other shards",
                Quoted(shard)
            ),
            E::TooShort { found } => write!(
                f,
                "expected at least 8 bytes of a safetensors file, found {found}; fetch or save it again"
            ),
            E::HeaderTooLarge { found, limit } => write!(
                f,
                "expected a header or index of at most {limit} bytes, found a length of {found}; \
                 this is no safetensors file or a damaged one"
            ),
            E::Truncated { needed, found } => write!(
                f,
                "the file has {found} bytes, its header says {needed}; it is truncated, fetch or save it again"
            ),
            E::NotUtf8 { at } => {
                write!(
                    f,
                    "expected UTF-8 text, found another byte at {at} of the file; it is no file of weights \
                     or a damaged one"
                )
            }
            E::Json { what, message } => {
                write!(f, "the {what} is not as the format wants it: {}", Clipped(message))
            }
            E::DuplicateKey { key } => {
                write!(f, "the key {} stands twice; keep one of the two", Quoted(key))
            }
            E::DuplicateTensor => f.write_str("the name stands twice in the file; give each its own name"),
            E::UnknownDtype { found } => {
                f.write_str("expected a dtype of ")?;
                for dtype in Dtype::ALL.into_iter().filter(|dtype| !dtype.is_blocks()) {
                    write!(f, "{dtype} ")?;
                }
                write!(f, "but found {}; convert the tensor to one of these", Quoted(found))
            }
            E::TooManyDims { found, limit } => {
                write!(f, "expected at most {limit} dimensions, found {found}; reshape the tensor")
            }
            E::SizeOverflow { shape, dtype } => {
                write!(
                    f,
                    "a tensor of shape {shape:?} and dtype {dtype} has more bytes than can be addressed"
                )
            }
            E::SizeMismatch { shape, dtype, expected, found } => write!(
                f,
                "shape {shape:?} of dtype {dtype} is {expected} bytes, its offsets span {found}; \
                 the header is damaged"
            ),
            E::OffsetsReversed { begin, end } => {
                write!(f, "its data begins at {begin} and ends before that, at {end}; the header is damaged")
            }
            E::Overlap { begin, other, other_end } => write!(
                f,
                "its data begins at {begin}, inside that of {} which ends at {other_end}; \
                 the header is damaged",
                Quoted(other)
            ),
            E::Hole { from, to } => write!(
                f,
                "its data begins at {to}, the data before it ends at {from}; the format allows no gap"
            ),
            E::Trailing { used, found } => write!(
                f,
                "the file has {found} bytes, its header accounts for {used}; the format allows nothing behind \
                 the last tensor"
            ),
            E::ShardOutsideFolder { shard } => write!(
                f,
                "the index names the shard {} which is no path inside its folder; refuse this checkpoint \
                 or correct the index",
                Quoted(shard)
            ),
            E::MissingShard { shard } => {
                write!(f, "the index names the shard {} which is not there; fetch it too", Quoted(shard))
            }
            E::UnlistedShard { shard } => {
                write!(f, "the shard {} is not named by the index; leave it out", Quoted(shard))
            }
            E::NotInShard { shard, instead } => {
                write!(f, "the index expects it in the shard {}, ", Quoted(shard))?;
                match instead {
                    Some(instead) => write!(f, "found it in {}; correct the index", Quoted(instead)),
                    None => f.write_str("found it in none; fetch index and shards of one version"),
                }
            }
            E::InTwoShards { first, second } => write!(
                f,
                "it is in the shard {} and again in {}; keep one of the two",
                Quoted(first),
                Quoted(second)
            ),
            E::WrongDtype { dtype, wanted } if dtype.is_blocks() => write!(
                f,
                "expected {wanted}, found dtype {dtype}, which stands in blocks; decode it with the quant crate"
            ),
            E::WrongDtype { dtype, wanted } => {
                write!(f, "expected {wanted}, found dtype {dtype}; use its bytes")
            }
            E::WrongLength { expected, found } => write!(
                f,
                "expected a slice of {expected} numbers, found {found}; size it by the entry's shape"
            ),
            E::RangePastEnd { first, count, len } => write!(
                f,
                "expected a range within {len} numbers, found {count} from {first}; keep to the entry's shape"
            ),
            E::OutOfRange { index, value, target } => write!(
                f,
                "the number {value} at index {index} does not fit {target}; use a type with more range"
            ),
            E::ReservedName => {
                f.write_str("the name is reserved for the header's own metadata; rename the tensor")
            }
            E::OutOfOrder { expected: Some(name) } => {
                write!(f, "expected data of {} next; append in declared order", Quoted(name))
            }
            E::OutOfOrder { expected: None } => {
                f.write_str("expected no more data, all declared tensors are written; declare this one too")
            }
            E::TooMuchData { declared, found } => {
                write!(f, "expected {declared} bytes by the declared shape, found {found}; check the shape")
            }
            E::Unfinished { declared, found } => write!(
                f,
                "expected {declared} bytes before the file is complete, {found} were appended; \
                 append every declared tensor, and start over after an error"
            ),
            E::MissingShards { expected, found } => {
                write!(f, "expected {expected} complete shards, found {found}; start over after an error")
            }
            E::AlreadyThere { found } => {
                write!(f, "found {} there already; write to a new place or remove it", Quoted(found))
            }
            E::NotGguf { found } => write!(
                f,
                "expected a file that begins with GGUF, found \"{}\"; give the path of a GGUF file",
                found.escape_ascii()
            ),
            E::UnsupportedVersion { found } => write!(
                f,
                "expected version 2 or 3 of GGUF, found version {found}; convert the file with a current tool"
            ),
            E::BigEndian => f.write_str(
                "expected little-endian numbers, found a big-endian GGUF file; fetch the little-endian one",
            ),
            E::CountPastEnd { what, found, limit } => write!(
                f,
                "the file claims {found} {what}, what remains of it holds at most {limit}; it is truncated \
                 or damaged, fetch it again"
            ),
            E::TooMany { what, found, limit } => {
                write!(f, "expected at most {limit} {what}, found {found}; the file is damaged")
            }
            E::NameLength { found, limit } => {
                write!(f, "expected a name of 1 to {limit} bytes, found {found}; rename it")
            }
            E::UnknownKind { found } => write!(
                f,
                "expected a kind of value from 0 to 12, found {found}; the file is damaged, or newer than \
                 this reader"
            ),
            E::NestedArray => {
                f.write_str("expected an array of plain values, found one of arrays; flatten it")
            }
            E::NotBool { found } => {
                write!(f, "expected 0 or 1 for a truth value, found {found}; the file is damaged")
            }
            E::NotText { at } => {
                write!(f, "expected UTF-8 text, found another byte at {at} of the text; use its bytes")
            }
            E::WrongValue { wanted, found } => {
                write!(f, "expected {wanted}, found {}; correct the metadata", Clipped(found))
            }
            E::BadAlignment { found, limit } => write!(
                f,
                "expected an alignment that is a power of two up to {limit}, found {found}; correct the metadata"
            ),
            E::Misaligned { begin, alignment } => write!(
                f,
                "its data begins at {begin}, which is no multiple of the alignment {alignment}; \
                 the header is damaged"
            ),
            E::UnsupportedType { number, name } => {
                f.write_str("expected F64, F32, F16, BF16, I64 to I8, Q4_0 to Q8_0 or Q2_K to Q6_K, ")?;
                match name {
                    Some(name) => write!(f, "found tensor type {number}, {name}, which is not supported; ")?,
                    None => write!(f, "found tensor type {number}, which is not known; ")?,
                }
                f.write_str("quantise the model to one of these")
            }
            E::PartialBlock { dtype, found, block } => write!(
                f,
                "expected rows of whole blocks of {block} for dtype {dtype}, found {found} numbers; \
                 use a multiple of {block}"
            ),
            E::Split { parts } => write!(
                f,
                "the model is split into {parts} GGUF files, and only whole ones are read; merge them first, \
                 for example with llama-gguf-split --merge"
            ),
            E::RowsPastEnd { start, end, rows } => write!(
                f,
                "expected a range within {rows} rows, found {start}..{end}; keep to the entry's shape"
            ),
        }
    }
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "check the path, and create its folder before writing",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "check the permissions",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free disk space or write elsewhere; what was there before is untouched"
        }
        _ => "check the path and the disk",
    }
}

/// Text from a file, cut to a length a log line can bear.
struct Clipped<'a>(&'a str);

const LONGEST: usize = 96;

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST * 2) {
            Some((cut, _)) => write!(f, "{}…", self.0[..cut].escape_debug()),
            None => f.write_str(self.0),
        }
    }
}

/// A name from a file: quoted, escaped, cut.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST) {
            Some((cut, _)) => write!(f, "{:?}…", &self.0[..cut]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

struct List<'a>(&'a [String]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().take(4).enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { ", " }, Quoted(name))?;
        }
        if self.0.len() > 4 { f.write_str(", …") } else { Ok(()) }
    }
}
