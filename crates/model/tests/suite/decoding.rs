//! What a text's logits may depend on: not on a cache, not on its batch, not on its padding, not on its future.

use formwork_model::module::{DType, Pass, Positions, Rows, TokenModel};
use ndarray::{Array2, ArrayD, s};

use crate::common::{close, families, ids, lively, logits};

/// Each type with what two orders of the same sums may differ by.
const TYPES: [(DType, f64); 2] = [(DType::F32, 1e-5), (DType::F64, 1e-11)];

const B: usize = 3;
const T: usize = 11;
/// Real tokens of each row of the padded batches.
const LENGTHS: [usize; B] = [7, 11, 2];

/// The logits of each row of `tokens`, alone and unpadded.
fn rows_alone(model: &dyn TokenModel, tokens: &Array2<u32>) -> Vec<ArrayD<f64>> {
    let alone =
        |row: usize| logits(model, tokens.slice(s![row..row + 1, ..LENGTHS[row]]), &mut Pass::infer());
    (0..B).map(alone).collect()
}

#[test]
fn a_padded_batch_equals_its_rows() {
    for config in families() {
        for (dtype, tolerance) in TYPES {
            let model = lively(&config, dtype);
            let tokens = ids(B, T, config.vocab);
            let expected = rows_alone(&model, &tokens);
            let mut left = ids(B, T, config.vocab);
            for (row, len) in LENGTHS.into_iter().enumerate() {
                left.slice_mut(s![row, T - len..]).assign(&tokens.slice(s![row, ..len]));
            }
            let right = logits(&model, tokens.view(), &mut Pass::infer().rows(Rows::right_padded(&LENGTHS)));
            let left =
                logits(&model, left.view(), &mut Pass::infer().rows(Rows::left_padded(&LENGTHS, T).unwrap()));
            for (row, len) in LENGTHS.into_iter().enumerate() {
                let what = format!("{} in {dtype}, row {row}", config.name);
                close(
                    &right.slice(s![row..row + 1, ..len, ..]).to_owned().into_dyn(),
                    &expected[row],
                    tolerance,
                    format!("{what}, right"),
                );
                close(
                    &left.slice(s![row..row + 1, T - len.., ..]).to_owned().into_dyn(),
                    &expected[row],
                    tolerance,
                    format!("{what}, left"),
                );
            }
        }
    }
}

#[test]
fn cached_decoding_equals_full_recompute_at_every_split_with_padding() {
    for config in families() {
        for (dtype, tolerance) in TYPES {
            let model = lively(&config, dtype);
            let tokens = ids(B, T, config.vocab);
            let expected = rows_alone(&model, &tokens);
            for split in 1..T {
                // The prompt of `split` tokens is padded on the left, what follows on the right.
                let first = LENGTHS.map(|len| len.min(split));
                let rest = [0, 1, 2].map(|row| LENGTHS[row] - first[row]);
                let prompt =
                    Array2::from_shape_fn((B, split), |(row, i)| match (i + first[row]).checked_sub(split) {
                        Some(i) => tokens[[row, i]],
                        None => 1,
                    });
                let follow = Array2::from_shape_fn((B, T - split), |(row, i)| {
                    tokens[[row, (first[row] + i).min(T - 1)]]
                });
                let mut cache = model.cache(B, T);
                let rows = Rows::left_padded(&first, split).unwrap();
                let start = logits(&model, prompt.view(), &mut Pass::infer().rows(rows).cached(&mut cache));
                let end = logits(
                    &model,
                    follow.view(),
                    &mut Pass::infer().rows(Rows::right_padded(&rest)).cached(&mut cache),
                );
                for row in 0..B {
                    let what = format!("{} in {dtype}, split at {split}, row {row}", config.name);
                    let whole = &expected[row];
                    let start = start.slice(s![row..row + 1, split - first[row].., ..]).to_owned().into_dyn();
                    close(
                        &start,
                        &whole.slice(s![.., ..first[row], ..]).to_owned().into_dyn(),
                        tolerance,
                        format!("{what}, prompt"),
                    );
                    if rest[row] > 0 {
                        let end = end.slice(s![row..row + 1, ..rest[row], ..]).to_owned().into_dyn();
                        close(
                            &end,
                            &whole.slice(s![.., first[row].., ..]).to_owned().into_dyn(),
                            tolerance,
                            format!("{what}, rest"),
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn the_future_never_changes_the_past() {
    for config in families() {
        let model = lively(&config, DType::F32);
        let tokens = ids(1, T, config.vocab);
        let before = logits(&model, tokens.view(), &mut Pass::infer());
        for changed in 1..T {
            let mut other = tokens.clone();
            other.slice_mut(s![.., changed..]).mapv_inplace(|id| (id + 1) % config.vocab as u32);
            let after = logits(&model, other.view(), &mut Pass::infer());
            let past = s![.., ..changed, ..];
            assert_eq!(
                after.slice(past),
                before.slice(past),
                "{}: changed from token {changed} on",
                config.name
            );
            assert_ne!(
                after.slice(s![.., changed, ..]),
                before.slice(s![.., changed, ..]),
                "{}",
                config.name
            );
        }
    }
}

#[test]
fn the_last_logits_are_the_last_of_all_logits() {
    for config in families() {
        let model = lively(&config, DType::F64);
        let tokens = ids(B, T, config.vocab);
        let rows = || Pass::infer().rows(Rows::right_padded(&LENGTHS));
        let all = logits(&model, tokens.view(), &mut rows());
        let last =
            model.logits(tokens.view(), Positions::Last, &mut rows()).unwrap().to_array::<f64>().unwrap();
        for (row, len) in LENGTHS.into_iter().enumerate() {
            let all = all.slice(s![row, len - 1, ..]).to_owned().into_dyn();
            close(&last.slice(s![row, ..]).to_owned().into_dyn(), &all, 1e-11, &config.name);
        }
    }
}

#[test]
fn text_that_does_not_fit_the_model_is_refused() {
    let config = crate::common::gpt2();
    let model = lively(&config, DType::F32);
    let check = |tokens: Array2<u32>, message: &str| {
        let error = model.hidden(tokens.view(), &mut Pass::infer()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    };
    check(Array2::zeros((2, 0)), "tokens: expected at least one token, found [2, 0]");
    check(
        Array2::from_elem((1, 2), 37),
        "tokens: expected ids below the vocabulary of 37, found 37 at row 0, token 0",
    );
    check(
        Array2::zeros((1, 20)),
        "tokens: expected a text of at most 19 tokens, the context, found 20 in row 0",
    );
}
