//! Tens of thousands of random damages to a sound GGUF file: never a panic, never more memory than
//! the file can justify, and whatever is accepted is consistent and can be written again.

use std::ops::Range;

use crate::memory::{cost, seeds, within};
use crate::support::Numbers;
use crate::support_gguf::{Field, sound};
use formwork_formats::gguf::{Gguf, Layout, Writer};
use formwork_formats::{Bytes, Entry};

/// Parses `bytes`; if that is accepted, looks at everything in it. Returns whether.
fn survives(bytes: &[u8]) -> bool {
    let owned = Bytes::from(bytes.to_vec());
    let (parsed, taken) = cost(|| Gguf::from_bytes(owned));
    within(taken, bytes.len());
    let file = match parsed {
        Ok(file) => file,
        Err(error) => {
            assert!(error.to_string().len() < 1000, "{error}");
            return false;
        }
    };
    for (key, value) in file.metadata().iter() {
        assert_eq!(file.metadata().get(key).map(|v| v.kind()), Some(value.kind()));
        assert!(value.to_string().len() < 10_000);
        let metadata = file.metadata();
        let _ = (metadata.u64(key), metadata.f64(key), metadata.str(key));
        if let Some(array) = value.as_array() {
            let counts = [
                array.strings().map(Iterator::count),
                array.f64s().map(Iterator::count),
                array.i64s().map(Iterator::count),
                array.bools().map(Iterator::count),
            ];
            assert!(counts.into_iter().flatten().all(|count| count == array.len()));
        }
    }
    for entry in file.entries() {
        check(entry);
        assert!(std::ptr::eq(file.entry(entry.name()).unwrap(), entry));
    }
    assert!(file.entries().iter().map(|entry| entry.bytes().len()).sum::<usize>() < bytes.len());
    write_again(&file);
    true
}

fn check(entry: &Entry) {
    assert_eq!(entry.dtype().size_of(entry.shape()), Some(entry.bytes().len()));
    let numbers = entry.to_f64().map(|n| n.len()).or_else(|_| entry.to_i64().map(|n| n.len()));
    assert_eq!(numbers.ok(), (!entry.dtype().is_blocks()).then(|| entry.elements()));
    let rows = entry.shape().first().copied().unwrap_or(0);
    let _ = (entry.rows(0..rows), entry.rows(rows / 2..rows), entry.rows(0..rows.saturating_add(1)));
}

/// What was accepted is also what is written, unless the writer has a reason.
fn write_again(file: &Gguf) {
    let mut layout = Layout { metadata: file.metadata().clone(), tensors: Vec::new() };
    for entry in file.entries() {
        layout = layout.tensor(entry.name(), entry.dtype(), entry.shape());
    }
    let mut again = Vec::new();
    let Ok(mut writer) = Writer::new(&mut again, &layout) else { return };
    for entry in file.entries() {
        writer.append_bytes(entry.name(), entry.bytes()).unwrap();
    }
    writer.finish().unwrap();
    let again = Gguf::from_bytes(again).unwrap();
    // Compared as text, since a value that is no number is not equal to itself.
    let text = |file: &Gguf| {
        format!("{:?}", file.metadata().iter().map(|(k, v)| (k.len(), v.to_string())).collect::<Vec<_>>())
    };
    assert_eq!(text(&again), text(file));
    for (a, b) in file.entries().iter().zip(again.entries()) {
        assert_eq!((a.name(), a.shape(), a.bytes()), (b.name(), b.shape(), b.bytes()));
    }
}

/// Numbers that parsers have fallen over.
const EXTREMES: [u64; 20] = [
    0,
    1,
    2,
    4,
    5,
    7,
    8,
    9,
    13,
    32,
    33,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 61,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 31,
    u64::MAX,
];

fn mutate(bytes: &mut Vec<u8>, fields: &[Field], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len().max(1)).min(bytes.len());
    // Most of the interest is in what stands before the data.
    let inside = numbers.below(1000).min(bytes.len());
    match numbers.below(12) {
        0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
        1 | 2 if inside < bytes.len() => bytes[inside] ^= 1 << numbers.below(8),
        3 => bytes.truncate(at),
        4 => bytes.extend((0..numbers.below(70)).map(|i| i as u8)),
        5 => {
            let end = (inside + numbers.below(40)).min(bytes.len());
            bytes.drain(inside..end);
        }
        6 => {
            let end = (inside + numbers.below(90)).min(bytes.len());
            let piece = bytes[inside..end].to_vec();
            let to = numbers.below(1000).min(bytes.len());
            bytes.splice(to..to, piece);
        }
        7 => {
            // A piece of the file over another one of the same length: the rest keeps its place.
            let length = numbers.below(40).min(bytes.len() - inside);
            let from = numbers.below(bytes.len() - length + 1);
            bytes.copy_within(from..from + length, inside);
        }
        _ => {
            let Field { at, width } = fields[numbers.below(fields.len())];
            let Some(field) = bytes.get_mut(at..at + width) else { return };
            let mut old = [0; 8];
            old[..width].copy_from_slice(field);
            let old = u64::from_le_bytes(old);
            let new = match numbers.below(4) {
                0 => EXTREMES[numbers.below(EXTREMES.len())],
                1 => old.wrapping_add(numbers.below(65) as u64).wrapping_sub(32),
                2 => old ^ (1 << numbers.below(64)),
                _ => numbers.below(50) as u64,
            };
            field.copy_from_slice(&new.to_le_bytes()[..width]);
        }
    }
}

/// Damages the sound file once for each seed; returns how many of the results were accepted.
fn damage(seeds: Range<u64>) -> u64 {
    let (whole, fields) = sound().with_fields();
    let mut accepted = 0;
    for seed in seeds {
        let mut numbers = Numbers(seed);
        let mut bytes = whole.clone();
        for _ in 0..=numbers.below(3) {
            mutate(&mut bytes, &fields, &mut numbers);
        }
        accepted += u64::from(survives(&bytes));
    }
    accepted
}

#[test]
fn damaged_files_never_panic_nor_take_memory_they_cannot_justify() {
    assert!(survives(&sound().build()));
    let tried = seeds(40_000);
    let (accepted, all) = (damage(tried.clone()), tried.end);
    assert!(
        accepted > all / 50,
        "{accepted} of {all} accepted: the damage never reaches past the first checks"
    );
    assert!(accepted < all / 2, "{accepted} of {all} accepted: the damage does nothing");
}

#[test]
fn every_field_at_every_extreme_is_survived() {
    let (whole, fields) = sound().with_fields();
    for Field { at, width } in fields {
        for extreme in EXTREMES {
            let mut bytes = whole.clone();
            bytes[at..at + width].copy_from_slice(&extreme.to_le_bytes()[..width]);
            survives(&bytes);
        }
    }
}

#[test]
fn every_flipped_bit_is_survived() {
    let whole = sound().build();
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        survives(&bytes);
    }
}
