//! A vocabulary from a stranger gives a named error or a tokenizer, never a panic and never gigabytes.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

#[path = "common/vocabularies.rs"]
mod vocabularies;

use formwork_tokenizer::gguf::{Texts, TokenType, Vocabulary};
use formwork_tokenizer::{Encode, Error, Frame, Markup, Tokenizer};
use vocabularies::{cases, texts};

/// The vocabulary must be refused with a message that has all of `parts` in it and is not long.
fn check(vocabulary: Vocabulary, parts: &[&str]) {
    let message = match Tokenizer::from_vocabulary(vocabulary) {
        Ok(tokenizer) => panic!("accepted, expected {parts:?}: {tokenizer:?}"),
        Err(error) => {
            assert!(matches!(error, Error::Vocabulary { .. }), "{error}");
            error.to_string()
        }
    };
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
    assert!(message.len() < 1200 && !message.ends_with('.') && !message.contains('\n'), "{message}");
}

/// The two good vocabularies, damaged in one place each.
fn damaged(damage: impl Fn(&mut Vocabulary)) -> [Vocabulary; 2] {
    cases().map(|case| {
        let mut vocabulary = case.vocabulary;
        damage(&mut vocabulary);
        vocabulary
    })
}

/// Changes a list of texts in its middle.
fn edit(texts: &mut Texts, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut list = texts.iter().map(<[u8]>::to_vec).collect();
    change(&mut list);
    *texts = list.into_iter().collect();
}

#[test]
fn models_and_rules_that_nobody_knows_are_refused_with_those_that_are_known() {
    for model in ["bert", "t5", "rwkv", "plamo2", "none", ""] {
        for vocabulary in damaged(|vocabulary| vocabulary.model = model.into()) {
            check(vocabulary, &["tokenizer.ggml.model", "gpt2", "llama", &format!("{model:?}")]);
        }
    }
    let [bytes, _] = damaged(|vocabulary| vocabulary.pre = Some("kimi-k2".into()));
    check(bytes, &["tokenizer.ggml.pre", "\"kimi-k2\"", "gpt-2, llama-bpe, smollm"]);
}

#[test]
fn a_vocabulary_without_a_rule_is_cut_by_the_default_one_and_says_so() {
    let [case, _] = cases();
    let named = Tokenizer::from_vocabulary(case.with("default")).unwrap();
    assert_eq!(named.notes(), [] as [String; 0]);
    for pre in [None, Some(String::new())] {
        let silent = Tokenizer::from_vocabulary(Vocabulary { pre, ..case.vocabulary.clone() }).unwrap();
        assert_eq!(silent.encode("it's 1234").unwrap(), named.encode("it's 1234").unwrap());
        assert!(silent.notes()[0].contains("tokenizer.ggml.pre"), "{:?}", silent.notes());
    }
}

#[test]
fn lists_that_contradict_each_other_are_refused() {
    for vocabulary in damaged(|vocabulary| vocabulary.tokens = Texts::new()) {
        check(vocabulary, &["tokenizer.ggml.tokens", "found 0"]);
    }
    for vocabulary in damaged(|vocabulary| vocabulary.types.truncate(7)) {
        check(vocabulary, &["tokenizer.ggml.token_type", "found 7"]);
    }
    let [_, sentences] = damaged(|vocabulary| vocabulary.scores.push(0.0));
    check(sentences, &["tokenizer.ggml.scores", "found 484"]);
    let [_, sentences] = damaged(|vocabulary| vocabulary.scores.clear());
    check(sentences, &["tokenizer.ggml.scores", "found none"]);
    let [_, sentences] = damaged(|vocabulary| {
        vocabulary.scores.get_mut(300).into_iter().for_each(|score| *score = f32::NAN);
    });
    check(sentences, &["tokenizer.ggml.scores[300]", "NaN"]);
    for vocabulary in
        damaged(|vocabulary| edit(&mut vocabulary.tokens, |tokens| tokens[261] = tokens[260].clone()))
    {
        check(vocabulary, &["tokenizer.ggml.tokens[261]", "already is token 260"]);
    }
    for vocabulary in
        damaged(|vocabulary| edit(&mut vocabulary.tokens, |tokens| tokens[9] = b"a\xffb".to_vec()))
    {
        check(vocabulary, &["tokenizer.ggml.tokens[9]", "UTF-8"]);
    }
    for vocabulary in damaged(|vocabulary| vocabulary.tokens = [[b'x'; 4096]; 2].into_iter().collect()) {
        check(Vocabulary { types: Vec::new(), scores: Vec::new(), ..vocabulary }, &["tokens[1]", "already"]);
    }
    let [_, sentences] = damaged(|vocabulary| vocabulary.types[300] = TokenType::Byte);
    check(sentences, &["tokenizer.ggml.tokens[300]", "<0x0A>"]);
}

