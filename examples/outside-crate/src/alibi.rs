//! Attention with linear biases: what is further away scores less, at a pace of each head's own.
//!
//! `score(i, j) = q·k/√e − mₕ·|i − j|`; with `h` heads, `h` a power of two, `mₕ = 2^(−8(h+1)/heads)` for `h = 0, 1, ..`.
//! For other numbers of heads the slopes of the next smaller power of two are filled up with every second one of the
//! next larger, as in the authors' code.
//!
//! Press, Smith & Lewis 2021, <https://arxiv.org/abs/2108.12409>.
//!
//! ```
//! use outside_crate::Alibi;
//! assert_eq!(Alibi::for_heads(4).slopes(), [0.25, 0.0625, 0.015625, 0.00390625]);
//! assert_eq!(Alibi::for_heads(3).slopes(), [0.0625, 0.00390625, 0.25]);
//! ```

use std::sync::Arc;

use formwork::{
    Error, Pass, Position, Result,
    model::Place,
    module::{Acts, ScoreBias},
};
use serde::Deserialize;

/// ALiBi has no settings; whoever writes one is told so.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AlibiConfig {}

/// Linear biases; see the file's head.
#[derive(Clone, Debug)]
pub struct Alibi {
    /// `[h]`.
    slopes: Arc<[f64]>,
}

impl Alibi {
    /// For a hook, in `attn.position`.
    ///
    /// # Errors
    /// Params, of which there are none, or a place without heads.
    pub fn new(place: &Place<'_>) -> Result<Self> {
        let _: Option<AlibiConfig> = place.read()?;
        match place.heads {
            Some(heads) => Ok(Self::for_heads(heads.heads)),
            None => {
                Err(Error::missing("attention heads for alibi").hint("move it to blocks.*.attn.position"))
            }
        }
    }

    /// The slopes for so many heads.
    pub fn for_heads(heads: usize) -> Self {
        let of_power = |n: usize| (1..=n).map(move |i| (-8.0 * i as f64 / n as f64).exp2());
        let below = (heads + 1).next_power_of_two() / 2; // the largest power of two that is not above `heads`
        Self { slopes: of_power(below).chain(of_power(2 * below).step_by(2)).take(heads).collect() }
    }

    /// One slope per head, `[h]`.
    pub fn slopes(&self) -> &[f64] {
        &self.slopes
    }
}

impl Position for Alibi {
    fn acts(&self) -> Acts {
        Acts::Scores
    }

    fn bias(&self, _: &mut Pass<'_>) -> Result<Option<ScoreBias>> {
        let slopes = self.slopes.clone();
        let bias = move |head: usize, query: usize, key: usize| -slopes[head] * query.abs_diff(key) as f64;
        Ok(Some(ScoreBias::Fixed(Arc::new(bias))))
    }
}
