//! Random damage to JSON: in its bytes, and in its values.

use serde_json::{Value, json};

/// Numbers that look random and are the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    pub(crate) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Texts and numbers that readers have fallen over.
const TOKENS: [&str; 30] = [
    "0",
    "1",
    "-1",
    "255",
    "1024",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "-1e-400",
    "0.5",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "\"",
    "\\",
    "\\ud800",
    "\\u0000",
    ",",
    ":",
    "]",
    "}",
    "{\"type\":",
    "\"a\":0,",
    "é",
    "\u{feff}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Damages the bytes of a text.
pub(crate) fn bytes_of_text(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    let end = (at + numbers.below(60)).min(bytes.len());
    match numbers.below(9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
        1 if at < bytes.len() => bytes[at] = numbers.next() as u8,
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = numbers.below(bytes.len());
            bytes.splice(to..to, piece);
        }
        5 => drop(bytes.splice(at..end, numbers.of(&TOKENS).bytes())),
        6 => {
            // A number becomes another one.
            let is_digit = |i: &usize| bytes[*i].is_ascii_digit();
            let Some(start) = (at..bytes.len()).find(is_digit) else { return };
            let end = (start..bytes.len()).find(|i| !is_digit(i)).unwrap_or(bytes.len());
            bytes.splice(start..end, TOKENS[numbers.below(12)].bytes());
        }
        7 if numbers.below(20) == 0 => {
            let open = *numbers.of(&["[", "{\"a\":", "{\"type\":\"Sequence\",\"decoders\":["]);
            bytes.splice(at..at, open.repeat(numbers.below(3000)).bytes());
        }
        _ => drop(bytes.splice(at..at, numbers.of(&TOKENS).bytes())),
    }
}

/// A random place in a JSON value, reached by descending.
fn place<'a>(value: &'a mut Value, numbers: &mut Numbers) -> &'a mut Value {
    let children = match &*value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    if children == 0 || numbers.below(6) == 0 {
        return value;
    }
    let child = numbers.below(children);
    match value {
        Value::Array(list) => place(&mut list[child], numbers),
        Value::Object(map) => place(map.values_mut().nth(child).unwrap(), numbers),
        leaf => leaf,
    }
}

/// Another value, of any kind: an extreme one, or what stands elsewhere in the file or in another one.
fn other(whole: &mut Value, seeds: &[Value], numbers: &mut Numbers) -> Value {
    match numbers.below(16) {
        0 => Value::Null,
        1 => json!(numbers.below(2) == 0),
        2 => json!(numbers.below(600)),
        3 => json!(*numbers.of(&[u64::MAX, 1 << 32, (1 << 32) - 1, 1 << 31, 1 << 20, 4096, 1025, 0])),
        4 => json!(*numbers.of(&[-1.0, 0.5, 1e300, -1e300, 1e-300, f64::MIN_POSITIVE])),
        5 => json!(
            numbers.of(&["", " ", "é", "▁", "Ġ", "##", "a", "<unk>", "\u{0}", "\\p{L}+", "(?=", ".*", "^"])
        ),
        6 => json!("x".repeat(numbers.below(5000))),
        7 => json!(numbers.of(&[
            "BPE",
            "Unigram",
            "WordPiece",
            "WordLevel",
            "Sequence",
            "ByteLevel",
            "Metaspace"
        ])),
        8 => {
            json!(numbers.of(&["Isolated", "Removed", "MergedWithPrevious", "Contiguous", "first", "never"]))
        }
        9 => {
            json!({"Regex": *numbers.of(&["", "a*", "(?!\\S)", "(a|aa)+$", "\\b", "[^a]", "(?<=x)y", "\\1"])})
        }
        10 => {
            let [content, with] = [numbers.below(3), numbers.below(300)].map(|count| "a".repeat(count));
            json!({"type": "Replace", "pattern": {"String": content}, "content": with})
        }
        11 => {
            json!({"type": *numbers.of(&PARTS), "content": "a", "start": 1, "stop": 1, "length": numbers.below(3)})
        }
        12 => {
            let mut nested = json!({"type": "Fuse"});
            for _ in 0..numbers.below(100) {
                nested = json!({"type": "Sequence", "decoders": [nested.clone()], "pretokenizers": [nested]});
                if nested.to_string().len() > 20_000 {
                    break;
                }
            }
            nested
        }
        13 => {
            let mut other = seeds[numbers.below(seeds.len())].clone();
            place(&mut other, numbers).take()
        }
        _ => place(whole, numbers).clone(),
    }
}

/// Components of the tokenizers library.
const PARTS: [&str; 24] = [
    "BertNormalizer",
    "Strip",
    "StripAccents",
    "NFC",
    "NFKD",
    "Lowercase",
    "Prepend",
    "Nmt",
    "BertPreTokenizer",
    "Whitespace",
    "WhitespaceSplit",
    "Punctuation",
    "Digits",
    "UnicodeScripts",
    "FixedLength",
    "CharDelimiterSplit",
    "Split",
    "CTC",
    "BPEDecoder",
    "WordPiece",
    "ByteFallback",
    "RobertaProcessing",
    "BertProcessing",
    "TemplateProcessing",
];

/// Damages a JSON value in one place.
pub(crate) fn value_of(whole: &mut Value, seeds: &[Value], numbers: &mut Numbers) {
    let new = other(whole, seeds, numbers);
    let kind = numbers.below(8);
    let found = place(whole, numbers);
    match (kind, found) {
        (0, Value::Array(list)) if !list.is_empty() => drop(list.remove(numbers.below(list.len()))),
        (1, Value::Array(list)) => list.push(new),
        (2, Value::Array(list)) if !list.is_empty() => {
            let (a, b) = (numbers.below(list.len()), numbers.below(list.len()));
            list.swap(a, b);
        }
        (0 | 1, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(numbers.below(map.len())).unwrap().clone();
            let value = map.remove(&key).unwrap();
            if kind == 1 {
                map.insert(format!("{key}{}", numbers.of(&["x", "", "##", "</w>"])), value);
            }
        }
        (3, Value::String(text)) => {
            let cut = text.char_indices().map(|(at, _)| at).nth(numbers.below(text.len()));
            text.truncate(cut.unwrap_or(0));
        }
        (4, Value::Number(number)) => {
            let near = number.as_i64().unwrap_or(0) + numbers.below(5) as i64 - 2;
            *number = near.into();
        }
        (_, found) => *found = new,
    }
}
