//! Whether a part has bias vectors.

use serde::{Deserialize, Serialize};

/// Whether a norm or a feed-forward layer adds learned vectors, which a seed draws as zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// No bias.
    #[default]
    None,
    /// A learned vector that starts at zero.
    Learned,
}
