//! What a person says in a chat: each line of stdin is a message, and so are the lines between `"""` and `"""`.

use std::io::{BufRead, Split};

use crate::{
    failure::{Failure, Result},
    output::warn,
};

/// What a message of several lines begins and ends with.
const FENCE: &str = "\"\"\"";

/// Whose turn it is to say something, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A message may begin.
    Begin,
    /// A message goes on.
    GoOn,
}

/// The messages of an input.
pub(crate) struct Messages<R> {
    lines: Split<R>,
    /// Lines that have been read.
    read: usize,
}

impl<R: BufRead> Messages<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { lines: input.split(b'\n'), read: 0 }
    }

    /// The next message that is not empty, or `None` at the end; `ask` is called before a line is read.
    ///
    /// A line that is no UTF-8 is passed over with a warning, and the whole message with it.
    pub(crate) fn next(&mut self, ask: &dyn Fn(Turn)) -> Result<Option<String>> {
        loop {
            ask(Turn::Begin);
            let Some(line) = self.line()? else { return Ok(None) };
            let message = match line {
                Ok(line) => match line.strip_prefix(FENCE) {
                    Some(first) => self.block(first, ask)?,
                    None => Some(line),
                },
                Err(number) => {
                    passed_over(number);
                    None
                }
            };
            if let Some(message) = message.filter(|message| !message.trim().is_empty()) {
                return Ok(Some(message));
            }
        }
    }

    /// The rest of a message that began with a fence and `first` after it.
    fn block(&mut self, first: &str, ask: &dyn Fn(Turn)) -> Result<Option<String>> {
        let (mut message, mut line, began, mut is_text) = (Vec::new(), first.to_owned(), self.read, true);
        loop {
            let last = line.trim_end().strip_suffix(FENCE);
            let text = last.unwrap_or(&line);
            // A fence may stand on a line of its own, which is then no line of the message.
            if !text.is_empty() || (self.read > began && last.is_none()) {
                message.push(text.to_owned());
            }
            if last.is_some() {
                return Ok(is_text.then(|| message.join("\n")));
            }
            ask(Turn::GoOn);
            line = match self.line()? {
                Some(Ok(next)) => next,
                Some(Err(number)) => {
                    passed_over(number);
                    is_text = false;
                    String::new()
                }
                None => {
                    return Err(Failure::failed(format_args!(
                        "stdin: expected {FENCE} to end the message that begins in line {began}, found the end of the input"
                    )));
                }
            };
        }
    }

    /// The next line without its end, or the number of one that is no text.
    fn line(&mut self) -> Result<Option<std::result::Result<String, usize>>> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        let line = line.map_err(|error| Failure::failed(format_args!("stdin: {error}")))?;
        self.read += 1;
        let text = String::from_utf8(line).map_err(|_| self.read);
        Ok(Some(text.map(|mut text| {
            text.truncate(text.trim_end_matches('\r').len());
            text
        })))
    }
}

fn passed_over(line: usize) {
    warn(format_args!("stdin: line {line} is no UTF-8 text, and is passed over"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(input: &[u8]) -> Result<Vec<String>> {
        let mut messages = Messages::new(input);
        std::iter::from_fn(|| messages.next(&|_| ()).transpose()).collect()
    }

    #[test]
    fn a_line_is_a_message_and_so_is_what_stands_between_fences() {
        let check = |input: &str, expected: &[&str]| {
            assert_eq!(messages(input.as_bytes()).expect("it ends"), expected, "{input:?}");
        };
        check("", &[]);
        check("a\n\n \nb", &["a", "b"]);
        check("  a \r\nb\\\n", &["  a ", "b\\"]);
        check("\"\"\"a\n\nb\"\"\"\nc\n", &["a\n\nb", "c"]);
        check("\"\"\"\na\r\n  b\n\"\"\"\n", &["a\n  b"]);
        check("\"\"\"a\"\"\"\n\"\"\"\"\"\"\n\"\"\"\n\n\"\"\"\nb", &["a", "b"]);
        check("\"\"\"\n\na\n\n\"\"\"  \n", &["\na\n"]);
        // Elsewhere in a line the marks are text, and so is a quote.
        check("say \"\"\"a\n\"b\"\n", &["say \"\"\"a", "\"b\""]);
    }

    #[test]
    fn a_message_that_does_not_end_is_an_error_that_says_where_it_began() {
        let Err(Failure::Failed(sentence)) = messages(b"a\n\"\"\"b\nc\n") else {
            unreachable!("the input ends inside")
        };
        assert!(sentence.contains("begins in line 2, found the end"), "{sentence}");
    }

    #[test]
    fn what_is_no_text_takes_its_message_with_it() {
        assert_eq!(messages(b"\xff\na\n\"\"\"b\n\xff\nc\"\"\"\nd").expect("it ends"), ["a", "d"]);
    }
}
