//! What the examples share: options, text to learn from, a progress bar, and two answers to "is this loss good?".
#![forbid(unsafe_code)]

pub mod baseline;
mod options;
mod progress;
mod talker;
mod text;

pub use options::{Options, run_folder};
pub use progress::Bar;
pub use talker::model_or_talker;
pub use text::repository_text;
