//! The suites over whole files, in one program: what is sound, what is hostile, what dies midway.

// Helpers outside `#[test]` functions unwrap too; what fails there fails the test.
#![allow(clippy::unwrap_used)]

mod hostile;
mod killed;
mod mutations;
mod round_trip;
mod shards;
mod support;
