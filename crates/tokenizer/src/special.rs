//! The tokens with a part to play: where a text begins, where it ends, what pads a batch.
//!
//! A `tokenizer.json` lists its special tokens without saying what each is for.
//! Its template says what it puts in front of a text; the rest is read from the names that published models use.
//! Where a folder says more (`generation_config.json`), set it: [`Tokenizer::with_special`](crate::Tokenizer::with_special).
//!
//! ```
//! use formwork_tokenizer::BpeTrainer;
//!
//! let trainer = BpeTrainer { vocab: 257, special: vec!["<|endoftext|>".into()], min_frequency: 2 };
//! let tokenizer = trainer.train(["a text"])?;
//! assert_eq!(tokenizer.special().end, [256]);
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

/// Ids of the special tokens by what they are for; an id is below the tokenizer's `vocab`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// Stands before a text, if the model was trained so.
    pub begin: Option<u32>,
    /// Each of these ends a text, or a turn of a conversation.
    pub end: Vec<u32>,
    /// Fills the rows of a batch up to one length.
    pub pad: Option<u32>,
    /// Stands for what the vocabulary has no piece for.
    pub unknown: Option<u32>,
}

/// Names with which published models mark the beginning of a text.
const BEGIN: [&str; 6] = ["<s>", "<|begin_of_text|>", "<bos>", "[CLS]", "<|startoftext|>", "<|begin|>"];
/// Names that end a text or a turn.
const END: [&str; 9] = [
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<eos>",
    "<end_of_turn>",
    "[SEP]",
    "<|end|>",
];
/// Names of padding.
const PAD: [&str; 4] = ["<pad>", "[PAD]", "<|pad|>", "<|finetune_right_pad_id|>"];

impl Special {
    /// Reads the parts from the names; `special` looks a name up among the special tokens only.
    pub(crate) fn from_names(special: impl Fn(&str) -> Option<u32>) -> Special {
        let first = |names: &[&str]| names.iter().find_map(|name| special(name));
        Special {
            begin: first(&BEGIN),
            end: END.iter().filter_map(|name| special(name)).collect(),
            pad: first(&PAD),
            unknown: None,
        }
    }

    /// Every id that is named here.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.begin.into_iter().chain(self.end.iter().copied()).chain(self.pad).chain(self.unknown)
    }
}
