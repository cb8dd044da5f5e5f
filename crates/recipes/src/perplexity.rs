//! How well a model predicts a text, by the two conventions that published numbers follow.
//!
//! `perplexity = exp(−mean ln p(token | the tokens before it in its window))`
//!
//! **With a stride**, as the transformers documentation reads a long text: windows of `context` tokens begin `stride`
//! apart, and each scores only the tokens that no earlier one scored, so that all but the first window's tokens have
//! at least `context − stride` before them. The very first token has nothing before it and is not scored; nor, where
//! `stride = context`, is the first of any window. The mean is over tokens; a script that averages the means of
//! windows weighs a shorter last window differently.
//!
//! **Without a stride**, as `llama-perplexity` reads it: whole windows of `context` tokens that do not overlap, what is
//! left over at the end is not read. The first token of each window is replaced by the begin token, if there is one.
//! Of the predictions at positions `context / 2` to `context − 2` each scores the token after it, so that a window
//! scores `context − 1 − context / 2` tokens.
//!
//! Losses are summed in f64. Windows go through the model several at a time, and hidden states through its head in
//! chunks, so that logits never take more than about 16 MiB (or one row).
//!
//! ```
//! use formwork_recipes::Perplexity;
//! let result = Perplexity { tokens: 300, nats_per_token: 2.0, text_tokens: 400 };
//! assert!((result.perplexity() - 7.389).abs() < 1e-3);
//! // 400 tokens of 2 nats each stand for 1600 bytes.
//! assert!((result.bits_per_byte(1600) - 0.7213).abs() < 1e-4);
//! ```

use std::{
    f64::consts::LN_2,
    ops::{ControlFlow, Range},
};

use formwork_kernels::cross_entropy::cross_entropy;
use formwork_module::{Error, Kind, Pass, Result, Tensor, TokenModel};
use formwork_tensor::dispatch;
use ndarray::ArrayView2;

/// Tokens that go through the model at once, about.
const BATCH: usize = 2048;
/// Logits in memory at once, about.
const LOGITS: usize = 4 << 20;

/// How a long text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Tokens of a window.
    pub context: usize,
    /// Tokens from one window's beginning to the next one's; `None` for windows whose second halves are scored.
    pub stride: Option<usize>,
    /// Stands in place of the first token of each window, where the model's vocabulary says that a text begins so;
    /// with a stride the text is read as it is.
    pub begin: Option<u32>,
}

/// The result of reading a text.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// How many tokens were scored.
    pub tokens: usize,
    /// Their mean surprise.
    pub nats_per_token: f64,
    /// Tokens of the whole text, scored or not.
    pub text_tokens: usize,
}

impl Perplexity {
    /// `exp(nats_per_token)`: between how many equally likely tokens the model was in doubt.
    pub fn perplexity(&self) -> f64 {
        self.nats_per_token.exp()
    }

    /// The mean surprise of a token, spread over the `bytes` of the whole text: comparable between tokenizers.
    pub fn bits_per_byte(&self, bytes: usize) -> f64 {
        self.nats_per_token * self.text_tokens as f64 / (bytes as f64 * LN_2)
    }
}

/// How far the reading is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// Windows that are read.
    pub done: usize,
    /// Windows in all.
    pub windows: usize,
    /// The result so far.
    pub so_far: Perplexity,
}

/// Reads a text of token ids; `observe` hears of each batch of windows, and `Break` stops.
///
/// # Errors
/// A context below 2 or beyond the model's, a stride of 0 or beyond the context, a text without one whole window (with
/// a stride: of fewer than 2 tokens), cancellation by `observe`, a surprise that is not finite, and those of the model.
pub fn perplexity(
    model: &dyn TokenModel,
    ids: &[u32],
    windows: &Windows,
    observe: &mut dyn FnMut(&Reading) -> ControlFlow<()>,
) -> Result<Perplexity> {
    let parts = parts(model, ids.len(), windows)?;
    let rows = (BATCH / windows.context).max(1);
    let (mut sum, mut tokens, mut done) = (0.0, 0, 0);
    let mut result = Perplexity { text_tokens: ids.len(), ..Perplexity::default() };
    while done < parts.len() {
        // Only the last window of a text may be shorter, and it goes by itself.
        let length = parts[done].window.len();
        let batch = parts[done..].iter().take(rows).take_while(|part| part.window.len() == length).count();
        let nats = read(model, ids, &parts[done..done + batch], windows)?;
        tokens += nats.len();
        sum += nats.iter().sum::<f64>();
        done += batch;
        result = Perplexity { tokens, nats_per_token: sum / tokens.max(1) as f64, ..result };
        if !sum.is_finite() {
            return Err(Kind::NonFinite { what: "the surprise of a token".to_owned() }.into());
        }
        let reading = Reading { done, windows: parts.len(), so_far: result };
        if observe(&reading).is_break() && done < parts.len() {
            return Err(Kind::Cancelled.into());
        }
    }
    Ok(result)
}

