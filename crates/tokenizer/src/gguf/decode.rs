//! From tokens to bytes: what a token of a GGUF vocabulary says.

use crate::bytes::byte;
use crate::gguf::TokenType;

/// How ordinary pieces are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// One character for each byte.
    Bytes,
    /// `▁` for a space.
    Spaces,
}

/// Appends the bytes of one token. Control tokens stand for their names; whoever decodes leaves them out before.
pub(crate) fn decode(piece: &str, kind: TokenType, written: Written, out: &mut Vec<u8>) {
    match (kind, written) {
        (TokenType::Control | TokenType::Unknown | TokenType::UserDefined, _) => {
            out.extend_from_slice(piece.as_bytes());
        }
        (TokenType::Byte, _) => out.extend(hex(piece)),
        (TokenType::Unused | TokenType::Undefined, _) => {}
        (TokenType::Normal, Written::Spaces) => out.extend_from_slice(piece.replace('▁', " ").as_bytes()),
        (TokenType::Normal, Written::Bytes) => {
            for character in piece.chars() {
                match byte(character) {
                    Some(byte) => out.push(byte),
                    None => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
        }
    }
}

/// The byte of a token like `<0x0A>`.
pub(crate) fn hex(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    two.then(|| u8::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(piece: &str, kind: TokenType, written: Written, expected: &[u8]) {
        let mut out = Vec::new();
        decode(piece, kind, written, &mut out);
        assert_eq!(out, expected, "{piece} {kind:?} {written:?}");
    }

    #[test]
    fn each_type_has_its_bytes() {
        check("Ġa", TokenType::Normal, Written::Bytes, b" a");
        check("▁a", TokenType::Normal, Written::Spaces, b" a");
        check("▁a", TokenType::UserDefined, Written::Spaces, "▁a".as_bytes());
        check("  ", TokenType::UserDefined, Written::Bytes, b"  ");
        check("<0x0a>", TokenType::Byte, Written::Spaces, b"\n");
        check("<0x+a>", TokenType::Byte, Written::Spaces, b"");
        check("<0x41>", TokenType::Normal, Written::Spaces, b"<0x41>");
        check("[PAD7]", TokenType::Unused, Written::Bytes, b"");
        check("</s>", TokenType::Control, Written::Spaces, b"</s>");
        check("漢", TokenType::Normal, Written::Bytes, "漢".as_bytes());
    }
}
