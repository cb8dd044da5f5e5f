//! Whole modules in blocks: what is replaced and what is not, what is held, and adapters that learn around them.

use std::sync::Arc;

use formwork_kernels::{blocks::Format, team::with_threads};
use formwork_module::{
    Embedding, Held, Init, Linear, Module, Param, Pass, Precision, Result, Scope, Seed, Tensor, Tied, Visit,
    Weight, children, held, params, weights_mut,
};
use formwork_quant::{Recipe, Role, quantise, weight};
use formwork_tensor::DType;
use formwork_testkit::{F32, F64, SLOPE, assert_close, normals, tensor};

/// Token table, two layers and a head: tokens `[t]` to logits `[t, vocab]`.
#[derive(Debug)]
struct Small {
    tokens: Embedding,
    up: Linear,
    down: Linear,
    head: Linear,
}

const VOCAB: usize = 17;
const DIM: usize = 64;
const HIDDEN: usize = 96;

impl Small {
    fn new(seed: u64, dtype: DType) -> Result<Self> {
        let source = Seed::new(seed).dtype(dtype);
        let scope = Scope::root(&source);
        let tokens = Embedding::new(&scope.child("tokens"), VOCAB, DIM, Init::Normal { std: 1.0 })?;
        let up = scope.child("up");
        let up = Linear::new(&up, HIDDEN, DIM)?.biased(&up)?;
        let down = Linear::new(&scope.child("down"), DIM, HIDDEN)?;
        let head = Linear::new(&scope.child("head"), VOCAB, DIM)?;
        Ok(Self { tokens, up, down, head })
    }

    /// The same with the token table as the head.
    fn tied(seed: u64) -> Result<Self> {
        let mut small = Self::new(seed, DType::F32)?;
        let (_, table) = params(&small).remove(0);
        small.head.weight = Arc::new(Tied::new(&table)?);
        Ok(small)
    }

    fn logits(&self, ids: &[u32], pass: &mut Pass<'_>) -> Result<Tensor> {
        let x = self.tokens.lookup(ids, &[ids.len()], pass)?;
        let hidden = self.up.forward(&x, pass)?.tanh()?;
        self.head.forward(&x.add(&self.down.forward(&hidden, pass)?)?, pass)
    }
}

impl Module for Small {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.down.forward(&self.up.forward(x, pass)?.tanh()?, pass)
    }
    children!(tokens, up, down, head);
}

/// `W + b·a`, with a frozen `W` of any layout.
#[derive(Debug)]
struct Adapter {
    base: Arc<dyn Weight>,
    a: Param,
    b: Param,
}

impl Weight for Adapter {
    fn shape(&self) -> [usize; 2] {
        self.base.shape()
    }
    fn apply(&self, x: &Tensor, bias: Option<&Tensor>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let low = x.linear(&pass.take(&self.a)?, None)?;
        self.base.apply(x, bias, pass)?.add(&low.linear(&pass.take(&self.b)?, None)?)
    }
    fn gather(&self, ids: &[u32], dims: &[usize], pass: &mut Pass<'_>) -> Result<Tensor> {
        self.base.gather(ids, dims, pass)
    }
    fn to_dense(&self, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.base.to_dense(pass)?.add(&pass.take(&self.b)?.matmul(&pass.take(&self.a)?)?)
    }
    fn visit(&self, name: &str, v: &mut dyn Visit) {
        self.base.visit(name, v);
        v.param("a", &self.a);
        v.param("b", &self.b);
    }
}

/// Puts adapters of rank 3 around every weight of a linear layer.
fn adapt(model: &mut Small, dtype: DType) -> Result<()> {
    let source = Seed::new(9).dtype(dtype);
    let scope = Scope::root(&source);
    weights_mut(model, &mut |name, weight| {
        if name == "tokens.weight" {
            return Ok(());
        }
        let ([out, inp], at) = (weight.shape(), scope.child(name));
        let a = at.param("a", &[3, inp], Init::Normal { std: 0.1 })?;
        let b = at.param("b", &[out, 3], Init::Normal { std: 0.1 })?;
        *weight = Arc::new(Adapter { base: weight.clone(), a, b });
        Ok(())
    })
}

