//! How to encode and decode: what stands around a text, and what special tokens in it are.

/// Whether special tokens that are written in a text are tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Markup {
    /// They are text like any other; a text that would give one all the same is an error. For text from others.
    #[default]
    Text,
    /// They are tokens. For templates and prompts that your own program wrote.
    Tokens,
}

/// What stands around an encoded text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Frame {
    /// Nothing.
    #[default]
    Bare,
    /// What the tokenizer's template says: `<s>` before a prompt for LLaMA, `[CLS]` and `[SEP]` for BERT, nothing for
    /// GPT-2.
    Template,
}

/// How to encode a text; the default is bare, with nothing in the text taken for a special token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encode {
    /// What stands around it.
    pub frame: Frame,
    /// Whether special tokens in it are tokens.
    pub markup: Markup,
}

/// What decoding does with special tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Specials {
    /// Leave them out.
    #[default]
    Skip,
    /// Write them as they are named.
    Keep,
}

/// What stands before and after a text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    pub(crate) before: Vec<u32>,
    pub(crate) after: Vec<u32>,
}
