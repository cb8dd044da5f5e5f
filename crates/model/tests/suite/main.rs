//! What must hold of whole models, across families, wirings and settings.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that unwraps fails where it should; helpers take views by value, as the model does"
)]

mod builder;
mod common;
mod config;
mod decoding;
mod goldens;
mod hooks;
mod legality;
mod memory;
mod presets;
mod published_config;
mod published_gguf;
mod published_hostile;
mod published_names;
mod published_refusals;
mod training;
