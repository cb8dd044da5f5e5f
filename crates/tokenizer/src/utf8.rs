//! Bytes that arrive in pieces, turned into text without ever splitting a character.
//!
//! The text of all pushes and the finish together is what `String::from_utf8_lossy` makes of all the bytes:
//! each maximal invalid part becomes one U+FFFD. At most three bytes wait for the rest of their character.

/// The bytes of a character that has not ended yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Takes bytes and appends every character that is now complete to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, tail) = rest.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(valid).expect("checked up to here"));
                    rest = tail;
                    // No length: the bytes may still become a character, so they wait.
                    let Some(bad) = error.error_len() else { break };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
    }

    /// Nothing more comes: a character that never ended becomes one U+FFFD.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if !self.pending.is_empty() {
            self.pending.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) {
        for step in [1, 2, 3, bytes.len().max(1)] {
            let (mut utf8, mut out) = (Utf8::default(), String::new());
            for part in bytes.chunks(step) {
                utf8.push(part, &mut out);
                assert!(utf8.pending.len() < 4, "only a part of one character waits");
            }
            utf8.finish(&mut out);
            assert_eq!(out, String::from_utf8_lossy(bytes), "{bytes:?} by {step}");
        }
    }

    #[test]
    fn pieces_of_bytes_become_the_lossy_text_of_the_whole() {
        check("plain, é, 漢字, 👍🏽, e\u{301}".as_bytes());
        check(b"");
        check(b"\xff\xfe");
        check(b"a\xc3");
        check(b"\xf0\x9f\x91");
        check(b"\xf0\x9f\x91x\xf0\x9f");
        check(b"\xe2\x28\xa1 \xed\xa0\x80 \xf4\x90\x80\x80 \xc0\x80 \x80\x80");
        // Every pair of bytes between two characters, so that no class of lead byte is left out.
        for first in 0..=255 {
            for second in [0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc2, 0xe0, 0xf0, 0xff] {
                check(&[b'a', first, second, 0x80, b'z']);
            }
        }
    }
}
