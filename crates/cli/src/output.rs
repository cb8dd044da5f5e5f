//! Where results go: stdout, as text for people or JSON for programs.
//!
//! Nothing here writes a colour, so a pipe and a terminal see the same. Whoever closes the pipe ends the command
//! quietly ([`Failure::Closed`](crate::failure::Failure::Closed)).

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal, Stdout, Write},
};

use serde::Serialize;

use crate::{failure::Result, table::Table};

/// What a program may ask of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Tables and sentences.
    Text,
    /// One JSON value.
    Json,
}

/// Results on their way out.
pub(crate) struct Output {
    to: BufWriter<Stdout>,
}

impl Output {
    /// The process's stdout.
    pub(crate) fn stdout() -> Self {
        Self { to: BufWriter::new(io::stdout()) }
    }

    /// A line of text.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<()> {
        Ok(writeln!(self.to, "{line}")?)
    }

    /// A heading: an empty line before it, unless it is the first.
    pub(crate) fn section(&mut self, title: &str, table: &Table) -> Result<()> {
        Ok(write!(self.to, "\n{title}\n{}", table.indented(2))?)
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &Table) -> Result<()> {
        Ok(write!(self.to, "{}", table.indented(0))?)
    }

    /// One JSON value; numbers are exact.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer_pretty(&mut self.to, value).map_err(io::Error::from)?;
        Ok(writeln!(self.to)?)
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.to, value).map_err(io::Error::from)?;
        Ok(writeln!(self.to)?)
    }

    /// A piece of a stream, visible at once.
    pub(crate) fn stream(&mut self, piece: &str) -> Result<()> {
        self.to.write_all(piece.as_bytes())?;
        self.flush()
    }

    /// Sends on what waits.
    pub(crate) fn flush(&mut self) -> Result<()> {
        Ok(self.to.flush()?)
    }
}

/// A remark beside the result, for a person who is watching: on stderr, and only if that is a terminal.
pub(crate) fn remark(text: impl Display) {
    let mut stderr = io::stderr();
    if stderr.is_terminal() {
        // A remark that cannot be written is no reason to fail.
        let _ = writeln!(stderr, "{text}");
    }
}

/// Something that a person should know and that stops nothing: on stderr, also into a file.
pub(crate) fn warn(text: impl Display) {
    // As above.
    let _ = writeln!(io::stderr(), "formwork: warning: {text}");
}

/// How far long work is, on one line of a terminal's stderr; nothing anywhere else.
pub(crate) struct Progress {
    what: &'static str,
    shown: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, shown: false }
    }

    /// Replaces what was shown before.
    pub(crate) fn show(&mut self, state: impl Display) {
        let mut stderr = io::stderr();
        if stderr.is_terminal() {
            self.shown = true;
            let _ = write!(stderr, "\r\u{1b}[K{}: {state}", self.what).and_then(|()| stderr.flush());
        }
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
