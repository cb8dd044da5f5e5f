//! How a command ends when it cannot do what was asked: one sentence on stderr, and the exit code.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use formwork::module::Error;

use crate::output::Output;

/// The result of a command.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line makes no sense: exit code 2.
    Usage(String),
    /// It makes sense and cannot be done: exit code 1.
    Failed(String),
    /// Whoever read stdout has gone, which is their right: exit code 0, and not a word.
    Closed,
}

impl Failure {
    /// What is wrong with the command line.
    pub(crate) fn usage(sentence: impl Display) -> Self {
        Self::Usage(sentence.to_string())
    }

    /// What cannot be done.
    pub(crate) fn failed(sentence: impl Display) -> Self {
        Self::Failed(sentence.to_string())
    }

    /// The same with more at the end of its sentence.
    pub(crate) fn and(self, more: &str) -> Self {
        match self {
            Self::Usage(sentence) => Self::Usage(sentence + more),
            Self::Failed(sentence) => Self::Failed(sentence + more),
            Self::Closed => Self::Closed,
        }
    }

    /// Says so, and gives the exit code.
    pub(crate) fn report(self, out: &mut Output) -> ExitCode {
        let (sentence, code) = match self {
            Self::Closed => return ExitCode::SUCCESS,
            Self::Failed(sentence) => (sentence, 1),
            Self::Usage(sentence) => (sentence, 2),
        };
        // What was already said stands before the reason why there is no more; nobody is left to tell of a failure here.
        let _ = out.flush();
        let _ = writeln!(io::stderr(), "formwork: {}", sentence.trim_end());
        ExitCode::from(code)
    }
}

/// An error of the libraries names the place and what to try by itself.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::failed(one_line(&error.to_string()))
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        let text = error.render().to_string();
        Self::usage(text.strip_prefix("error: ").unwrap_or(&text))
    }
}

/// The sentence without the excerpt of a file that a parser may draw into it: rows of `12 | text` and `   | ^`.
fn one_line(text: &str) -> String {
    let is_excerpt =
        |line: &str| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').starts_with('|');
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_excerpt(line));
    lines.collect::<Vec<_>>().join(", ")
}

/// Only writing results gives a bare [`io::Error`] here.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::failed(format_args!("stdout: cannot write the result: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_of_a_file_does_not_break_the_sentence() {
        let check = |text: &str, line: &str| assert_eq!(one_line(text), line);
        check("a.toml: expected TOML, found x", "a.toml: expected TOML, found x");
        check(
            "parse error at line 12\n   |\n12 | vocab = \n   |   ^\nno value\n",
            "parse error at line 12, no value",
        );
    }
}
