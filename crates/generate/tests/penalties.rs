//! What a token pays for standing in the text already: once, or by its number.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use formwork_generate::{FrequencyPenalty, History, PresencePenalty, Processor};

const NO: f32 = f32::NEG_INFINITY;

#[test]
fn only_generated_tokens_are_penalised() {
    let mut history = History::new(&[0, 0, 1]);
    [1, 1, 2, 1, 3].iter().for_each(|&id| history.push(id));
    let check = |penalty: &dyn Processor, expected: [f32; 4]| {
        let mut logits = [2.0, 2.0, 1.5, NO];
        penalty.process(&mut logits, &history).unwrap();
        assert_eq!(logits, expected, "{penalty:?}");
    };
    let presence = |penalty| PresencePenalty::new(penalty).unwrap();
    check(&presence(0.0), [2.0, 2.0, 1.5, NO]);
    check(&presence(1.0), [2.0, 1.0, 0.5, NO]);
    check(&presence(-1.0), [2.0, 3.0, 2.5, NO]);
    check(&presence(-1e300), [2.0, f32::MAX, f32::MAX, NO]);
    let frequency = |penalty| FrequencyPenalty::new(penalty).unwrap();
    check(&frequency(0.0), [2.0, 2.0, 1.5, NO]);
    check(&frequency(1.0), [2.0, -1.0, 0.5, NO]);
    check(&frequency(-1.0), [2.0, 5.0, 2.5, NO]);
    check(&frequency(-1e300), [2.0, f32::MAX, f32::MAX, NO]);
}

#[test]
fn a_penalty_is_a_finite_number() {
    for bad in [f64::NAN, f64::INFINITY] {
        for (field, error) in [
            ("presence_penalty", PresencePenalty::new(bad).unwrap_err()),
            ("frequency_penalty", FrequencyPenalty::new(bad).unwrap_err()),
        ] {
            assert!(error.to_string().starts_with(&format!("{field}: expected a finite number")), "{error}");
        }
    }
}
