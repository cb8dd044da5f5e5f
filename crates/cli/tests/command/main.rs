//! The command as people and scripts meet it: what it prints, where, and with which exit code.
#![forbid(unsafe_code)]

mod bench;
mod generate;
mod looking;
mod published;
mod refusals;
mod support;
