//! The suites over whole files, in one program: what is sound, what is hostile, what dies midway.

// Helpers outside `#[test]` functions unwrap too; what fails there fails the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod archive_gguf;
mod hostile;
mod hostile_gguf;
mod killed;
mod memory;
mod mutations;
mod mutations_gguf;
mod round_trip;
mod round_trip_gguf;
mod shards;
mod support;
mod support_gguf;
