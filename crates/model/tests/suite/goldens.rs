//! The exact answers of the reference implementation: see `tests/golden/README.md`.

use formwork_formats::SafeTensors;
use formwork_model::{
    HeadConfig, ModelConfig, Result, Transformer,
    module::{DType, Given, Pass, Positions, Rows, Source, Spec, Tensor, TokenModel, params},
    norm::NormConfig,
    position::PositionConfig,
    presets,
};
use formwork_tensor::Scalar;
use ndarray::{Array2, ArrayD, IxDyn, s};

use crate::common::{
    self, AdamW, Small, attentions, close, distance, gradients, largest, logits, residuals, shrunk,
};

/// Of the largest number, in f32: twenty times what the reference's own f32 model is off by.
const F32: f64 = 2e-5;
/// Of the largest number, in f64: sums of some thousand terms, rounded at 1e-16 each, through ten steps of training.
const F64: f64 = 1e-10;

const GOLDENS: [&str; 3] = ["gpt2", "llama-gqa", "llama-mha-tied"];

#[derive(Debug)]
struct Golden {
    name: &'static str,
    file: SafeTensors,
    config: ModelConfig,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let file = SafeTensors::open(path).unwrap();
        let facts: serde_json::Value = serde_json::from_str(&file.metadata()["config"]).unwrap();
        let size = |field: &str| facts[field].as_u64().unwrap() as usize;
        let small = Small {
            layers: size("layers"),
            dim: size("dim"),
            heads: size("heads"),
            kv_heads: size("kv_heads"),
            head_dim: size("head_dim"),
            hidden: size("hidden"),
            vocab: size("vocab"),
            context: size("context"),
        };
        let mut config = match facts["family"].as_str() {
            Some("gpt2") => shrunk(presets::gpt2_small(), small),
            _ => shrunk(presets::llama1_7b(), small),
        };
        config.embed.dropout = 0.0;
        config.head = if facts["tied"] == true { HeadConfig::Tied {} } else { HeadConfig::Untied {} };
        let eps = |norm: &mut NormConfig| match norm {
            NormConfig::Layer(norm) => norm.eps = facts["eps"].as_f64().unwrap(),
            NormConfig::Rms(norm) => norm.eps = facts["eps"].as_f64().unwrap(),
            _ => unreachable!("these presets have no other"),
        };
        config.norm.iter_mut().for_each(eps);
        for parts in residuals(&mut config) {
            parts.dropout = 0.0;
            [&mut parts.attn_norm, &mut parts.ffn_norm].into_iter().for_each(eps);
        }
        for attn in attentions(&mut config) {
            attn.dropout = 0.0;
            if let PositionConfig::Rope(rope) = &mut attn.position {
                rope.theta = facts["theta"].as_f64().unwrap();
            }
        }
        Self { name, file, config }
    }

    fn model(&self, dtype: DType) -> Transformer {
        self.config.build(&Stored { golden: self, dtype }).unwrap()
    }

    fn array(&self, name: &str) -> ArrayD<f64> {
        let entry = self.file.entry(name).unwrap_or_else(|| panic!("{}: no {name}", self.name));
        ArrayD::from_shape_vec(IxDyn(entry.shape()), entry.to_f64().unwrap()).unwrap()
    }

    fn ids(&self, name: &str) -> Array2<u32> {
        let entry = self.file.entry(name).unwrap();
        let [b, t] = match *entry.shape() {
            [t] => [1, t],
            [b, t] => [b, t],
            _ => panic!("{name} is neither a row nor a batch"),
        };
        Array2::from_shape_vec((b, t), entry.to_i64().unwrap().into_iter().map(|id| id as u32).collect())
            .unwrap()
    }
}

/// The golden as the source of a model.
#[derive(Debug)]
struct Stored<'a> {
    golden: &'a Golden,
    dtype: DType,
}

impl Source for Stored<'_> {
    fn param(&self, path: &str, spec: &Spec) -> Result<Given> {
        let array = self.golden.array(&format!("model.{path}"));
        assert_eq!(array.shape(), &spec.shape[..], "{path}");
        let value = match self.dtype {
            DType::F64 => Tensor::from_array(array)?,
            _ => Tensor::from_array(array.mapv(|x| x as f32))?,
        };
        Ok(Given { value: Some(value), stored: self.dtype.into() })
    }
}

/// Runs `check` on every golden in both types of numbers.
fn each(check: impl Fn(&Golden, &Transformer, f64, &str)) {
    for name in GOLDENS {
        let golden = Golden::open(name);
        for (dtype, tolerance) in [(DType::F32, F32), (DType::F64, F64)] {
            check(&golden, &golden.model(dtype), tolerance, &format!("{name} in {dtype}"));
        }
    }
}

#[test]
fn a_model_has_the_parameters_of_its_golden() {
    for name in GOLDENS {
        let golden = Golden::open(name);
        let mut stored: Vec<_> = golden
            .file
            .entries()
            .iter()
            .filter_map(|entry| entry.name().strip_prefix("model."))
            .map(str::to_owned)
            .collect();
        let mut ours: Vec<_> = params(&golden.model(DType::F32)).into_iter().map(|(name, _)| name).collect();
        stored.sort();
        ours.sort();
        assert_eq!(ours, stored, "{name}");
    }
}

