//! A model that no builder made is trained, judged, saved and generated from like any other.

mod common;

use std::ops::ControlFlow;

use common::{check_loss, ids, recording, stir};
use formwork::{
    DType, Result, Scope, Seed, Source, TokenModel, checkpoint,
    formats::Archive,
    generate::{Request, Sampler, Session},
    module::config,
    params,
    recipes::{self, Plan},
    train::{Tokens, Trainer, Window, evaluate},
};
use outside_crate::Echo;
use serde_json::json;

fn echo(source: &dyn Source) -> Result<Echo> {
    Echo::new(&Scope::root(source), [7, 12, 24])
}

#[test]
fn it_learns_to_repeat_what_stands_five_tokens_back() -> Result<()> {
    let model = echo(&Seed::new(1))?;
    let text = Tokens::new([3, 1, 4, 1, 5].repeat(60)).split(0.8)?;
    let window = Window { rows: 4, length: 20 };
    let settings = config::read(json!({"seed": 1, "schedule": {"kind": "constant", "lr": 2e-2}}))?;
    let before = evaluate(&model, &text.held_out, window)?.nats;
    let mut trainer = Trainer::new(&model, settings)?;
    recipes::fit(&model, &mut trainer, &text, &Plan::new(150, window), None, &mut |_| {
        ControlFlow::Continue(())
    })?;
    let after = evaluate(&model, &text.held_out, window)?.nats;
    assert!(after < 0.2 * before, "from {before} to {after}");

    let archive = Archive::from_bytes(checkpoint::to_bytes(&params(&model), checkpoint::Keep::Exact)?);
    let loaded = checkpoint::load(&archive.expect("just written"), echo)?;
    let again = evaluate(&loaded, &text.held_out, window)?.nats;
    assert_eq!(again.to_bits(), after.to_bits());

    let mut session = Session::new(&loaded, 1, 24)?;
    session.prompt(&[&[3, 1, 4, 1, 5, 3, 1, 4, 1, 5]])?;
    let request = Request { max_tokens: 10, ..Request::new(Sampler::greedy()) };
    let written = session.write(&request, &mut [], |_| ControlFlow::Continue(()))?;
    assert_eq!(written[0].ids, [3, 1, 4, 1, 5, 3, 1, 4, 1, 5]);
    Ok(())
}

#[test]
fn its_gradients_are_the_slopes_of_its_loss() -> Result<()> {
    let model = echo(&Seed::new(2).dtype(DType::F64))?;
    stir(&model)?;
    let (tokens, targets) = (ids(2, 5, 7), ids(2, 5, 5));
    check_loss("echo", &model, &|| Ok(model.loss(tokens.view(), targets.view(), &mut recording())?.mean))
}