/// A window, and which tokens of the text it scores.
struct Part {
    window: Range<usize>,
    /// Never its first.
    scored: Range<usize>,
}

fn parts(model: &dyn TokenModel, len: usize, windows: &Windows) -> Result<Vec<Part>> {
    let context = windows.context;
    let most = model.context().unwrap_or(usize::MAX);
    // A window without a stride has to have a second half that is scored.
    let least = if windows.stride.is_some() { 2 } else { 3 };
    if !(least..=most).contains(&context) {
        let expected = match most {
            usize::MAX => format!("at least {least} tokens"),
            most => format!("{least} to {most} tokens, the model's context"),
        };
        return Err(Error::invalid("context", expected, context));
    }
    let Some(stride) = windows.stride else {
        let part = |at: usize| {
            let window = at * context..(at + 1) * context;
            Part { scored: window.start + context / 2 + 1..window.end, window }
        };
        return match len / context {
            0 => Err(too_short(format_args!("at least {context} tokens, one window"), len)),
            count => Ok((0..count).map(part).collect()),
        };
    };
    if !(1..=context).contains(&stride) {
        return Err(Error::invalid("stride", format_args!("1 to {context}, the context"), stride));
    }
    if len < 2 {
        return Err(too_short(format_args!("at least 2 tokens"), len));
    }
    let (mut parts, mut from, mut scored) = (Vec::new(), 0, 0);
    while scored < len {
        let window = from..(from + context).min(len);
        let part = Part { scored: scored.max(from + 1)..window.end, window };
        scored = part.window.end;
        from += stride;
        if !part.scored.is_empty() {
            parts.push(part);
        }
    }
    Ok(parts)
}

fn too_short(expected: std::fmt::Arguments<'_>, found: usize) -> Error {
    Error::invalid("perplexity", format_args!("a text of {expected}"), found)
        .hint("choose a smaller context, or a longer text")
}

/// The surprise of each scored token of windows of one length.
fn read(model: &dyn TokenModel, ids: &[u32], parts: &[Part], windows: &Windows) -> Result<Vec<f64>> {
    let (b, t) = (parts.len(), parts[0].window.len());
    let (mut tokens, mut rows, mut targets) = (Vec::with_capacity(b * t), Vec::new(), Vec::new());
    for (row, part) in parts.iter().enumerate() {
        tokens.extend_from_slice(&ids[part.window.clone()]);
        if let (None, Some(begin)) = (windows.stride, windows.begin) {
            tokens[row * t] = begin;
        }
        for target in part.scored.clone() {
            // The hidden state of the token before it.
            rows.push((row * t + target - part.window.start - 1) as u32);
            targets.push(ids[target]);
        }
    }
    let vocab = model.vocab();
    if let Some(id) = targets.iter().find(|id| **id as usize >= vocab) {
        return Err(Error::invalid("tokens", format_args!("ids below the vocabulary of {vocab}"), id)
            .hint("the tokenizer may belong to another model"));
    }
    let tokens = ArrayView2::from_shape((b, t), &tokens).map_err(Error::external)?;
    let mut pass = Pass::infer();
    let hidden = model.hidden(tokens, &mut pass)?; // [b, t, d]
    let d = hidden.shape().rows().1;
    let hidden = hidden.reshape(&[b * t, d])?; // [b·t, d]
    let mut nats = Vec::with_capacity(rows.len());
    let chunk = (LOGITS / vocab.max(1)).max(1);
    for (rows, targets) in rows.chunks(chunk).zip(targets.chunks(chunk)) {
        let picked = hidden.gather(rows, &[rows.len()])?; // [rows, d]
        let logits = model.head().apply(&picked, None, &mut pass)?; // [rows, n]
        surprise(&logits, targets, &mut nats)?;
    }
    Ok(nats)
}

fn surprise(logits: &Tensor, targets: &[u32], nats: &mut Vec<f64>) -> Result<()> {
    let logits = logits.compact()?;
    dispatch!(logits.dtype(), T => {
        let (mut lse, mut losses) = (vec![T::default(); targets.len()], vec![T::default(); targets.len()]);
        cross_entropy(logits.slice::<T>()?, targets, &mut lse, &mut losses);
        nats.extend(losses.iter().map(|loss| formwork_kernels::Element::f64(*loss)));
    });
    Ok(())
}
