//! How well a model predicts a text: the mean of `−ln p(next token)`, in nats per token.
//!
//! The text is read in neighbouring windows that do not overlap, each from an empty context, as the usual
//! character-level recipes do. Sums are in f64, so that the number of windows at once changes rounding only.
//!
//! ```
//! use formwork_train::Evaluation;
//! let evaluation = Evaluation { nats: 2.0, tokens: 300 };
//! // 300 tokens of 2 nats, spread over 1000 bytes
//! assert!((evaluation.bits_per_byte(1000) - 0.8656).abs() < 1e-4);
//! ```

use formwork_module::{Kind, Pass, Result, TokenModel};

use crate::{Batch, Tokens, Window};

/// The result of reading a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean surprise, in nats per token.
    pub nats: f64,
    /// Over how many tokens.
    pub tokens: usize,
}

impl Evaluation {
    /// The same in bits per byte of text, where the predicted tokens stand for `bytes` bytes: comparable between tokenizers
    /// and with compressors.
    pub fn bits_per_byte(&self, bytes: usize) -> f64 {
        self.nats * self.tokens as f64 / (bytes as f64 * std::f64::consts::LN_2)
    }
}

/// Reads all whole windows of a text, `window.rows` at once. Dropout is off and nothing is recorded.
///
/// # Errors
/// A text too short for one window, a loss that is not finite, and those of the model.
pub fn evaluate<M: TokenModel + ?Sized>(model: &M, text: &Tokens, window: Window) -> Result<Evaluation> {
    evaluate_batches(model, text.windows(window)?)
}

/// As [`evaluate`], for batches of your own making.
///
/// # Errors
/// No batch, a loss that is not finite, and those of the model.
pub fn evaluate_batches<M: TokenModel + ?Sized>(
    model: &M,
    batches: impl IntoIterator<Item = Batch>,
) -> Result<Evaluation> {
    let (mut sum, mut tokens) = (0.0, 0);
    for batch in batches {
        let mut pass = Pass::infer().rows(batch.rows);
        let loss = model.loss(batch.tokens.view(), batch.targets.view(), &mut pass)?;
        sum += loss.mean.item()? * loss.count as f64;
        tokens += loss.count;
    }
    if tokens == 0 {
        return Err(formwork_module::Error::invalid("evaluation", "at least one target that counts", "none"));
    }
    match sum.is_finite() {
        true => Ok(Evaluation { nats: sum / tokens as f64, tokens }),
        false => Err(Kind::NonFinite { what: "the loss of the evaluation".to_owned() }.into()),
    }
}
