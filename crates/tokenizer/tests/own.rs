//! The tokenizers this crate makes itself: bytes, characters and a trained byte-level byte-pair encoding.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use common::TEXTS;
use formwork_tokenizer::{BpeTrainer, Error, Kind, Tokenizer};

fn texts() -> String {
    // Enough repetition for every vocabulary below.
    TEXTS.concat().repeat(3)
}

#[test]
fn each_kind_encodes_and_gives_back_every_text() {
    let trained = BpeTrainer::new(311).train([texts().as_str()]).unwrap();
    for tokenizer in [Tokenizer::bytes(), Tokenizer::characters(&texts()).unwrap(), trained] {
        for text in TEXTS {
            let ids = tokenizer.encode(text).unwrap();
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab()));
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{tokenizer:?}");
        }
        for id in 0..tokenizer.vocab() as u32 {
            assert_eq!(tokenizer.id(tokenizer.piece(id).unwrap()), Some(id), "{tokenizer:?}");
        }
        assert_eq!((tokenizer.piece(5000), tokenizer.id("no such piece")), (None, None));
    }
}

#[test]
fn each_kind_is_saved_to_a_folder_and_loaded_as_itself() {
    let trained = BpeTrainer::new(311).train([texts().as_str()]).unwrap();
    let kinds = [Kind::Bytes, Kind::Characters, Kind::Bpe];
    for (tokenizer, kind) in
        [Tokenizer::bytes(), Tokenizer::characters(&texts()).unwrap(), trained].iter().zip(kinds)
    {
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path()).unwrap();
        let files: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(files, ["tokenizer.json"]);
        let loaded = Tokenizer::load(folder.path().join("tokenizer.json")).unwrap();
        assert_eq!((loaded.kind(), loaded.vocab()), (kind, tokenizer.vocab()));
        assert_eq!(loaded.special(), tokenizer.special());
        assert_eq!(Tokenizer::load(folder.path()).unwrap().to_json(), tokenizer.to_json());
        for text in TEXTS {
            assert_eq!(loaded.encode(text).unwrap(), tokenizer.encode(text).unwrap());
        }
    }
}

#[test]
fn other_programs_read_the_files_and_agree() {
    let trained = BpeTrainer::new(311).train([texts().as_str()]).unwrap();
    for tokenizer in [Tokenizer::bytes(), Tokenizer::characters(&texts()).unwrap(), trained] {
        let mut reference: tokenizers::Tokenizer = tokenizer.to_json().parse().unwrap();
        reference.set_encode_special_tokens(true);
        for text in TEXTS {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(reference.encode(text, true).unwrap().get_ids(), ids, "{tokenizer:?} {text:?}");
            assert_eq!(reference.decode(&ids, true).unwrap(), text, "{tokenizer:?}");
        }
    }
}

#[test]
fn a_character_that_was_not_in_the_text_is_named() {
    let tokenizer = Tokenizer::characters("abc é").unwrap();
    assert_eq!(tokenizer.vocab(), 5);
    let error = tokenizer.encode("é bad").unwrap_err();
    assert!(matches!(&error, Error::UnknownText { text, at: 5 } if text == "d"), "{error}");
    assert!(error.to_string().starts_with("encode: no token for \"d\" at byte 5"), "{error}");
    assert!(Tokenizer::characters("").unwrap_err().to_string().contains("empty"));
}

#[test]
fn a_tokenizer_with_more_ids_than_the_model_is_refused_with_both_numbers() {
    let tokenizer = Tokenizer::bytes();
    assert!(tokenizer.fits(256).is_ok() && tokenizer.fits(300).is_ok());
    let message = tokenizer.fits(255).unwrap_err().to_string();
    assert!(message.contains("256") && message.contains("255"), "{message}");
}

#[test]
fn training_makes_the_merges_of_the_most_frequent_pairs() {
    // "ab" occurs 6 times, then "abc" and "abd" 3 times each: the smaller pair comes first.
    let trainer = BpeTrainer { vocab: 260, special: vec!["<end>".into()], min_frequency: 2 };
    let tokenizer = trainer.train(["abc abd abc abd abc abd"]).unwrap();
    let pieces: Vec<_> = (256..260).map(|id| tokenizer.piece(id).unwrap()).collect();
    assert_eq!(pieces, ["ab", "Ġab", "Ġabd", "<end>"]);
    assert!(tokenizer.is_special(259) && !tokenizer.is_special(256));
    assert_eq!(tokenizer.piece(0), Some("!"));
}

#[test]
fn training_twice_on_any_number_of_threads_gives_the_same_file() {
    let text = include_str!("common/mod.rs");
    let train = || BpeTrainer::new(800).train(text.lines()).unwrap().to_json().to_owned();
    let first = train();
    for threads in [1, 2, 3, 7] {
        // Several trainings at once disturb each other's order of work, as do the library's own threads.
        let results: Vec<String> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..threads).map(|_| scope.spawn(train)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert!(results.iter().all(|result| *result == first));
    }
}

#[test]
fn a_small_text_gives_a_small_vocabulary() {
    let tokenizer = BpeTrainer::new(5000).train(["ab ab"]).unwrap();
    assert_eq!(tokenizer.vocab(), 256 + 1 + 1);
    assert_eq!(tokenizer.special().end, [257]);
}

#[test]
fn training_that_cannot_work_says_why() {
    let check = |vocab: usize, special: &[&str], text: &str, part: &str| {
        let special = special.iter().map(|name| (*name).to_owned()).collect();
        let error = BpeTrainer { vocab, special, min_frequency: 2 }.train([text]).unwrap_err();
        assert!(matches!(error, Error::Training { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check(255, &[], "text", "at least 256");
    check(257, &["<a>", "<b>"], "text", "at least 258");
    check(usize::MAX, &[], "text", "found");
    check(300, &["<a>", "<a>"], "text", "different");
    check(300, &[""], "text", "non-empty");
    check(300, &[], "", "empty");
    check(300, &["ab"], "ab ab ab ab", "ordinary piece");
}
