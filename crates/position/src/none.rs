//! No position encoding.
//!
//! `y = x` in all three places. A causal model can still tell positions apart by what it sees; a bidirectional one
//! cannot. Haviv et al. 2022, <https://arxiv.org/abs/2203.16634>.
//!
//! ```
//! use formwork_module::{Acts, Position};
//! use formwork_position::NoPosition;
//! assert_eq!((NoPosition.acts(), NoPosition.limit()), (Acts::Nowhere, None));
//! ```

use formwork_module::{Acts, Position, Result, Scope};
use serde::{Deserialize, Serialize};

use crate::Place;

/// Settings of [`NoPosition`]: there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Leaves embeddings, queries, keys and scores as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPosition;

impl NoPosition {
    /// It needs nothing of its place.
    ///
    /// # Errors
    /// None.
    pub fn new(_: &Scope<'_>, _: &Place, _: &NoConfig) -> Result<Self> {
        Ok(Self)
    }
}

impl Position for NoPosition {
    fn acts(&self) -> Acts {
        Acts::Nowhere
    }
}
