//! The small vocabularies of `golden/vocabularies.json`, and what llama.cpp makes of texts in them.
#![allow(dead_code, reason = "each test program uses its part")]

use formwork_tokenizer::Tokenizer;
use formwork_tokenizer::gguf::{TokenType, Vocabulary};
use serde_json::Value;

/// A vocabulary and what was asked of it.
pub(crate) struct Case {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) asked: Vec<Asked>,
}

/// What llama.cpp said for one pre-tokenizer.
pub(crate) struct Asked {
    /// `-` for that of the file.
    pub(crate) pre: String,
    /// Ids of each text, bare, with special tokens as text.
    pub(crate) text: Vec<Vec<u32>>,
    /// Ids of each text in its frame, with special tokens as tokens.
    pub(crate) tokens: Vec<Vec<u32>>,
    /// The text of the first ids.
    pub(crate) decoded: Option<Vec<String>>,
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn lists(value: &Value) -> Vec<Vec<u32>> {
    let numbers = |list: &Value| -> Vec<u32> {
        list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    value.as_array().unwrap().iter().map(numbers).collect()
}

fn golden() -> Value {
    serde_json::from_str(include_str!("../golden/vocabularies.json")).unwrap()
}

/// The texts.
pub(crate) fn texts() -> Vec<String> {
    strings(&golden()["texts"])
}

/// The byte-level vocabulary and the SentencePiece one.
pub(crate) fn cases() -> [Case; 2] {
    let golden = golden();
    std::array::from_fn(|place| {
        let case = &golden["cases"][place];
        let (data, id) =
            (&case["vocabulary"], |key: &str| case["vocabulary"][key].as_u64().map(|id| id as u32));
        let bytes = |key: &str| strings(&data[key]).into_iter().collect();
        let vocabulary = Vocabulary {
            model: data["model"].as_str().unwrap().into(),
            pre: Some("default".into()),
            tokens: bytes("tokens"),
            scores: data["scores"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect(),
            types: data["types"]
                .as_array()
                .unwrap()
                .iter()
                .map(|x| TokenType::from_number(x.as_i64().unwrap()))
                .collect(),
            merges: bytes("merges"),
            bos: id("bos"),
            eos: id("eos"),
            unk: id("unk"),
            ..Vocabulary::default()
        };
        let asked = case["rules"].as_array().unwrap().iter().map(|rule| Asked {
            pre: rule["pre"].as_str().unwrap().into(),
            text: lists(&rule["text"]),
            tokens: lists(&rule["tokens"]),
            decoded: rule.get("decoded").map(strings),
        });
        Case { vocabulary, asked: asked.collect() }
    })
}

impl Case {
    /// The vocabulary with this pre-tokenizer.
    pub(crate) fn with(&self, pre: &str) -> Vocabulary {
        let pre = if pre == "-" { self.vocabulary.pre.clone() } else { Some(pre.into()) };
        Vocabulary { pre, ..self.vocabulary.clone() }
    }
}

/// A byte-level tokenizer and a SentencePiece one.
pub(crate) fn tokenizers() -> [Tokenizer; 2] {
    let [bytes, sentences] = cases();
    [bytes.with("llama-bpe"), sentences.vocabulary]
        .map(|vocabulary| Tokenizer::from_vocabulary(vocabulary).unwrap())
}
