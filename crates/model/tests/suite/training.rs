//! Gradients, dropout and determinism of whole models.

use std::sync::atomic::AtomicBool;

use formwork_kernels::team::with_threads;
use formwork_model::module::{
    DType, Kind, Module, Outline, Pass, Rows, Seed, Site, Tap, Tensor, TokenModel, params, weights_mut,
};
use ndarray::{Array2, s};

use crate::common::{
    AdamW, SMALL, Small, attentions, bits, families, gpt2, gradients, ids, lively, llama, residuals, shrunk,
};

fn batch(vocab: usize) -> (Array2<u32>, Array2<u32>) {
    let tokens = ids(2, 8, vocab);
    (tokens.slice(s![.., ..7]).to_owned(), tokens.slice(s![.., 1..]).to_owned())
}

#[test]
fn every_parameter_receives_a_gradient_that_is_not_zero() {
    for config in families() {
        let model = lively(&config, DType::F64);
        let (tokens, targets) = batch(config.vocab);
        let rows = Rows::right_padded(&[7, 5]);
        for (name, grad) in
            gradients(&model, tokens.view(), targets.view(), &mut Pass::train(3, 5).rows(rows)).unwrap()
        {
            let grad = grad.unwrap_or_else(|| panic!("{}: {name} got none", config.name));
            // Without dropout on the probabilities the gradient of a bias on all keys is zero up to rounding; with it, too.
            let expected = if name.ends_with("attn.k.bias") { 0.0 } else { 1e-9 };
            assert!(
                grad.iter().all(|g| g.is_finite()) && grad.iter().any(|g| g.abs() >= expected),
                "{}: {name}",
                config.name
            );
        }
    }
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    const STEP: f64 = 1e-6;
    for mut config in families() {
        config.embed.dropout = 0.2; // masks depend on the pass alone, so slopes exist
        for parts in residuals(&mut config) {
            parts.dropout = 0.3;
        }
        let model = lively(&config, DType::F64);
        let (tokens, targets) = batch(config.vocab);
        let loss = || {
            model.loss(tokens.view(), targets.view(), &mut Pass::train(3, 5)).unwrap().mean.item().unwrap()
        };
        for (name, grad) in gradients(&model, tokens.view(), targets.view(), &mut Pass::train(3, 5)).unwrap()
        {
            let grad = grad.unwrap();
            let param = params(&model).into_iter().find(|(n, _)| *n == name).unwrap().1;
            let value = param.value().unwrap().to_array::<f64>().unwrap();
            let scale = grad.iter().fold(1e-3f64, |s, g| s.max(g.abs()));
            // Three elements of each parameter, the largest gradient among them.
            let top = grad.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap().0;
            for i in [0, grad.len() / 2, top] {
                let moved = |by: f64| {
                    let mut value = value.clone();
                    value.as_slice_mut().unwrap()[i] += by;
                    param.set(&Tensor::from_array(value).unwrap()).unwrap();
                    loss()
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let found = grad.as_slice().unwrap()[i];
                assert!(
                    (slope - found).abs() <= 1e-5 * scale,
                    "{}: {name}[{i}]: slope {slope}, gradient {found}",
                    config.name
                );
            }
            param.set(&Tensor::from_array(value).unwrap()).unwrap();
        }
    }
}

#[test]
fn one_and_two_threads_train_to_the_same_bits() {
    /// Large enough that the arithmetic is shared out.
    const LARGE: Small = Small { dim: 48, head_dim: 8, hidden: 190, vocab: 509, context: 61, ..SMALL };
    for config in families().map(|config| shrunk(config, LARGE)) {
        let train = |threads: usize| {
            with_threads(threads, || {
                let model = lively(&config, DType::F32);
                let mut adamw = AdamW::<f32>::new(&model, 0.01);
                let tokens = ids(3, 60, config.vocab);
                let (tokens, targets) = (tokens.slice(s![.., ..59]), tokens.slice(s![.., 1..]));
                for _ in 0..3 {
                    adamw.step(&model, tokens, targets);
                }
                params(&model).into_iter().map(|(_, p)| bits(&p.value().unwrap())).collect::<Vec<_>>()
            })
        };
        assert!(train(1) == train(2), "{}", config.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
    for config in families() {
        let drawn = |seed: u64| {
            let model = config.build(&Seed::new(seed)).unwrap();
            params(&model).into_iter().map(|(_, p)| bits(&p.value().unwrap())).collect::<Vec<_>>()
        };
        assert!(drawn(3) == drawn(3), "{}", config.name);
        let differ = drawn(3).iter().zip(drawn(4)).filter(|(a, b)| **a != *b).count();
        let matrices =
            params(&config.build(&Outline).unwrap()).iter().filter(|(_, p)| p.shape().rank() == 2).count();
        assert_eq!(differ, matrices, "{}: all but gains and biases differ", config.name);
    }
}

#[test]
fn parameters_are_drawn_as_the_config_says() {
    let model = gpt2().build(&Seed::new(5).dtype(DType::F64)).unwrap();
    for (name, param) in params(&model) {
        let value = param.value().unwrap().to_vec::<f64>().unwrap();
        let mean = value.iter().sum::<f64>() / value.len() as f64;
        let std = (value.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / value.len() as f64).sqrt();
        let expected = match name.as_str() {
            "embed.position.weight" => 0.01,
            name if name.ends_with("o.weight") || name.ends_with("down.weight") => 0.02 / 4f64.sqrt(), // 2 · 2 layers
            name if name.ends_with("norm.weight") => {
                assert_eq!((mean, std), (1.0, 0.0), "{name}");
                continue;
            }
            name if name.ends_with("bias") => {
                assert_eq!((mean, std), (0.0, 0.0), "{name}");
                continue;
            }
            _ => 0.02,
        };
        // Several hundred draws: the deviation is known to some 4%, five of which are never passed.
        assert!((std / expected - 1.0).abs() < 0.2 && mean.abs() < 0.2 * expected, "{name}: {mean} ± {std}");
    }
}

#[test]
fn dropout_acts_in_training_alone_and_its_masks_come_from_seed_and_step() {
    let mut config = llama();
    config.embed.dropout = 0.2;
    residuals(&mut config).for_each(|parts| parts.dropout = 0.2);
    attentions(&mut config).for_each(|attn| attn.dropout = 0.2);
    let model = lively(&config, DType::F32);
    let (tokens, targets) = batch(config.vocab);
    let loss =
        |pass: &mut Pass<'_>| model.loss(tokens.view(), targets.view(), pass).unwrap().mean.item().unwrap();
    let (still, first) = (loss(&mut Pass::infer()), loss(&mut Pass::train(1, 2)));
    assert_eq!(loss(&mut Pass::infer()), still);
    assert_eq!(loss(&mut Pass::train(1, 2)), first);
    let others = [loss(&mut Pass::train(1, 3)), loss(&mut Pass::train(2, 2)), still];
    assert!(others.iter().all(|&other| other != first), "{first} among {others:?}");
}

#[test]
fn a_cancelled_pass_stops_at_the_next_block() {
    struct Cancel<'a>(&'a AtomicBool, Vec<String>);
    impl Tap for Cancel<'_> {
        fn see(&mut self, site: &Site, what: &str, _: &Tensor) {
            if what == "output" {
                self.1.push(site.path.to_string());
                self.0.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }
    let model = lively(&gpt2(), DType::F32);
    let flag = AtomicBool::new(false);
    let mut tap = Cancel(&flag, Vec::new());
    let error = model
        .hidden(ids(1, 3, 37).view(), &mut Pass::infer().tapped(&mut tap).cancelled_by(&flag))
        .unwrap_err();
    assert!(matches!(error.kind(), Kind::Cancelled));
    assert_eq!((error.path().as_str(), tap.1), ("blocks.1", vec!["blocks.0".to_owned()]));
}

#[test]
fn weights_can_be_replaced_and_a_tied_head_follows_its_table() {
    let mut model = lively(&gpt2(), DType::F64);
    let before = crate::common::logits(&model, ids(1, 3, 37).view(), &mut Pass::infer());
    let (mut seen, double) = (Vec::new(), lively(&gpt2(), DType::F64));
    let twice = params(&double)[0].1.clone();
    twice.set(&twice.value().unwrap().scale(2.0).unwrap()).unwrap();
    weights_mut(&mut model, &mut |name, weight| {
        seen.push(name.to_owned());
        if name == "embed.tokens.weight" {
            *weight = std::sync::Arc::new(twice.clone());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(seen.iter().filter(|name| name.starts_with("blocks.1.")).count(), 6);
    let after = crate::common::logits(&model, ids(1, 3, 37).view(), &mut Pass::infer());
    assert!(crate::common::distance(&after, &before, 1.0) > 1e-3);
    assert!(std::ptr::eq(model.head(), &*model.embed.tokens.weight));
    let _held = model.blocks[0].module.clone();
    let error = weights_mut(&mut model, &mut |_, _| Ok(())).unwrap_err().to_string();
    assert!(error.starts_with("blocks.0: the layer is still"), "{error}");
}

/// The whole of it in one sentence: a small model learns a small text by heart.
#[test]
fn a_small_model_learns_a_text_by_heart() {
    for config in families() {
        let model = config.build(&Seed::new(1)).unwrap();
        let mut adamw = AdamW::<f32>::new(&model, 0.01);
        let (tokens, targets) = batch(config.vocab);
        let first = adamw.step(&model, tokens.view(), targets.view())[0];
        let last = (0..60).map(|_| adamw.step(&model, tokens.view(), targets.view())[0]).last().unwrap();
        assert!(first > 3.0 && last < 1.0, "{}: {first} to {last}", config.name);
    }
}

#[test]
fn a_model_can_stand_behind_the_trait_objects() {
    let model: Box<dyn TokenModel> = Box::new(lively(&llama(), DType::F32));
    let module: &dyn Module = &*model;
    assert_eq!(params(module).len(), 2 + 1 + 2 * 9);
}