#[test]
fn logits_are_those_of_the_reference() {
    each(|golden, model, tolerance, what| {
        let found = logits(model, golden.ids("tokens").view(), &mut Pass::infer());
        close(&found, &golden.array("logits"), tolerance, what);
    });
}

#[test]
fn the_loss_and_every_gradient_are_those_of_the_reference() {
    each(|golden, model, tolerance, what| {
        let (tokens, targets) = (golden.ids("tokens"), golden.ids("targets"));
        let loss = model.loss(tokens.view(), targets.view(), &mut Pass::infer()).unwrap();
        let expected = golden.array("loss")[0];
        assert_eq!(loss.count, tokens.len());
        let off = (loss.mean.item().unwrap() - expected).abs() / expected;
        assert!(off <= tolerance, "{what}: loss off by {off:.2e}");

        let found = gradients(model, tokens.view(), targets.view(), &mut Pass::train(1, 0)).unwrap();
        let expected: Vec<_> = found.iter().map(|(name, _)| golden.array(&format!("grad.{name}"))).collect();
        let scale = expected.iter().map(largest).fold(0.0, f64::max);
        for ((name, found), expected) in found.iter().zip(&expected) {
            let found = found.as_ref().unwrap_or_else(|| panic!("{what}: {name} got no gradient"));
            // The softmax does not see a bias on all keys: its gradient is 0 and what is stored is rounding.
            let scale = if name.ends_with("attn.k.bias") { scale } else { largest(expected) };
            let off = distance(found, expected, scale);
            assert!(off <= tolerance, "{what}: gradient of {name} off by {off:.2e} of the largest");
        }
    });
}

#[test]
fn ten_steps_of_adamw_end_where_the_reference_ends() {
    fn check<T: Scalar>(name: &'static str, tolerance: f64) {
        let golden = Golden::open(name);
        let model = golden.model(T::DTYPE);
        let mut adamw = AdamW::<T>::new(&model, 0.003);
        let (tokens, targets) = (golden.ids("tokens"), golden.ids("targets"));
        let (losses, norms) = (golden.array("losses"), golden.array("grad_norms"));
        for step in 0..10 {
            let [loss, norm] = adamw.step(&model, tokens.view(), targets.view());
            for (what, found, expected) in [("loss", loss, losses[step]), ("norm", norm, norms[step])] {
                let off = (found - expected).abs() / expected;
                assert!(off <= tolerance, "{name} in {}: {what} of step {step} off by {off:.2e}", T::DTYPE);
            }
        }
        for (parameter, param) in params(&model) {
            // In f32 the rounding that is this gradient is of the size of AdamW's eps, and steps anywhere.
            if parameter.ends_with("attn.k.bias") && T::DTYPE == DType::F32 {
                continue;
            }
            let expected = golden.array(&format!("after10.{parameter}"));
            close(
                &common::numbers(&param.value().unwrap()),
                &expected,
                tolerance,
                format!("{name} in {}: {parameter}", T::DTYPE),
            );
        }
    }
    for name in GOLDENS {
        check::<f32>(name, F32);
        check::<f64>(name, F64);
    }
}

#[test]
fn padded_batches_are_those_of_the_reference() {
    each(|golden, model, tolerance, what| {
        for side in ["padded", "padded_right"] {
            let tokens = golden.ids(&format!("{side}.tokens"));
            let mask: Vec<Vec<bool>> = golden
                .ids(&format!("{side}.mask"))
                .outer_iter()
                .map(|row| row.iter().map(|&real| real == 1).collect())
                .collect();
            let rows = Rows::from_mask(mask.iter().map(Vec::as_slice)).unwrap();
            let found = logits(model, tokens.view(), &mut Pass::infer().rows(rows));
            let expected = golden.array(&format!("{side}.logits"));
            let scale = largest(&expected);
            for ((row, i), _) in tokens.indexed_iter().filter(|&((row, i), _)| mask[row][i]) {
                let [found, expected] =
                    [&found, &expected].map(|all| all.slice(s![row, i, ..]).to_owned().into_dyn());
                let off = distance(&found, &expected, scale);
                assert!(off <= tolerance, "{what}: {side} row {row} token {i} off by {off:.2e}");
            }
        }
    });
}

#[test]
fn greedy_continuation_is_that_of_the_reference_with_and_without_a_cache() {
    each(|golden, model, _, what| {
        let (prompt, expected) = (golden.ids("greedy.prompt"), golden.ids("greedy.ids"));
        let best = |model: &Transformer, tokens: &[u32], pass: &mut Pass<'_>| {
            let tokens = Array2::from_shape_vec((1, tokens.len()), tokens.to_vec()).unwrap();
            let last = common::numbers(&model.logits(tokens.view(), Positions::Last, pass).unwrap());
            last.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32
        };
        let (mut whole, mut cached) = (prompt.row(0).to_vec(), prompt.row(0).to_vec());
        let mut cache = model.cache(1, golden.config.context);
        let mut fresh = 0;
        for _ in 0..expected.len() {
            whole.push(best(model, &whole, &mut Pass::infer()));
            let next = best(model, &cached[fresh..], &mut Pass::infer().cached(&mut cache));
            fresh = cached.len();
            cached.push(next);
        }
        assert_eq!(whole[prompt.len()..], *expected.as_slice().unwrap(), "{what} without a cache");
        assert_eq!(cached, whole, "{what} with a cache");
    });
}