fn all(format: Format) -> impl Fn(&str, [usize; 2]) -> Option<Format> {
    move |_, shape| Recipe::new(format).pure().format(Role::Matrix, shape)
}

fn block_bytes(model: &Small) -> usize {
    let each = held(model).into_iter().filter_map(|(_, held)| match held {
        Held::Blocks(blocks) => Some(blocks.bytes().len()),
        Held::Param(_) => None,
    });
    each.sum()
}

const IDS: [u32; 5] = [3, 16, 0, 3, 8];

#[test]
fn a_quantised_model_computes_what_its_decoded_weights_say() {
    for format in [Format::F16, Format::Q8_0, Format::Q4_1, Format::Q5_0] {
        let mut model = Small::new(1, DType::F32).unwrap();
        let report = quantise(&mut model, &all(format)).unwrap();
        assert_eq!(report.tensors.len(), 4);
        let full = || Pass::infer().in_precision(Precision::Full);
        let found = model.logits(&IDS, &mut full()).unwrap();
        // The same numbers in parameters of a dense model.
        let dense = Small::new(2, DType::F32).unwrap();
        for ((name, to), (same, from)) in held(&dense).iter().zip(held(&model)) {
            assert_eq!(*name, same);
            let (Held::Param(to), value) = (to, value(&from)) else { panic!("{name} is dense") };
            to.set(&value).unwrap();
        }
        let expected = dense.logits(&IDS, &mut full()).unwrap();
        assert_close(&found, &expected, F32, format.name());
    }
}

fn value(held: &Held) -> Tensor {
    match held {
        Held::Param(param) => param.value().expect("a model with numbers"),
        Held::Blocks(blocks) => {
            let dense = formwork_quant::Quantised::new(blocks.clone()).to_dense(&mut Pass::infer());
            dense.expect("blocks are checked when they are made")
        }
    }
}

