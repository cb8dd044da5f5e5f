//! The whole way: a config that names our parts, a seed, a gradient, AdamW, a file, the same bits, a text.

mod common;

use std::ops::ControlFlow;

use common::{check_loss, ids, model, recording};
use formwork::{
    Builder, ModelConfig, Module, Pass, Positions, Result, Rows, Seed, TokenModel,
    generate::{Choice, NoRepeat, Request, Sampler, Session},
    module::config,
    params, recipes,
    train::{Batch, Trainer},
    with_threads,
};
use ndarray::{Axis, s};
use outside_crate::{CONFIG, TopNSigma, hooks};
use serde_json::json;

fn single(seed: u64) -> Result<formwork::Transformer> {
    Builder::new(ModelConfig::from_json(CONFIG)?).hooks(&hooks()).build(&Seed::new(seed))
}

fn logits(model: &dyn TokenModel, rows: usize, len: usize) -> Result<Vec<f32>> {
    model.logits(ids(rows, len, 23).view(), Positions::All, &mut Pass::infer())?.to_vec()
}

#[test]
fn the_gradients_of_a_model_of_our_parts_are_the_slopes_of_its_loss() -> Result<()> {
    let model = model(3)?;
    let tokens = ids(2, 6, 23);
    let loss =
        || Ok(model.loss(tokens.slice(s![.., ..5]), tokens.slice(s![.., 1..]), &mut recording())?.mean);
    check_loss("whole", &model, &loss)
}

