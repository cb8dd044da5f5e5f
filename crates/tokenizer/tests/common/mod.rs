//! Small tokenizer files with the structure of published ones, and what several tests ask of them.
#![allow(
    dead_code,
    clippy::needless_pass_by_value,
    reason = "each test program uses its part, written as data"
)]

use formwork_tokenizer::{BpeTrainer, Tokenizer};
use serde_json::{Value, json};

/// Text with everything that a stream could split: accents as one and as two code points, scripts of two to four bytes
/// per character, emoji of several code points, spaces in rows, the metaspace, and the names of special tokens.
pub(crate) const TEXTS: [&str; 12] = [
    "",
    " ",
    "the cat sat on the mat, the end.",
    "  two before, two after  ",
    "a\tb\r\n\n\nc",
    "naïve cafe\u{301} über ß",
    "漢字かな交じり文、한국어",
    "👍🏽 👩\u{200d}👩\u{200d}👧 🇩🇪!",
    "▁ is no ▁space▁",
    "I'm don't 12345 x=1;",
    "<s> </s> [SEP] <|endoftext|> <0x0A>",
    "\u{feff}\u{0}\u{7f}\u{10ffff}",
];

/// The file around a model.
pub(crate) fn file(parts: Value) -> Value {
    let mut file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
    });
    for (key, value) in parts.as_object().unwrap() {
        file[key] = value.clone();
    }
    file
}

/// An added token that is special.
pub(crate) fn special(id: usize, content: &str) -> Value {
    json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
           "normalized": false, "special": true})
}

/// A byte-level vocabulary and merges, trained on the test's texts.
pub(crate) fn byte_level() -> Value {
    let trainer = BpeTrainer { vocab: 331, special: vec!["<|endoftext|>".into()], min_frequency: 2 };
    let tokenizer = trainer.train(TEXTS.iter().chain(&TEXTS).copied()).unwrap();
    serde_json::from_str(tokenizer.to_json()).unwrap()
}

/// GPT-2: byte-level pieces, no template, merges as one string each and no type, as its file was in 2019.
pub(crate) fn gpt2() -> Value {
    let mut file = byte_level();
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let lines: Vec<String> =
        merges.map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    file["model"]["merges"] = json!(lines);
    file["model"].as_object_mut().unwrap().remove("type");
    file["model"]["continuing_subword_prefix"] = json!("");
    file["model"]["end_of_word_suffix"] = json!("");
    file["post_processor"] = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false});
    file
}

/// LLaMA-3: its own pattern before bytes, merges ignored for whole pieces, a template with a begin token.
pub(crate) fn llama3() -> Value {
    let mut file = byte_level();
    let first = file["added_tokens"][0]["id"].as_u64().unwrap() as usize;
    file["added_tokens"] = json!([
        special(first, "<|begin_of_text|>"),
        special(first + 1, "<|end_of_text|>"),
        special(first + 2, "<|eot_id|>")
    ]);
    file["model"]["ignore_merges"] = json!(true);
    let pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
    file["post_processor"] = json!({"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<|begin_of_text|>": {"id": "<|begin_of_text|>", "ids": [first], "tokens": ["<|begin_of_text|>"]}}}]});
    file
}

/// LLaMA-2: pieces with a metaspace, bytes for what has no piece, a begin token, the first space taken off.
pub(crate) fn llama2() -> Value {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(String::from).into();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    pieces.extend("▁abcdefghijklmnopqrstuvwxyzéü字,.".chars().map(String::from));
    let merges = [["▁", "t"], ["h", "e"], ["▁t", "he"], ["a", "t"], ["▁", "▁"], ["e", "n"], ["en", "d"]];
    pieces.extend(merges.iter().map(|[a, b]| format!("{a}{b}")));
    let vocab: serde_json::Map<_, _> =
        pieces.into_iter().zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    file(json!({
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges},
    }))
}

/// BERT: lower case, words, pieces that continue a word with a prefix, a template with two tokens, and a file that
/// would cut texts to four tokens.
pub(crate) fn bert() -> Value {
    let mut pieces: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from).into();
    pieces.extend("abcdefghijklmnopqrstuvwxyz12345,.'!;=".chars().map(String::from));
    pieces.extend("abcdefghijklmnopqrstuvwxyz12345".chars().map(|c| format!("##{c}")));
    pieces.extend(["the", "end", "##at", "##nd", "do", "not"].map(String::from));
    let vocab: serde_json::Map<_, _> =
        pieces.into_iter().zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added: Vec<Value> = names.iter().enumerate().map(|(id, name)| special(id, name)).collect();
    file(json!({
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    }))
}

/// A unigram model with a metaspace, as T5 has without its character map.
pub(crate) fn unigram() -> Value {
    let mut vocab = vec![json!(["<unk>", 0.0]), json!(["</s>", 0.0]), json!(["▁", -2.0])];
    vocab.extend("abcdefghijklmnopqrstuvwxyz,.".chars().map(|c| json!([c.to_string(), -4.5])));
    vocab.extend(["▁the", "at", "▁end"].map(|piece| json!([piece, -3.5])));
    file(json!({
        "added_tokens": [special(0, "<unk>"), special(1, "</s>")],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false},
    }))
}

/// Words that end with a suffix, as GPT-1 has them.
pub(crate) fn gpt1() -> Value {
    let mut pieces = vec!["<unk>".to_owned()];
    for c in "abcdefghijklmnopqrstuvwxyz,.".chars() {
        pieces.extend([c.to_string(), format!("{c}</w>")]);
    }
    let merges = [["t", "h"], ["th", "e</w>"], ["a", "t</w>"]];
    pieces.extend(merges.iter().map(|[a, b]| format!("{a}{b}")));
    let vocab: serde_json::Map<_, _> =
        pieces.into_iter().zip(0..).map(|(piece, id)| (piece, json!(id))).collect();
    file(json!({
        "added_tokens": [special(0, "<unk>")],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocab, "merges": merges},
    }))
}

/// A decoder that can only run at the end, and no decoder at all.
pub(crate) fn odd_decoders() -> [Value; 3] {
    let (mut late, mut none, mut ends) = (llama2(), unigram(), llama2());
    late["decoder"] = json!({"type": "Sequence", "decoders": [
        {"type": "Fuse"}, {"type": "Replace", "pattern": {"Regex": "▁+"}, "content": " "}]});
    none["decoder"] = json!(null);
    ends["decoder"] = json!({"type": "Sequence", "decoders": [
        {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": "▁", "start": 1, "stop": 2},
        {"type": "Strip", "content": "e", "start": 1, "stop": 1}]});
    [late, none, ends]
}

/// Every file above.
pub(crate) fn published() -> Vec<(&'static str, Value)> {
    let [late, none, ends] = odd_decoders();
    vec![
        ("gpt2", gpt2()),
        ("llama3", llama3()),
        ("llama2", llama2()),
        ("bert", bert()),
        ("unigram", unigram()),
        ("gpt1", gpt1()),
        ("late decoder", late),
        ("no decoder", none),
        ("strips both ends", ends),
    ]
}

/// Reads a file that must be good.
pub(crate) fn read(file: &Value) -> Tokenizer {
    Tokenizer::from_json(file.to_string().as_bytes()).unwrap()
}

/// Ids below `vocab` that look random and are the same in every run.
pub(crate) fn random_ids(seed: u64, count: usize, vocab: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % vocab as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}