#[test]
fn weights_are_held_once_and_biases_stay() {
    let mut model = Small::new(1, DType::F32).unwrap();
    let recipe = Recipe::new(Format::Q4_0);
    let report = quantise(&mut model, &|name, shape| {
        recipe.format(if name == "head.weight" { Role::Head } else { Role::Matrix }, shape)
    })
    .unwrap();
    let names: Vec<_> = held(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["tokens.weight", "up.weight", "up.bias", "down.weight", "head.weight"]);
    let learn: Vec<_> = params(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(learn, ["up.bias"]);
    // 18 bytes for 32 numbers of 4 bits, 34 for the head's 8 bits.
    let expected = (VOCAB * DIM + 2 * DIM * HIDDEN) / 32 * 18 + VOCAB * DIM / 32 * 34;
    assert_eq!((block_bytes(&model), report.bytes()), (expected, expected));
    assert!(report.tensors.iter().all(|t| t.error.relative < 0.15 && t.error.relative > 1e-4), "{report}");
    assert!(
        (report.bits() - 8.0 * expected as f64 / (2 * VOCAB * DIM + 2 * DIM * HIDDEN) as f64).abs() < 1e-12
    );
}

#[test]
fn a_tied_head_follows_its_table() {
    let mut model = Small::tied(1).unwrap();
    let report = quantise(&mut model, &all(Format::Q8_0)).unwrap();
    assert_eq!(report.tensors.len(), 3, "the table once");
    assert_eq!(block_bytes(&model), (VOCAB * DIM + 2 * DIM * HIDDEN) / 32 * 34);
    let mut pass = Pass::infer();
    let (table, head) = (model.tokens.weight.to_dense(&mut pass), model.head.weight.to_dense(&mut pass));
    assert_eq!(table.unwrap().to_vec::<f32>().unwrap(), head.unwrap().to_vec::<f32>().unwrap());
    model.logits(&IDS, &mut pass).unwrap();
    // A table that stays keeps its head as it is.
    let mut model = Small::tied(1).unwrap();
    let kept = quantise(&mut model, &|name, shape| {
        all(Format::Q8_0)(name, shape).filter(|_| name != "tokens.weight")
    });
    assert_eq!(kept.unwrap().kept, ["tokens.weight"]);
    assert!(model.head.weight.to_dense(&mut Pass::train(0, 0)).unwrap().is_tracked());
}

#[test]
fn one_parameter_in_two_places_is_encoded_once() {
    let mut model = Small::new(1, DType::F32).unwrap();
    let (_, table) = params(&model).remove(0);
    model.head.weight = Arc::new(table);
    let report = quantise(&mut model, &all(Format::Q4_1)).unwrap();
    assert_eq!(
        report.tensors.iter().map(|t| t.path.as_str()).collect::<Vec<_>>(),
        ["tokens.weight", "up.weight", "down.weight"]
    );
    let held = held(&model);
    let (Held::Blocks(a), Held::Blocks(b)) = (&held[0].1, &held[4].1) else { panic!("both in blocks") };
    assert!(std::ptr::eq(a.bytes(), b.bytes()));
}

#[test]
fn adapters_and_blocks_stay_as_they_are() {
    let mut model = Small::new(1, DType::F32).unwrap();
    quantise(&mut model, &|name, _| (name == "up.weight").then_some(Format::Q4_0)).unwrap();
    adapt(&mut model, DType::F32).unwrap();
    let report = quantise(&mut model, &all(Format::Q8_0)).unwrap();
    assert_eq!(report.kept, ["up.weight", "down.weight", "head.weight"]);
    assert_eq!(report.tensors.len(), 1, "the token table");
}

#[test]
fn what_cannot_be_quantised_is_refused_by_name_before_anything_is_replaced() {
    let refuse = |model: &mut Small, format: Format, words: &str| {
        let error = quantise(model, &|_, _| Some(format)).unwrap_err().to_string();
        assert_eq!(error, words);
        assert_eq!(params(model).len(), 5, "nothing is replaced");
    };
    let mut model = Small::new(1, DType::F32).unwrap();
    refuse(
        &mut model,
        Format::Q4_K,
        "tokens.weight: quantise: expected rows of a multiple of 256 numbers for q4_k, found 64; take q5_0, which fits",
    );
    let mut numbers = params(&model)[3].1.value().unwrap().to_vec::<f32>().unwrap();
    numbers[2 * HIDDEN + 5] = f32::NEG_INFINITY;
    params(&model)[3].1.set(&Tensor::from_vec(numbers, &[DIM, HIDDEN]).unwrap()).unwrap();
    refuse(&mut model, Format::Q8_0, "down.weight: element [2, 5] is not finite");
}

#[test]
fn a_model_without_numbers_is_refused() {
    let scope = Scope::root(&formwork_module::Outline);
    let mut layer = Linear::new(&scope.child("up"), 3, 32).unwrap();
    let error = quantise(&mut layer, &all(Format::Q8_0)).unwrap_err().to_string();
    assert!(error.starts_with("weight: missing the numbers of up.weight"), "{error}");
}

/// Σ of the logits with fixed factors, as a loss to take gradients of.
fn loss(model: &Small, pass: &mut Pass<'_>) -> Result<Tensor> {
    let logits = model.logits(&IDS, pass)?;
    logits.mul(&tensor(&normals(8, &[IDS.len(), VOCAB]), logits.dtype(), None))?.tanh()?.sum()
}

#[test]
fn gradients_of_adapters_flow_through_frozen_blocks() {
    let mut model = Small::new(1, DType::F64).unwrap();
    quantise(&mut model, &all(Format::Q5_1)).unwrap();
    adapt(&mut model, DType::F64).unwrap();
    let learn = params(&model);
    assert_eq!(learn.len(), 7, "two for each adapter, and the bias");
    loss(&model, &mut Pass::train(0, 0)).unwrap().backward().unwrap();
    for (name, param) in &learn {
        let grad = param.grad().unwrap_or_else(|| panic!("{name} got no gradient")).to_vec::<f64>().unwrap();
        let start = param.value().unwrap();
        let at = grad.len() / 2;
        let moved = |step: f64| {
            let mut numbers = start.to_vec::<f64>().unwrap();
            numbers[at] += step;
            param.set(&Tensor::from_vec(numbers, start.shape()).unwrap()).unwrap();
            loss(&model, &mut Pass::infer()).unwrap().item().unwrap()
        };
        let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        param.set(&start).unwrap();
        assert!(
            (slope - grad[at]).abs() < SLOPE * slope.abs().max(0.1),
            "{name}: {slope}, gradient {}",
            grad[at]
        );
    }
}

#[test]
fn an_adapter_learns_around_frozen_blocks() {
    let mut model = Small::new(1, DType::F32).unwrap();
    quantise(&mut model, &all(Format::Q4_0)).unwrap();
    adapt(&mut model, DType::F32).unwrap();
    let bytes = |model: &Small| -> Vec<Vec<u8>> {
        let blocks = |held| match held {
            Held::Blocks(blocks) => Some(blocks.bytes().to_vec()),
            Held::Param(_) => None,
        };
        held(model).into_iter().filter_map(|(_, held)| blocks(held)).collect()
    };
    let before = bytes(&model);
    let mut losses = Vec::new();
    for step in 0..40 {
        let loss = loss(&model, &mut Pass::train(0, step)).unwrap();
        losses.push(loss.item().unwrap());
        loss.backward().unwrap();
        for (_, param) in params(&model) {
            let next = param.value().unwrap().add(&param.grad().unwrap().scale(-0.02).unwrap()).unwrap();
            param.set(&next.detached()).unwrap();
            param.clear_grad();
        }
    }
    // From about 0 towards the least that 85 terms in (−1, 1) can have.
    assert!(losses[39] < losses[0] - 20.0, "{losses:?}");
    assert_eq!(bytes(&model), before);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let run = |threads| {
        with_threads(threads, || {
            let mut model = Small::new(1, DType::F32).unwrap();
            quantise(&mut model, &all(Format::Q4_1)).unwrap();
            adapt(&mut model, DType::F32).unwrap();
            loss(&model, &mut Pass::train(0, 0)).unwrap().backward().unwrap();
            let logits = model.logits(&IDS, &mut Pass::infer()).unwrap().to_vec::<f32>().unwrap();
            let grads =
                params(&model).into_iter().flat_map(|(_, p)| p.grad().unwrap().to_vec::<f32>().unwrap());
            logits.into_iter().chain(grads).map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    assert!(run(1) == run(2));
}

#[test]
fn weights_of_a_file_compute_in_the_type_of_their_input_and_without_rows() {
    // 1 at the first of 32 places of each row: y = the first number of x.
    let mut row = vec![0x00, 0x3c, 1];
    row.resize(34, 0);
    let w = weight("up.weight", [2, 32], Format::Q8_0, row.repeat(2)).unwrap();
    let mut pass = Pass::infer();
    let x = tensor(&normals(1, &[3, 32]), DType::F64, None);
    let y = w.apply(&x, None, &mut pass).unwrap();
    let first = x.narrow(1, 0, 1).unwrap().expand(&[3, 2]).unwrap();
    assert_close(&y, &first, F64, "the first number");
    let none = w.apply(&Tensor::zeros(&[0, 5, 32], DType::F32, None).unwrap(), None, &mut pass).unwrap();
    assert_eq!(**none.shape(), [0, 5, 2]);
    let error = weight("up.weight", [2, 33], Format::Q8_0, vec![0; 68]).unwrap_err().to_string();
    assert_eq!(error, "up.weight: blocks: expected rows of a multiple of 32 numbers for q8_0, found [2, 33]");
    let error = weight("up.weight", [2, 32], Format::Q8_0, vec![0; 67]).unwrap_err().to_string();
    assert_eq!(error, "up.weight: blocks: expected 2 rows of 34 bytes for [2, 32] in q8_0, found 67 bytes");
}