#[test]
fn merges_of_another_vocabulary_are_refused() {
    let with = |merge: &[u8]| {
        damaged(|vocabulary| {
            let place = vocabulary.merges.len().min(5);
            edit(&mut vocabulary.merges, |merges| merges.insert(place, merge.to_vec()));
        })[0]
            .clone()
    };
    check(with(b"a"), &["tokenizer.ggml.merges[5]", "\"a\""]);
    check(with(b""), &["merges[5]", "two pieces"]);
    check(with(b" a"), &["merges[5]", "two pieces"]);
    check(with(b"\xff \xfe"), &["merges[5]", "two pieces"]);
    check(with("a 漢".as_bytes()), &["merges[5]", "\"漢\" is no token"]);
    check(with(b"z q"), &["merges[5]", "\"zq\" is no token"]);
    check(with(&[b'x'; 1 << 20]), &["merges[5]"]);
}

#[test]
fn ids_out_of_range_are_refused() {
    type Field = fn(&mut Vocabulary) -> &mut Option<u32>;
    let set: [(&str, Field); 6] = [
        ("bos_token_id", |vocabulary| &mut vocabulary.bos),
        ("eos_token_id", |vocabulary| &mut vocabulary.eos),
        ("eot_token_id", |vocabulary| &mut vocabulary.eot),
        ("eom_token_id", |vocabulary| &mut vocabulary.eom),
        ("unknown_token_id", |vocabulary| &mut vocabulary.unk),
        ("padding_token_id", |vocabulary| &mut vocabulary.pad),
    ];
    for (key, field) in set {
        for vocabulary in damaged(|vocabulary| *field(vocabulary) = Some(u32::MAX)) {
            check(vocabulary, &[key, "4294967295"]);
        }
    }
    let [bytes, _] = damaged(|vocabulary| {
        vocabulary.bos = None;
        vocabulary.add_bos = Some(true);
    });
    check(bytes, &["bos_token_id", "add_bos_token"]);
}

#[test]
fn long_tokens_may_not_ask_for_quadratic_time() {
    for vocabulary in damaged(|vocabulary| {
        edit(&mut vocabulary.tokens, |tokens| tokens[300] = vec![b'x'; 5000]);
        vocabulary.types[300] = TokenType::Normal;
        vocabulary.merges = Texts::new();
    }) {
        check(vocabulary, &["tokenizer.ggml.tokens[300]", "5000"]);
    }
    for vocabulary in damaged(|vocabulary| {
        edit(&mut vocabulary.tokens, |tokens| tokens[300] = vec![b'x'; 2000]);
        vocabulary.types[300] = TokenType::UserDefined;
        vocabulary.merges = Texts::new();
    }) {
        check(vocabulary, &["tokenizer.ggml.tokens[300]", "2000"]);
    }
}

