//! One token per byte: 256 ids, an id is its byte.
//!
//! Knows every text and needs no training; texts are long in it. In its file each byte is written with the character
//! that GPT-2 gave it (Radford et al. 2019), which every reader of `tokenizer.json` understands.
//!
//! ```
//! use formwork_tokenizer::Tokenizer;
//!
//! let bytes = Tokenizer::bytes();
//! assert_eq!(bytes.encode("é!")?, [0xc3, 0xa9, 0x21]);
//! assert_eq!(bytes.vocab(), 256);
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

use serde_json::{Value, json};

use crate::file::{Model, TokenizerFile};

/// The character that stands for a byte in the pieces of byte-level tokenizers.
///
/// Visible Latin-1 characters stand for themselves, the others follow from U+0100 in order.
pub(crate) fn character(byte: u8) -> char {
    let itself = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if itself(byte) {
        char::from(byte)
    } else {
        let before = (0..byte).filter(|&b| !itself(b)).count() as u32;
        char::from_u32(0x100 + before).expect("at most U+0143")
    }
}

/// The byte that a character of a byte-level piece stands for.
pub(crate) fn byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        // The 68 others in order: 0 to 32, 127 to 160, 173.
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 127) as u8),
        0x143 => Some(173),
        _ => None,
    }
}

/// How this tokenizer's file cuts a text: not at all, only bytes into characters.
fn pre_tokenizer() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

/// How bytes become text in its file.
fn decoder() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
}

/// The file of the byte tokenizer.
pub(crate) fn file() -> TokenizerFile {
    let vocab = (0..=255).map(|byte| (character(byte).to_string(), u32::from(byte))).collect();
    TokenizerFile {
        pre_tokenizer: Some(pre_tokenizer()),
        decoder: Some(decoder()),
        ..TokenizerFile::new(Model::bpe(vocab, Vec::new()))
    }
}

/// Whether a file says just what [`file`] says.
pub(crate) fn is(found: &TokenizerFile) -> bool {
    found.model.pieces().len() == 256 && *found == file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_character_and_back() {
        for b in 0..=255 {
            assert_eq!(byte(character(b)), Some(b));
        }
        assert_eq!(
            [character(b' '), character(b'\n'), character(b'a'), character(173)],
            ['Ġ', 'Ċ', 'a', 'Ń']
        );
        assert_eq!([byte('€'), byte('\u{144}'), byte(' ')], [None; 3]);
    }
}
