//! What training and generation ask of a model: tokens in, logits or a loss out.

use formwork_kernels::scratch::List;
use ndarray::ArrayView2;

use crate::{DenseCache, Error, HeadLoss, Loss, Module, Pass, Result, Tensor, Weight, head_loss};

/// For which positions logits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// Every one: `[b, t, vocab]`.
    All,
    /// The last real token of each row: `[b, vocab]`, all that generation needs.
    Last,
}

/// A language model over token ids. Its [`forward`](Module::forward) takes embeddings to final hidden states, `[b, t, d]`.
pub trait TokenModel: Module {
    /// Number of token ids.
    fn vocab(&self) -> usize;

    /// The longest text, if there is a limit.
    fn context(&self) -> Option<usize>;

    /// Token embeddings with all that is added to them: `[b, t, d]`. Ids are below the vocabulary.
    ///
    /// # Errors
    /// A position past a table.
    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor>;

    /// The matrix `[vocab, d]` from hidden states to logits.
    fn head(&self) -> &dyn Weight;

    /// Final hidden states `[b, t, d]`; a cache in the pass has then taken the tokens in.
    ///
    /// # Errors
    /// No tokens, an id past the vocabulary, a text or a position past the context.
    fn hidden(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (b, t) = tokens.dim();
        if b == 0 || t == 0 {
            return Err(Error::invalid("tokens", "at least one token", format_args!("[{b}, {t}]")));
        }
        let vocab = self.vocab();
        if let Some(((row, column), id)) = tokens.indexed_iter().find(|(_, id)| **id as usize >= vocab) {
            let found = format!("{id} at row {row}, token {column}");
            return Err(Error::invalid("tokens", format_args!("ids below the vocabulary of {vocab}"), found)
                .hint("the tokenizer may belong to another model"));
        }
        let spans = pass.spans(b, t)?;
        if let Some(context) = self.context()
            && let Some((row, span)) =
                spans.iter().enumerate().find(|(_, s)| s.first + s.tokens.len() > context)
        {
            let found = format!("{} in row {row}", span.first + span.tokens.len());
            return Err(Error::invalid(
                "tokens",
                format_args!("a text of at most {context} tokens, the context"),
                found,
            )
            .hint("shorten the text or generate fewer tokens"));
        }
        if let Some(context) = self.context()
            && let Some((row, span)) =
                spans.iter().enumerate().find(|(_, s)| s.position.saturating_add(s.tokens.len()) > context)
        {
            let found = format!("row {row}, which starts at {}", span.position);
            return Err(Error::invalid(
                "positions",
                format_args!("positions below {context}, the context"),
                found,
            ));
        }
        let x = self.embed(tokens, pass)?; // [b, t, d]
        let hidden = self.forward(&x, pass)?; // [b, t, d]
        if let Some(cache) = pass.cache() {
            cache.advance(&spans)?;
        }
        Ok(hidden)
    }

    /// Logits, `[b, t, vocab]` or `[b, vocab]`.
    ///
    /// # Errors
    /// Those of [`hidden`](TokenModel::hidden); a row without a real token has no last one.
    fn logits(&self, tokens: ArrayView2<'_, u32>, which: Positions, pass: &mut Pass<'_>) -> Result<Tensor> {
        let (b, t) = tokens.dim();
        let spans = pass.spans(b, t)?;
        // Refused before the cache takes the tokens in; that there are none at all is for `hidden` to say.
        let without = spans.iter().position(|s| which == Positions::Last && t > 0 && s.tokens.is_empty());
        if let Some(row) = without {
            let found = format!("none in row {row}");
            return Err(Error::invalid("tokens", "at least one real token in each row", found)
                .hint("leave the row out, or ask for all positions"));
        }
        let hidden = self.hidden(tokens, pass)?;
        let hidden = match which {
            Positions::All => hidden,
            Positions::Last => {
                let d = hidden.shape().rows().1;
                let last: List<_> =
                    spans.iter().enumerate().map(|(row, s)| (row * t + s.tokens.end - 1) as u32).collect();
                hidden.reshape(&[b * t, d])?.gather(&last, &[b])? // [b, d]
            }
        };
        self.head().apply(&hidden, None, pass)
    }

    /// The mean next-token loss; `targets` `[b, t]` holds the id that follows each token,
    /// or [`HeadLoss::IGNORE`] where nothing is to be learned. Padded tokens never count.
    ///
    /// # Errors
    /// Those of [`hidden`](TokenModel::hidden); targets of another shape, past the vocabulary, or none that counts.
    fn loss(
        &self,
        tokens: ArrayView2<'_, u32>,
        targets: ArrayView2<'_, u32>,
        pass: &mut Pass<'_>,
    ) -> Result<Loss> {
        if tokens.dim() != targets.dim() {
            return Err(Error::shape(
                "loss",
                format_args!("targets {:?}", tokens.dim()),
                format_args!("{:?}", targets.dim()),
            ));
        }
        let (b, t) = tokens.dim();
        let mut targets: Vec<u32> = targets.iter().copied().collect();
        for (row, span) in pass.spans(b, t)?.iter().enumerate() {
            // A padded token predicts nothing.
            let row = &mut targets[row * t..(row + 1) * t];
            row[..span.tokens.start].fill(HeadLoss::IGNORE);
            row[span.tokens.end..].fill(HeadLoss::IGNORE);
        }
        let op = HeadLoss::new(&targets, self.vocab())?;
        let hidden = self.hidden(tokens, pass)?;
        let (rows, d) = hidden.shape().rows();
        let count = op.count();
        let mut mean = head_loss(op, &hidden.reshape(&[rows, d])?, self.head(), pass)?;
        for aux in std::mem::take(&mut pass.aux) {
            mean = mean.add(&aux)?;
        }
        Ok(Loss { mean, count })
    }

    /// An empty cache for `rows` texts of at most `capacity` tokens.
    fn cache(&self, rows: usize, capacity: usize) -> DenseCache {
        DenseCache::new(rows, capacity)
    }
}