/// Tokens that are empty have their place and a name; a byte without a token is dropped.
#[test]
fn odd_vocabularies_that_llama_cpp_reads_are_read() {
    let [bytes, sentences] = damaged(|vocabulary| {
        vocabulary.tokens.push("");
        vocabulary.types.push(TokenType::Unused);
        if !vocabulary.scores.is_empty() {
            vocabulary.scores.push(0.0);
        }
    });
    for vocabulary in [bytes, sentences] {
        let last = vocabulary.tokens.len() - 1;
        let tokenizer = Tokenizer::from_vocabulary(vocabulary).unwrap();
        assert_eq!(tokenizer.piece(last as u32), Some(format!("[EMPTY_{last}]").as_str()));
        assert_eq!(tokenizer.decode(&[last as u32]).unwrap(), "");
    }
    let [bytes, _] = damaged(|vocabulary| {
        // The token of the byte 0x7f.
        edit(&mut vocabulary.tokens, |tokens| {
            let found = tokens.iter_mut().find(|token| **token == "ġ".as_bytes());
            found.into_iter().for_each(|token| *token = b"other".to_vec());
        });
        edit(&mut vocabulary.merges, |merges| {
            merges.retain(|merge| !String::from_utf8_lossy(merge).contains('ġ'));
        });
    });
    let tokenizer = Tokenizer::from_vocabulary(bytes).unwrap();
    let ids = tokenizer.encode("ab c\u{7f}d").unwrap();
    assert_eq!(tokenizer.decode(&ids).unwrap(), "ab cd");
}

/// Lists are cut, grown, shuffled and overwritten at random: an error or a tokenizer, but no panic.
#[test]
fn no_random_damage_panics() {
    let (texts, cases) = (texts(), cases());
    let (mut accepted, mut state) = (0, 1u64);
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for round in 0..1500 {
        let mut vocabulary = cases[round % 2].vocabulary.clone();
        for _ in 0..=next(3) {
            let count = vocabulary.tokens.len();
            let (place, other) = (next(count), next(count));
            match next(12) {
                0 => edit(&mut vocabulary.tokens, |tokens| tokens.swap(place, other)),
                1 => {
                    let token = vec![next(256) as u8; next(9)];
                    edit(&mut vocabulary.tokens, |tokens| tokens[place] = token);
                }
                2 => vocabulary.types[place] = TokenType::from_number(next(9) as i64 - 1),
                3 => vocabulary
                    .scores
                    .get_mut(place)
                    .into_iter()
                    .for_each(|score| *score = [f32::INFINITY, 0.0, f32::NEG_INFINITY][next(3)]),
                4 if !vocabulary.merges.is_empty() => {
                    let (place, other) = (next(vocabulary.merges.len()), next(vocabulary.merges.len()));
                    edit(&mut vocabulary.merges, |merges| merges.swap(place, other));
                }
                5 if !vocabulary.merges.is_empty() => {
                    let place = next(vocabulary.merges.len());
                    let merge = vec![[b' ', b'a', 0xc4, 0xa0][next(4)]; next(5)];
                    edit(&mut vocabulary.merges, |merges| merges[place] = merge);
                }
                6 => vocabulary.unk = Some(place as u32),
                7 => vocabulary.bos = Some(next(2 * count) as u32),
                8 => vocabulary.model = ["llama", "gpt2"][next(2)].into(),
                9 => vocabulary.add_space_prefix = Some(next(2) == 0),
                10 => vocabulary.types[place] = TokenType::UserDefined,
                _ => vocabulary
                    .types
                    .iter_mut()
                    .skip(next(count))
                    .step_by(7)
                    .for_each(|kind| *kind = TokenType::Control),
            }
        }
        let Ok(tokenizer) = Tokenizer::from_vocabulary(vocabulary) else { continue };
        accepted += 1;
        let text = &texts[next(texts.len())];
        for markup in [Markup::Text, Markup::Tokens] {
            if let Ok(ids) = tokenizer.encode_with(text, &Encode { frame: Frame::Template, markup }) {
                tokenizer.decode(&ids).unwrap();
            }
        }
        if round % 10 == 0
            && Tokenizer::from_json(tokenizer.to_json().as_bytes())
                .is_ok_and(|again| again.to_vocabulary().is_ok())
        {
            accepted += 1;
        }
    }
    assert!(accepted > 300, "some damage does not show: {accepted}");
}
