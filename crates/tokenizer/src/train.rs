//! Training a byte-level byte-pair encoding.
//!
//! Starting from the 256 bytes, the most frequent pair of neighbouring pieces becomes a piece of its own, again and
//! again until the vocabulary is full; pairs do not cross words, which GPT-2's pattern finds. Every text, and every
//! sequence of bytes, can be encoded and comes back exactly.
//!
//! Ids `0..256` are the bytes in GPT-2's order, then the merges in the order they were made, then the special tokens.
//! Of two pairs equally frequent the one with the smaller ids merges first, so the same texts in the same order give
//! the same tokenizer, whatever the number of threads. (The tokenizers library counts on rayon's global threads; its
//! environment variable `TOKENIZERS_PARALLELISM=false` keeps it to one, with the same result.)
//!
//! Sennrich et al. 2016, <https://arxiv.org/abs/1508.07909>; on bytes: Radford et al. 2019.
//!
//! ```
//! use formwork_tokenizer::BpeTrainer;
//!
//! let tokenizer = BpeTrainer::new(258).train(["low lower lowest low"])?;
//! assert_eq!(tokenizer.piece(256), Some("lo"));         // 4 times, as "ow"; the smaller id wins
//! assert_eq!(tokenizer.encode("low")?.len(), 2);        // lo w
//! # Ok::<(), formwork_tokenizer::Error>(())
//! ```

use std::collections::HashSet;

use serde_json::json;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, Trainer as _};

use crate::error::{Error, Result, shorten};
use crate::file::{Added, Model, TokenizerFile};
use crate::tokenizer::Tokenizer;

/// The most bytes of text: the library counts pairs in 32 bits.
const MOST_TEXT: usize = 1 << 30;

/// Settings for training a byte-level byte-pair encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeTrainer {
    /// The number of ids, special tokens included: at least 256 and them. A small text may give fewer.
    pub vocab: usize,
    /// Special tokens in the order of their ids, which are the last ones.
    pub special: Vec<String>,
    /// A pair that occurs less often does not become a piece.
    pub min_frequency: u64,
}

impl BpeTrainer {
    /// A vocabulary of this size with one special token, `<|endoftext|>`, and pairs that occur twice or more.
    pub fn new(vocab: usize) -> Self {
        BpeTrainer { vocab, special: vec!["<|endoftext|>".into()], min_frequency: 2 }
    }

    /// Trains on texts; no pair crosses from one into the next.
    ///
    /// About a second for a megabyte. Check [`Tokenizer::vocab`] afterwards if the texts are small.
    ///
    /// # Errors
    /// If `vocab` does not hold the bytes and the special tokens, if a special token is empty, repeated or an ordinary
    /// piece of the texts, if the texts are empty, or if they are longer than a gigabyte.
    pub fn train<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<Tokenizer> {
        let fail = |problem: String| Err(Error::Training { problem });
        let texts: Vec<&str> = texts.into_iter().collect();
        let least = 256 + self.special.len();
        if self.vocab < least || u32::try_from(self.vocab).is_err() {
            return fail(format!(
                "expected a vocab of at least {least} (256 bytes and {} special tokens), found {}; set it higher",
                self.special.len(),
                self.vocab
            ));
        }
        let mut seen = HashSet::new();
        for special in &self.special {
            if special.is_empty() || !seen.insert(special) {
                return fail(format!(
                    "expected different, non-empty special tokens, found {:?}; change it",
                    shorten(special)
                ));
            }
        }
        match texts.iter().map(|text| text.len()).sum::<usize>() {
            0 => return fail("expected a text, found an empty one; check the file it came from".into()),
            n if n > MOST_TEXT => {
                return fail(format!(
                    "expected at most {MOST_TEXT} bytes of text, found {n}; train on a sample"
                ));
            }
            _ => {}
        }

        let model =
            self.merge(texts).map_err(|error| Error::Training { problem: shorten(&error.to_string()) })?;
        if let Some(special) =
            self.special.iter().find(|name| model.pieces().any(|(piece, _)| piece == name.as_str()))
        {
            return fail(format!(
                "the special token {:?} became an ordinary piece of the texts; give it a name that no text has",
                shorten(special)
            ));
        }
        let first = model.pieces().len() as u32;
        let added = self.special.iter().zip(first..).map(|(content, id)| Added {
            id,
            content: content.clone(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: false,
            special: true,
        });
        let bytes =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let file = TokenizerFile {
            added_tokens: added.collect(),
            pre_tokenizer: Some(bytes.clone()),
            decoder: Some(bytes),
            ..TokenizerFile::new(model)
        };
        Tokenizer::from_json(file.write().as_bytes())
    }

    /// Lets the library count and merge.
    fn merge(&self, texts: Vec<&str>) -> std::result::Result<Model, tokenizers::Error> {
        let words = ByteLevel::new(false, true, true);
        let mut trainer = tokenizers::models::bpe::BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(self.vocab - self.special.len())
            .min_frequency(self.min_frequency)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        trainer.feed(texts.into_iter(), |text| {
            let mut text = PreTokenizedString::from(text);
            words.pre_tokenize(&mut text)?;
            let words = text.get_splits(OffsetReferential::Original, OffsetType::None);
            Ok(words.into_iter().map(|(word, ..)| word.to_owned()).collect())
        })?;
        let mut model = BPE::default();
        trainer.train(&mut model)?;
        // The merges are private to the library; its own JSON shows them.
        Ok(serde_json::from_str(&serde_json::to_string(&model)?)?)
    }
}
