//! What the builder sees to besides the parts themselves.

use std::sync::{Arc, Mutex};

use formwork_model::{
    Builder, Error, ModelConfig, Result,
    module::{
        self, Acts, Given, Linear, Module, Pass, Position, Scope, Seed, Source, Spec, Tensor, Visit,
        VisitMut, children, config::Custom, params,
    },
    position::PositionConfig,
};
use serde_json::{Value, json};

use crate::common::{attentions, families, gpt2, llama};

#[test]
fn the_outline_lists_the_parameters_of_the_model() {
    for config in families() {
        let outline = formwork_model::Outline::of(&Builder::new(config.clone())).unwrap();
        let model = config.build(&Seed::new(1)).unwrap();
        let listed: Vec<_> = outline.lines.iter().map(|line| (line.name.clone(), line.shape)).collect();
        let built: Vec<_> =
            params(&model).into_iter().map(|(name, param)| (name, *param.value().unwrap().shape())).collect();
        assert_eq!(listed, built, "{}", config.name);
        assert_eq!(model.config(), &config);
    }
}

#[test]
fn a_refusal_of_the_source_arrives_with_the_parameter_s_name() {
    #[derive(Debug)]
    struct Lacking;
    impl Source for Lacking {
        fn param(&self, path: &str, spec: &Spec) -> Result<Given> {
            match path {
                "blocks.1.ffn.up.weight" => Err(Error::missing("a tensor of this name")),
                _ => module::Outline.param(path, spec),
            }
        }
    }
    let error = llama().build(&Lacking).unwrap_err().to_string();
    assert_eq!(error, "blocks.1.ffn.up.weight: missing a tensor of this name");
}

/// A position encoding that counts how often it is built.
#[derive(Debug)]
struct Far(usize);

impl Position for Far {
    fn acts(&self) -> Acts {
        Acts::Scores
    }
    fn limit(&self) -> Option<usize> {
        Some(self.0)
    }
}

fn custom(name: &str, params: Value) -> Custom {
    Custom { name: name.to_owned(), params }
}

#[test]
fn a_hook_is_told_its_place() {
    let mut config = llama();
    for attn in attentions(&mut config) {
        attn.position = PositionConfig::Custom(custom("far", json!({"reach": 19})));
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let builder = Builder::new(config).with_position("far", move |place| {
        let facts = (
            place.scope.path().to_owned(),
            place.layer,
            place.dim,
            place.context,
            place.heads.map(|h| (h.heads, h.kv_heads)),
        );
        told.lock().unwrap().push(facts);
        Ok(Far(place.params["reach"].as_u64().unwrap() as usize))
    });
    builder.build(&module::Outline).unwrap();
    let expected = |i: usize| (format!("blocks.{i}.attn.position"), Some(i), 4, 19, Some((6, 2)));
    assert_eq!(*seen.lock().unwrap(), [expected(0), expected(1)]);
}

#[test]
fn a_missing_hook_is_named_with_the_nearest() {
    let mut config = llama();
    attentions(&mut config)
        .for_each(|attn| attn.position = PositionConfig::Custom(custom("alibi", Value::Null)));
    let error = config.build(&module::Outline).unwrap_err().to_string();
    assert_eq!(
        error,
        "blocks.0.attn.position: name: expected a hook `alibi` of Builder::with_position, found none; give the builder .with_position(\"alibi\", ..)"
    );
    let error = Builder::new(config)
        .with_position("alibbi", |_| Ok(Far(99)))
        .build(&module::Outline)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("found alibbi; did you mean `alibbi`?"), "{error}");
}

#[test]
fn an_encoding_that_ends_before_the_context_is_refused_wherever_it_comes_from() {
    let mut config = llama();
    attentions(&mut config)
        .for_each(|attn| attn.position = PositionConfig::Custom(custom("far", Value::Null)));
    let error = Builder::new(config)
        .with_position("far", |_| Ok(Far(18)))
        .build(&module::Outline)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(
            "blocks.0.attn.position: context, position: expected an encoding that reaches context 19"
        ),
        "{error}"
    );
}

#[test]
fn params_that_the_hook_cannot_read_are_named() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Reach {
        reach: usize,
    }
    let mut config = llama();
    attentions(&mut config)
        .for_each(|attn| attn.position = PositionConfig::Custom(custom("far", json!({"raech": 19}))));
    let error = Builder::new(config)
        .with_position("far", |place| Ok(Far(place.read::<Reach>()?.reach)))
        .build(&module::Outline);
    let error = error.unwrap_err().to_string();
    assert_eq!(
        error,
        "blocks.0.attn.position.params: raech: expected one of the fields reach, found an unknown one; did you mean `reach`?"
    );
}

/// A feed-forward layer that hides one of its parameters.
#[derive(Debug)]
struct Forgetful {
    shown: Linear,
    hidden: Linear,
}

impl Module for Forgetful {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.hidden.forward(&self.shown.forward(x, pass)?, pass)
    }
    children!(shown);
}

#[test]
fn a_part_that_hides_a_parameter_is_refused() {
    let mut config: ModelConfig = gpt2();
    for parts in crate::common::residuals(&mut config) {
        parts.ffn = formwork_model::FeedForwardConfig::Custom(custom("forgetful", Value::Null));
    }
    let error = Builder::new(config)
        .with_feedforward("forgetful", |place| {
            let linear = |scope: &Scope<'_>| Linear::new(scope, place.dim, place.dim);
            Ok(Forgetful {
                shown: linear(&place.scope.child("shown"))?,
                hidden: linear(&place.scope.child("hidden"))?,
            })
        })
        .build(&module::Outline)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("visit: expected `blocks.0.ffn.hidden.weight`, which was built next, found `blocks.1.attn_norm.weight`"), "{error}");
}

#[test]
fn layers_that_share_an_encoding_can_be_walked_and_changed() {
    #[derive(Default)]
    struct Count(usize);
    impl Visit for Count {
        fn enter(&mut self, name: &str) {
            self.0 += usize::from(name == "position");
        }
        fn leave(&mut self) {}
        fn param(&mut self, _: &str, _: &module::Param) {}
        fn blocks(&mut self, _: &str, _: &module::Blocks) {}
    }
    /// Nothing is replaced; that the walk succeeds is the point.
    struct Walk;
    impl VisitMut for Walk {
        fn enter(&mut self, _: &str) {}
        fn leave(&mut self) {}
        fn param(&mut self, _: &str, _: &mut module::Param) -> Result<()> {
            Ok(())
        }
        fn weight(&mut self, _: &str, _: &mut std::sync::Arc<dyn module::Weight>) -> Result<()> {
            Ok(())
        }
    }
    let mut model = llama().build(&module::Outline).unwrap();
    model.visit_mut(&mut Walk).unwrap();
    let mut count = Count::default();
    model.visit(&mut count);
    assert_eq!(count.0, 3, "embed and two layers");
}
