//! What an attention is built from, and the sizes that follow.

use formwork_module::{Dropout, Error, Init, Mask, Result};
use serde::{Deserialize, Serialize};

/// Which projections have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Biases {
    /// None of them.
    #[default]
    None,
    /// Queries, keys and values.
    Qkv,
    /// Queries, keys, values and the output.
    All,
}

/// Sizes, mask, biases, dropout and initialisation of an [`Attention`](crate::Attention).
///
/// ```
/// use formwork_attention::{Settings, Sizes};
///
/// let grouped = Settings { kv_heads: Some(2), head_dim: Some(5), ..Settings::new(12, 4) };
/// assert_eq!(grouped.sizes()?, Sizes { heads: 4, kv_heads: 2, head_dim: 5 });
///
/// let error = Settings::new(12, 5).sizes().unwrap_err().to_string();
/// assert_eq!(error, "heads: expected a divisor of dim 12, found 5; give head_dim to choose the width of a head freely");
/// # Ok::<(), formwork_module::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Width `d` of input and output.
    pub dim: usize,
    /// Query heads `h`.
    pub heads: usize,
    /// Key and value heads `g`, a divisor of `heads`; as many as `heads` by default.
    pub kv_heads: Option<usize>,
    /// Head width `e`; `dim / heads` by default.
    pub head_dim: Option<usize>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Which projections have a bias.
    pub bias: Biases,
    /// Dropout on the probabilities, after the softmax.
    pub dropout: Dropout,
    /// How the projections to queries, keys and values are drawn.
    pub init: Init,
    /// How the projection back, which ends in the residual, is drawn.
    pub residual_init: Init,
}

/// The sizes of an attention, each known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Query heads `h`.
    pub heads: usize,
    /// Key and value heads `g`, a divisor of `heads`.
    pub kv_heads: usize,
    /// Head width `e`.
    pub head_dim: usize,
}

impl Settings {
    /// Causal multi-head attention with `head_dim = dim / heads`, without biases or dropout, every projection uniform
    /// in `±1/√in`.
    pub fn new(dim: usize, heads: usize) -> Self {
        let uniform = Init::Uniform { bound: 1.0 / (dim.max(1) as f64).sqrt() };
        Self {
            dim,
            heads,
            kv_heads: None,
            head_dim: None,
            mask: Mask::Causal,
            bias: Biases::None,
            dropout: Dropout::default(),
            init: uniform,
            residual_init: uniform,
        }
    }

    /// The sizes that these settings mean.
    ///
    /// # Errors
    /// A size of 0, `heads` that do not divide `dim` where `head_dim` is left out, `kv_heads` that do not divide
    /// `heads`, and widths whose product does not fit memory.
    pub fn sizes(&self) -> Result<Sizes> {
        let Settings { dim, heads, .. } = *self;
        let kv_heads = self.kv_heads.unwrap_or(heads);
        let at_least_one = [
            ("dim", dim),
            ("heads", heads),
            ("kv_heads", kv_heads),
            ("head_dim", self.head_dim.unwrap_or(1)),
        ];
        if let Some((field, _)) = at_least_one.iter().find(|(_, size)| *size == 0) {
            return Err(Error::invalid(field, "at least 1", 0));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::invalid("kv_heads", format_args!("a divisor of heads {heads}"), kv_heads)
                .hint("each key head serves the same number of query heads"));
        }
        let head_dim = match self.head_dim {
            Some(head_dim) => head_dim,
            None if dim.is_multiple_of(heads) => dim / heads,
            None => {
                return Err(Error::invalid("heads", format_args!("a divisor of dim {dim}"), heads)
                    .hint("give head_dim to choose the width of a head freely"));
            }
        };
        match heads.checked_mul(head_dim).and_then(|width| width.checked_mul(dim)) {
            Some(_) => Ok(Sizes { heads, kv_heads, head_dim }),
            None => Err(Error::invalid(
                "head_dim",
                format_args!("a size that fits memory for heads {heads} and dim {dim}"),
                head_dim,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let check = |dim, heads, kv_heads, head_dim, message: &str| {
            let found = Settings { kv_heads, head_dim, ..Settings::new(dim, heads) }.sizes();
            assert_eq!(found.unwrap_err().to_string(), message);
        };
        check(0, 3, None, None, "dim: expected at least 1, found 0");
        check(6, 0, None, None, "heads: expected at least 1, found 0");
        check(6, 3, Some(0), None, "kv_heads: expected at least 1, found 0");
        check(6, 3, None, Some(0), "head_dim: expected at least 1, found 0");
        let hint = "each key head serves the same number of query heads";
        check(6, 3, Some(2), None, &format!("kv_heads: expected a divisor of heads 3, found 2; {hint}"));
        let hint = "give head_dim to choose the width of a head freely";
        check(7, 3, None, None, &format!("heads: expected a divisor of dim 7, found 3; {hint}"));
        let large = usize::MAX / 2;
        let message =
            format!("head_dim: expected a size that fits memory for heads 3 and dim 7, found {large}");
        check(7, 3, None, Some(large), &message);
    }

    #[test]
    fn a_free_head_width_needs_no_divisor() {
        let found = Settings { head_dim: Some(5), ..Settings::new(7, 3) }.sizes().unwrap();
        assert_eq!(found, Sizes { heads: 3, kv_heads: 3, head_dim: 5 });
    }
}