#[test]
fn a_model_of_our_parts_learns_and_is_the_same_when_it_is_loaded() -> Result<()> {
    let model = single(1)?;
    let settings =
        config::read(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 1e-2}, "clip": 1.0}))?;
    let mut trainer = Trainer::new(&model, settings)?;
    let tokens = ids(4, 30, 23);
    let batch = || Batch::new(tokens.slice(s![.., ..29]).to_owned(), tokens.slice(s![.., 1..]).to_owned());
    let first = trainer.step(&model, &[batch()])?.loss;
    for _ in 0..60 {
        trainer.step(&model, &[batch()])?;
    }
    let last = trainer.step(&model, &[batch()])?.loss;
    assert!(last < 0.5 * first, "from {first} to {last}");

    let folder = tempfile::tempdir().expect("a folder for the test");
    recipes::save(folder.path(), &model, None)?;
    let loaded = recipes::load_with(folder.path(), &hooks())?.model;
    assert_eq!(loaded.config(), model.config());
    assert_eq!(logits(&loaded, 3, 11)?, logits(&model, 3, 11)?);

    let refused = recipes::load(folder.path()).unwrap_err().to_string();
    assert!(
        refused.contains("blocks.0.attn_norm: name: expected a hook `dyt` of Builder::with_norm"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn cached_decoding_is_the_full_pass_at_every_split() -> Result<()> {
    let model = model(7)?;
    let tokens = ids(2, 11, 23);
    let full = model.logits(tokens.view(), Positions::All, &mut Pass::infer())?.to_vec::<f64>()?;
    for split in 1..11 {
        let mut cache = model.cache(2, 11);
        let parts = tokens.view().split_at(Axis(1), split);
        let mut found = Vec::new();
        for part in [parts.0, parts.1] {
            let logits = model.logits(part, Positions::All, &mut Pass::infer().cached(&mut cache))?; // [b, part, n]
            found.push(logits);
        }
        let found = formwork::Tensor::cat(&[&found[0], &found[1]], 1)?.to_vec::<f64>()?;
        let apart = found.iter().zip(&full).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-12, "split at {split}: {apart}");
    }
    Ok(())
}

#[test]
fn padding_and_threads_change_nothing() -> Result<()> {
    let model = model(11)?;
    let text = ids(1, 7, 23);
    let alone = model.logits(text.view(), Positions::Last, &mut Pass::infer())?.to_vec::<f64>()?; // [1, n]
    let mut padded = ids(2, 10, 23);
    padded.slice_mut(s![1, 3..]).assign(&text.row(0));
    let mut pass = Pass::infer().rows(Rows::left_padded(&[10, 7], 10)?);
    let batch = model.logits(padded.view(), Positions::Last, &mut pass)?.to_vec::<f64>()?; // [2, n]
    let apart = alone.iter().zip(&batch[23..]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < 1e-12, "{apart}");

    let model = single(2)?;
    let on = |threads| with_threads(threads, || logits(&model, 5, 17));
    assert_eq!(on(1)?, on(2)?);
    Ok(())
}

#[test]
fn our_processor_stands_in_the_chain_of_a_session() -> Result<()> {
    let model = single(4)?;
    let write = |sampler: Sampler| -> Result<Vec<Vec<u32>>> {
        let mut session = Session::new(&model, 2, 32)?;
        session.prompt(&[&[1, 2, 3], &[5]])?;
        let outputs = session.write(&Request::new(sampler), &mut [], |_| ControlFlow::Continue(()))?;
        Ok(outputs.into_iter().map(|output| output.ids).collect())
    };
    // No pair of tokens twice: what that forbids has a logit of −∞, which must not count as spread.
    let greedy = write(Sampler::greedy().with(NoRepeat::new(2)?))?;
    assert!(greedy.iter().all(|ids| ids.len() > 20), "{greedy:?}");
    let sample = |n: f64| {
        let sampler = Sampler::new(Choice::Sample { seed: 1 });
        write(sampler.with(NoRepeat::new(2)?).with(TopNSigma::new(n)?))
    };
    assert_eq!(sample(0.0)?, greedy, "only the best token is left to draw");
    assert_ne!(sample(3.0)?, greedy, "an untrained model finds many tokens likely");
    Ok(())
}

#[test]
fn what_is_wrong_in_a_config_is_named_where_it_stands() {
    let check = |from: &str, to: &str, message: &str| {
        let text = CONFIG.replacen(from, to, 1);
        assert_ne!(text, CONFIG, "{from}");
        let config = ModelConfig::from_json(&text);
        let error =
            config.and_then(|config| Builder::new(config).hooks(&hooks()).build(&Seed::new(1))).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    };
    check("\"dyt\"", "\"dty\"", "blocks.0.attn_norm: name: expected a hook `dty` of Builder::with_norm");
    check("\"alpha\"", "\"alfa\"", "blocks.0.attn_norm.params: alfa: expected one of the fields alpha");
    check("\"heads\": 4", "\"heads\": 5", "blocks.1.attn: distances: expected heads that divide 24, found 5");
    check("\"heads\": 2", "\"heads\": 5", "blocks.2");
    check(
        "\"name\": \"alibi\"",
        "\"name\": \"alibi\", \"params\": {\"slope\": 1}",
        "blocks.0.attn.position.params: slope",
    );
    let embed = "\"embed\": {\"position\": {\"kind\": \"custom\", \"name\": \"alibi\"}}, \"blocks\"";
    check("\"blocks\"", embed, "embed.position: ");
}

#[test]
fn a_model_shows_its_parameters_in_the_order_of_its_config() -> Result<()> {
    let model = single(1)?;
    let names: Vec<_> = params(&model as &dyn Module).into_iter().map(|(name, _)| name).collect();
    let second: Vec<_> = names.iter().filter_map(|name| name.strip_prefix("blocks.1.attn.")).collect();
    assert_eq!(second, ["distances", "v.weight", "o.weight"]);
    let third: Vec<_> = names.iter().filter_map(|name| name.strip_prefix("blocks.2.")).collect();
    assert_eq!(third[0], "norm.weight");
    assert_eq!(third[1..3], ["attn.q.weight", "attn.k.weight"]);
    assert_eq!(third[third.len() - 1], "ffn.down.weight");
    Ok(())
}
