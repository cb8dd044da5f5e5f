//! The suites over whole files, in one program: what is sound, what is hostile, what dies midway.

// Helpers outside `#[test]` functions unwrap too; what fails there fails the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod hostile;
mod killed;
mod mutations;
mod round_trip;
mod shards;
mod support;
