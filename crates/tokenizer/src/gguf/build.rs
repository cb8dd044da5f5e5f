//! From the checked lists of a vocabulary to the tables that encode with it.
//!
//! What the file does not say is what llama.cpp takes for it: numbers of tokens, rules, attributes by name.

use crate::bytes::character;
use crate::error::{Result, shorten};
use crate::gguf::check::{Checked, refuse};
use crate::gguf::class::Classes;
use crate::gguf::decode::hex;
use crate::gguf::engine::{ByteLevel, Cuts, Model, Prefix, Sentences, is_text, next_word};
use crate::gguf::merges::Merges;
use crate::gguf::partition::Takes;
use crate::gguf::rules::{self, Begins, RULES};
use crate::gguf::{TokenType, Vocabulary, names};
use crate::special::Special;

/// The tables of a byte-level vocabulary.
pub(crate) fn byte_level(
    vocabulary: &Vocabulary,
    checked: &Checked,
    notes: &mut Vec<String>,
) -> Result<(Model, Begins)> {
    let name = match vocabulary.pre.as_deref() {
        Some(name) if !name.is_empty() => name,
        _ => {
            notes.push(
                "tokenizer.ggml.pre: the file does not say how texts are cut into words; they are cut by the default \
                 rule, and the model may have been trained with another"
                    .into(),
            );
            "default"
        }
    };
    let Some(rule) = rules::find(name) else {
        let known: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        let problem = format!(
            "expected a pre-tokenizer whose rule is known, found {:?}; known are {}",
            shorten(name),
            known.join(", ")
        );
        return Err(refuse("pre", problem));
    };
    let merges = Merges::read(&vocabulary.merges, &checked.pieces)?;
    let bytes = std::array::from_fn(|byte| checked.pieces.id(character(byte as u8).encode_utf8(&mut [0; 4])));
    let tables = ByteLevel { rule, classes: Box::new(Classes::new()), bytes: Box::new(bytes), merges };
    Ok((Model::Bytes(tables), rule.begins))
}

/// The tables of a SentencePiece vocabulary.
pub(crate) fn sentences(vocabulary: &Vocabulary, checked: &Checked) -> Result<Model> {
    if vocabulary.scores.is_empty() {
        let problem =
            "expected a score for each token, by which pieces merge, found none; convert the model again";
        return Err(refuse("scores", problem));
    }
    let bytes = std::array::from_fn(|byte| {
        let byte = byte as u8;
        let spelled = checked.pieces.id(&format!("<0x{byte:02X}>"));
        let itself = || checked.pieces.id(char::from(byte).encode_utf8(&mut [0; 4]));
        spelled.or_else(|| if byte.is_ascii() { itself() } else { None })
    });
    let prefix = match vocabulary.add_space_prefix {
        Some(false) => Prefix::Nothing,
        Some(true) | None => Prefix::Space,
    };
    for ((id, text), kind) in checked.pieces.iter().zip(&checked.types) {
        if *kind == TokenType::Byte && hex(text).is_none() {
            let problem =
                format!("expected tokens of bytes to be written like <0x0A>, found {:?}", shorten(text));
            return Err(refuse(format_args!("tokens[{id}]"), problem));
        }
    }
    let longest = checked.pieces.iter().map(|(_, text)| text.len()).max().unwrap_or(0);
    let mut words = checked.pieces.iter().zip(&checked.types).filter(|(_, kind)| is_text(**kind));
    let cuts = if words.all(|((_, text), _)| next_word(text) == text.len()) {
        Cuts::BeforeSpaces
    } else {
        Cuts::Nowhere
    };
    Ok(Model::Sentences(Sentences { prefix, bytes: Box::new(bytes), longest, cuts }))
}

/// The tokens with a part to play: what the file says, llama.cpp's numbers where it says nothing, and names.
pub(crate) fn special(vocabulary: &Vocabulary, checked: &Checked, model: &Model) -> Special {
    let default = |id: Option<u32>, number: u32| match model {
        Model::Sentences(_) => id.or(Some(number).filter(|id| (*id as usize) < checked.pieces.vocab())),
        Model::Bytes(_) => id,
    };
    let named = |name: &str| checked.pieces.id(name);
    let mut end: Vec<u32> =
        names::END.iter().chain(&names::CODE_END).filter_map(|name| named(name)).collect();
    end.extend([vocabulary.eot, vocabulary.eom].into_iter().flatten());
    // Harmony's messages go on after this one.
    let calls = ["<|call|>", "<|calls|>"].into_iter().any(|name| named(name).is_some());
    if calls && ["<|return|>", "<|flush|>"].into_iter().any(|name| named(name).is_some()) {
        end.retain(|id| Some(*id) != named("<|end|>"));
    }
    end.sort_unstable();
    end.dedup();
    if let Some(eos) = default(vocabulary.eos, 2) {
        end.retain(|id| *id != eos);
        end.insert(0, eos);
    }
    Special {
        begin: default(vocabulary.bos, 1),
        end,
        pad: vocabulary.pad,
        unknown: default(vocabulary.unk, 0),
    }
}

/// The spaces that tokens take with them, which llama.cpp knows by the names of models: a function of the token.
pub(crate) fn takes(vocabulary: &Vocabulary) -> impl Fn(&str) -> Takes + use<> {
    let name = vocabulary.name.as_deref().unwrap_or_default().to_lowercase();
    let pre = vocabulary.pre.as_deref().unwrap_or_default();
    let jina = ["jina-v2-de", "jina-v2-es", "jina-v2-code"].iter().any(|known| pre.contains(known));
    let phi3 = !jina && (name.contains("phi-3") || name.contains("phi3"));
    let modern_bert = !jina && !phi3 && name.contains("modern-bert");
    move |token| match token {
        "<mask>" if jina => Takes::Before,
        "[MASK]" if modern_bert => Takes::Before,
        "<unk>" | "<s>" | "<|endoftext|>" => Takes::Nothing,
        _ if phi3 => Takes::After,
        _ => Takes::Nothing,
    }
}
