//! The whole layer, with position encodings of the tests' own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod cache;
mod common;
mod properties;
