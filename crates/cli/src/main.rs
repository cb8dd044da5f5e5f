//! The `formwork` command: looks at models and runs them.
//!
//! `formwork --help` lists the commands, and each documents itself with an example. Results go to stdout,
//! progress and errors to stderr; exit code 0, 1 (failed: one sentence says where and what to do) or 2 (usage).
#![forbid(unsafe_code)]

mod command;
mod failure;
mod interrupt;
mod messages;
mod number;
mod output;
mod settings;
mod subject;
mod table;

use std::process::ExitCode;

use crate::output::Output;

fn main() -> ExitCode {
    let mut out = Output::stdout();
    let result = command::run(std::env::args_os(), &mut out);
    // Text may wait in the buffer, and the pipe may be closed only when it is written.
    match result.and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&mut out),
    }
}
