//! Which of many texts begin at a place: a sorted list, narrowed byte by byte.
//!
//! Holds nothing but the list, so that a file with long tokens costs no more memory than its size.

/// Texts with a number each.
#[derive(Clone, Debug)]
pub(crate) struct Prefixes {
    texts: Vec<(Box<str>, u32)>,
    first: [bool; 256],
}

impl Prefixes {
    /// Sorts the texts; empty ones are never found.
    pub(crate) fn new(texts: impl Iterator<Item = (Box<str>, u32)>) -> Self {
        let mut texts: Vec<(Box<str>, u32)> = texts.filter(|(text, _)| !text.is_empty()).collect();
        texts.sort_unstable();
        let mut first = [false; 256];
        texts.iter().for_each(|(text, _)| first[usize::from(text.as_bytes()[0])] = true);
        Prefixes { texts, first }
    }

    /// Calls `found` with the length and the number of each text that `bytes` begins with, the shortest first.
    pub(crate) fn at(&self, bytes: &[u8], mut found: impl FnMut(usize, u32)) {
        if !bytes.first().is_some_and(|byte| self.first[usize::from(*byte)]) {
            return;
        }
        let mut list = self.texts.as_slice();
        for (depth, byte) in bytes.iter().enumerate() {
            // Sorted, so that those which end here come first and the next bytes are in order.
            let from = list.partition_point(|(text, _)| text.as_bytes().get(depth).is_none_or(|b| b < byte));
            let to = list.partition_point(|(text, _)| text.as_bytes().get(depth).is_none_or(|b| b <= byte));
            list = &list[from..to];
            match list.first() {
                None => return,
                Some((text, number)) if text.len() == depth + 1 => found(depth + 1, *number),
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(usize, u32)]) {
        let list = ["<|a|>", "<", "<|", "é", "<|b", "", "z"];
        let prefixes = Prefixes::new(list.iter().zip(0..).map(|(text, number)| ((*text).into(), number)));
        let mut found = Vec::new();
        prefixes.at(text.as_bytes(), |length, number| found.push((length, number)));
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn every_text_that_begins_here_is_found() {
        check("<|a|>b", &[(1, 1), (2, 2), (5, 0)]);
        check("<|b", &[(1, 1), (2, 2), (3, 4)]);
        check("<|", &[(1, 1), (2, 2)]);
        check("éz", &[(2, 3)]);
        check("b<", &[]);
        check("", &[]);
        check("zz", &[(1, 6)]);
    }
}
