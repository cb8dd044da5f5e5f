//! Thousands of random damages to a sound file: never a panic, never more memory than the file
//! can justify, and whatever is accepted is consistent.

use std::ops::Range;

use crate::memory::{SLACK, cost, seeds, within};
use crate::support::{Numbers, file, sound};
use formwork_formats::{Archive, Bytes, ErrorKind, SafeTensors};

/// Parses `bytes`; if that is accepted, checks it and takes every number out. Returns whether.
fn survives(bytes: &[u8]) -> bool {
    let owned = Bytes::from(bytes.to_vec());
    let (parsed, taken) = cost(|| SafeTensors::from_bytes(owned));
    within(taken, bytes.len());
    let Ok(parsed) = parsed.map_err(|error| assert!(!error.to_string().is_empty())) else { return false };
    let mut total = 0;
    for entry in parsed.entries() {
        assert_eq!(entry.dtype().size_of(entry.shape()), Some(entry.bytes().len()));
        assert!(std::ptr::eq(parsed.entry(entry.name()).unwrap(), entry));
        total += entry.bytes().len();
        let (read, taken) = cost(|| (entry.to_f32(), entry.to_i64(), entry.to_f64()));
        assert!(taken.most <= 16 * bytes.len() + SLACK, "{taken:?} to read {}", entry.bytes().len());
        if let (Ok(copied), Some(view)) = (read.0, entry.as_f32()) {
            assert!(copied.iter().zip(&*view).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert_eq!(8 + header + total, bytes.len());
    true
}

/// Numbers and tokens that parsers have fallen over.
const TOKENS: [&str; 24] = [
    "0",
    "1",
    "-1",
    "4",
    "9",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.5",
    "null",
    "{}",
    "[]",
    "\"",
    "\\",
    "\"F64\"",
    "\"BOOL\"",
    "\"__metadata__\":{},",
    "\"x\":",
    ",",
    "]",
    "}",
    "\"data_offsets\":[0,0],",
];

fn mutate(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(bytes.len().max(1)).min(bytes.len());
    // Most of the interest is in the header's text, which begins at 8.
    let inside = (8 + numbers.below(640)).min(bytes.len());
    match numbers.below(10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
        1 if inside < bytes.len() => bytes[inside] = numbers.next() as u8,
        2 => bytes.truncate(at),
        3 => bytes.extend((0..numbers.below(70)).map(|i| i as u8)),
        4 => drop(bytes.splice(inside..inside, TOKENS[numbers.below(TOKENS.len())].bytes())),
        5 => {
            let end = (inside + numbers.below(20)).min(bytes.len());
            bytes.drain(inside..end);
        }
        6 => {
            let end = (inside + numbers.below(90)).min(bytes.len());
            let piece = bytes[inside..end].to_vec();
            let to = (8 + numbers.below(640)).min(bytes.len());
            bytes.splice(to..to, piece);
        }
        7 if bytes.len() >= 8 => {
            let length = match numbers.below(3) {
                0 => numbers.next(),
                1 => numbers.next() >> numbers.below(64),
                _ => numbers.below(2 * bytes.len()) as u64,
            };
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        _ => {
            // A number of the header becomes another one.
            let is_digit = |i: &usize| bytes.get(*i).is_some_and(u8::is_ascii_digit);
            let Some(start) = (inside..bytes.len()).find(is_digit) else { return };
            let end = (start..bytes.len()).find(|i| !is_digit(i)).unwrap_or(bytes.len());
            bytes.splice(start..end, TOKENS[numbers.below(10)].bytes());
        }
    }
}

/// Damages the sound file once for each seed; returns how many of the results were accepted.
fn damage(seeds: Range<u64>) -> u64 {
    let whole = sound();
    let mut accepted = 0;
    for seed in seeds {
        let mut numbers = Numbers(seed);
        let mut bytes = whole.clone();
        for _ in 0..=numbers.below(3) {
            mutate(&mut bytes, &mut numbers);
        }
        // Half the time the length is set right again, or most damage would stop at it.
        if numbers.below(2) == 0 && bytes.len() > 8 + 63 {
            let header = bytes.len() - 8 - 63;
            bytes[..8].copy_from_slice(&(header as u64).to_le_bytes());
        }
        accepted += u64::from(survives(&bytes));
    }
    accepted
}

#[test]
fn damaged_files_never_panic_nor_take_memory_they_cannot_justify() {
    assert!(survives(&sound()));
    let tried = seeds(12_000);
    let (accepted, all) = (damage(tried.clone()), tried.end);
    assert!(accepted > all / 120, "{accepted} accepted: the damage never reaches past the first checks");
    assert!(accepted < all * 7 / 12, "{accepted} of {all} accepted: the damage does nothing");
}

#[test]
fn a_damaged_index_never_panics() {
    let index = br#"{"metadata": {"total_size": 63}, "weight_map": {"wte.weight": "a.safetensors", "ids": "a.safetensors", "x": "b/c.safetensors"}}"#;
    for seed in seeds(4_000) {
        let mut numbers = Numbers(seed);
        let mut bytes = index.to_vec();
        for _ in 0..=numbers.below(3) {
            mutate(&mut bytes, &mut numbers);
        }
        let shards = [("a.safetensors".to_owned(), Bytes::from(sound()))];
        let (opened, taken) = cost(|| Archive::from_shards(&bytes, shards));
        within(taken, bytes.len());
        if let Err(error) = opened {
            assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn a_header_full_of_tensors_costs_a_few_times_its_length() {
    let tensor = |i: usize| format!(r#""{i:x}":{{"dtype":"U8","shape":[0,0,0,0],"data_offsets":[0,0]}}"#);
    let header = format!("{{{}}}", (0..20_000).map(tensor).collect::<Vec<_>>().join(","));
    let bytes = file(header, b"");
    let len = bytes.len();
    let (parsed, taken) = cost(|| SafeTensors::from_bytes(Bytes::from(bytes)));
    assert_eq!(parsed.unwrap().entries().len(), 20_000);
    assert!(taken.most <= 4 * len + (64 << 20), "{taken:?} for a file of {len}");
}

#[test]
fn a_header_full_of_tiny_lines_or_tensors_stops_at_a_limit() {
    fn check(header: &str, what: &str) {
        let bytes = file(header, b"");
        let len = bytes.len();
        let (parsed, taken) = cost(|| SafeTensors::from_bytes(Bytes::from(bytes)));
        let error = parsed.unwrap_err();
        let expected = |k: &ErrorKind| matches!(k, ErrorKind::TooMany { what: w, .. } if *w == what);
        assert!(expected(error.kind()), "{error}");
        assert!(taken.most <= 4 * len + (64 << 20), "{taken:?} for a file of {len}");
    }
    let lines: Vec<String> = (0..300_000).map(|i| format!("\"{i:x}\":\"\"")).collect();
    check(&format!("{{\"__metadata__\":{{{}}}}}", lines.join(",")), "lines of metadata");
    let tensor = |i: usize| format!(r#""{i:x}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
    let tensors: Vec<String> = (0..300_000).map(tensor).collect();
    check(&format!("{{{}}}", tensors.join(",")), "tensors");
}
