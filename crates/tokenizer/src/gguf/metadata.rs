//! A vocabulary in the metadata of a GGUF file: the keys `tokenizer.ggml.*`.

use formwork_formats::gguf::{Metadata, Value};

use crate::error::Result;
use crate::gguf::check::refuse;
use crate::gguf::{Texts, TokenType, Vocabulary};

/// The key of a field.
fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

impl Vocabulary {
    /// Reads the vocabulary of a file; nothing is checked yet but the kinds of the values.
    ///
    /// # Errors
    /// If there is none, or a value is of another kind than its key says.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let text = |name: &str| metadata.str(&key(name)).map(|text| text.map(str::to_owned));
        let flag = |name: &str| metadata.bool(&key(name));
        // Files write −1 where there is no such token.
        let id = |name: &str| -> Result<Option<u32>> {
            let Some(id) = metadata.i64(&key(name))?.filter(|id| *id >= 0) else { return Ok(None) };
            let id = u32::try_from(id)
                .map_err(|_| refuse(name, format!("expected an id, found {id}; convert the model again")))?;
            Ok(Some(id))
        };
        let texts = |name: &str| -> Result<Option<Texts>> {
            let Some(list) = metadata.strings(&key(name))? else { return Ok(None) };
            let bytes = list.clone().map(|text| text.bytes().len()).sum();
            let mut texts = Texts::with_capacity(list.len(), bytes);
            texts.extend(list);
            Ok(Some(texts))
        };
        let missing = |name: &str, what: &str| {
            refuse(name, format!("expected {what}, found none; the file has no vocabulary, convert it again"))
        };
        let model = text("model")?.ok_or_else(|| missing("model", "the name of a model"))?;
        let merges = texts("merges")?;
        if merges.is_none() && model == "gpt2" {
            return Err(missing("merges", "the merges of a byte-pair vocabulary"));
        }
        // Old converters wrote scores as whole numbers.
        let scores: Vec<f32> = match metadata.i64s(&key("scores")) {
            Ok(Some(whole)) => whole.map(|score| score as f32).collect(),
            _ => metadata.f32s(&key("scores"))?.into_iter().flatten().collect(),
        };
        let types = metadata.i64s(&key("token_type"))?;
        Ok(Vocabulary {
            model,
            pre: text("pre")?,
            tokens: texts("tokens")?.ok_or_else(|| missing("tokens", "the list of tokens"))?,
            scores,
            types: types.into_iter().flatten().map(TokenType::from_number).collect(),
            merges: merges.unwrap_or_default(),
            bos: id("bos_token_id")?,
            eos: id("eos_token_id")?,
            eot: id("eot_token_id")?,
            eom: id("eom_token_id")?,
            unk: id("unknown_token_id")?,
            pad: id("padding_token_id")?,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
            name: metadata.str("general.name").ok().flatten().map(str::to_owned),
        })
    }

    /// Writes the vocabulary into the metadata of a file; what is not said is not written, and `general.name` is left
    /// to the model.
    pub fn write(&self, metadata: &mut Metadata) {
        metadata.set(key("model"), self.model.as_str());
        if let Some(pre) = &self.pre {
            metadata.set(key("pre"), pre.as_str());
        }
        metadata.set(key("tokens"), Value::strings(self.tokens.iter()));
        if !self.scores.is_empty() {
            metadata.set(key("scores"), self.scores.clone());
        }
        if !self.types.is_empty() {
            metadata
                .set(key("token_type"), self.types.iter().map(|kind| kind.number()).collect::<Vec<i32>>());
        }
        if !self.merges.is_empty() || self.model == "gpt2" {
            metadata.set(key("merges"), Value::strings(self.merges.iter()));
        }
        for (name, id) in [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("eom_token_id", self.eom),
            ("unknown_token_id", self.unk),
            ("padding_token_id", self.pad),
        ] {
            if let Some(id) = id {
                metadata.set(key(name), id);
            }
        }
        for (name, flag) in [
            ("add_bos_token", self.add_bos),
            ("add_eos_token", self.add_eos),
            ("add_space_prefix", self.add_space_prefix),
            ("remove_extra_whitespaces", self.remove_extra_whitespaces),
        ] {
            if let Some(flag) = flag {
                metadata.set(key(name), flag);
            }
        }
    }
}
