//! Every part alone: its gradients against finite differences in f64, and that it is what its formula says.

mod common;

use common::{check_module, numbers};
use formwork::{
    Activation, Builder, DType, Linear, ModelConfig, Module, Pass, Result, Scope, Seed, Tensor, children,
    module::Init,
};
use outside_crate::{CONFIG, Distances, Lora, LoraConfig, ReluSquared, hooks};

fn seed() -> Seed {
    Seed::new(5).dtype(DType::F64)
}

#[test]
fn gradients_are_the_slopes() -> Result<()> {
    let model = Builder::new(ModelConfig::from_json(CONFIG)?).hooks(&hooks()).build(&seed())?;
    let x = numbers(1.0, &[2, 5, 24], 1.0)?;
    check_module("dyt", &**model.norm.as_ref().expect("the config has one"), &x)?;
    for (name, block) in ["alibi and relu_squared", "distances", "parallel"].iter().zip(&model.blocks) {
        check_module(name, &*block.module, &x)?;
    }

    let source = seed();
    let distances = Distances::build(&Scope::root(&source), [6, 3, 7], [Init::Normal { std: 0.5 }; 2])?;
    check_module("distances alone", &distances, &numbers(2.0, &[2, 7, 6], 1.0)?)
}

#[test]
fn a_low_rank_weight_has_the_gradients_of_its_correction() -> Result<()> {
    #[derive(Debug)]
    struct Layer {
        linear: Linear,
    }
    impl Module for Layer {
        fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
            self.linear.forward(x, pass)
        }
        children!(linear);
    }
    let source = seed();
    let mut layer = Layer { linear: Linear::new(&Scope::root(&source).child("linear"), 5, 7)? };
    let lora = LoraConfig { rank: 2, alpha: 3.0, targets: vec!["linear".into()] };
    assert_eq!(Lora::adapt(&mut layer, &source, &lora)?, 1);
    let x = numbers(3.0, &[2, 3, 7], 1.0)?;
    check_module("lora", &layer, &x)?;

    // Its three ways to be read are one matrix.
    let pass = &mut Pass::infer();
    let weight = &layer.linear.weight;
    let dense = weight.to_dense(pass)?; // [5, 7]
    let check = |name: &str, found: Tensor, expected: Tensor| -> Result<()> {
        let difference = found.sub(&expected)?.to_vec::<f64>()?;
        assert!(difference.iter().all(|d| d.abs() < 1e-14), "{name}: {difference:?}");
        Ok(())
    };
    check("apply", weight.apply(&x, None, pass)?, x.linear(&dense, None)?)?;
    check("gather", weight.gather(&[4, 0, 2, 2], &[2, 2], pass)?, dense.gather(&[4, 0, 2, 2], &[2, 2])?)
}

#[test]
fn a_squared_rectifier_is_gated_by_default() -> Result<()> {
    let (gate, up) = (numbers(1.0, &[3, 5], 1.0)?, numbers(2.0, &[3, 5], 1.0)?);
    let found = ReluSquared.gated(&gate, &up)?.to_vec::<f64>()?;
    for ((found, gate), up) in found.iter().zip(gate.to_vec::<f64>()?).zip(up.to_vec::<f64>()?) {
        assert_eq!(*found, gate.max(0.0) * gate.max(0.0) * up);
    }
    Ok(())
}
