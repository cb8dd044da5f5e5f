//! A GPT-2 in one file, out of parts and without the builder, and the proof that it is the preset, number for number.
//! Run: cargo run --release --example build_gpt_by_hand [-- --tiny]

use std::{error::Error, sync::Arc};

use formwork::{
    At, Module, Norm, Pass, Position, Positions, Result, Scope, Seed, Tensor, TokenModel, Weight,
    activation::GeluTanh,
    attention::{self, Attention, Biases},
    children,
    feedforward::{self, Mlp},
    module::{Bias, Embedding, Init, Sequence, Tied},
    norm::{LayerConfig, LayerNorm},
    params,
    position::{Learned, LearnedConfig, NoPosition, Place},
    presets,
};
use ndarray::{Array2, ArrayView2};

/// `h = x + attn(attn_norm(x)); y = h + ffn(ffn_norm(h))`. The field names are the parameters' names.
#[derive(Debug)]
struct Block {
    attn_norm: LayerNorm,
    attn: Attention,
    ffn_norm: LayerNorm,
    ffn: Mlp,
}

impl Module for Block {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let a = self.attn.forward(&self.attn_norm.forward(x, pass)?, pass).at("attn")?; // [b, t, d]
        let (h, normed) = self.ffn_norm.add_norm(x, &a, pass)?; // x + a and its norm, in one pass over memory
        h.add_scaled(&self.ffn.forward(&normed, pass).at("ffn")?, 1.0) // [b, t, d]
    }
    children!(attn_norm, attn, ffn_norm, ffn);
}

#[derive(Debug)]
struct Embed {
    tokens: Embedding,
    position: Learned,
}

impl Embed {
    children!(tokens, position);
}

#[derive(Debug)]
struct Gpt {
    embed: Embed,
    blocks: Sequence,
    norm: LayerNorm,
    head: Tied,
    context: usize,
}

impl Gpt {
    fn new(scope: &Scope<'_>, [vocab, context, dim, heads, layers]: [usize; 5]) -> Result<Self> {
        let init = Init::Normal { std: 0.02 };
        let residual_init = Init::Normal { std: 0.02 / (2.0 * layers as f64).sqrt() };
        let norm = LayerConfig { eps: 1e-5, bias: Bias::Learned };
        let plain = attention::Settings::new(dim, heads);
        let attn = attention::Settings { bias: Biases::All, init, residual_init, ..plain };
        let plain = feedforward::Settings::new(dim, 4 * dim);
        let ffn = feedforward::Settings { bias: Bias::Learned, init, residual_init, ..plain };
        let table = scope.child("embed.tokens").param("weight", &[vocab, dim], init)?;
        let (head, tokens) = (Tied::new(&table)?, Embedding { weight: Arc::new(table) });
        let place = Place { heads: None, dim, context, init: Init::Normal { std: 0.01 } };
        let position = Learned::new(&scope.child("embed.position"), &place, &LearnedConfig::default())?;
        let blocks = Sequence::new(layers, |i| {
            let scope = scope.child("blocks").child(i);
            Ok(Block {
                attn_norm: LayerNorm::new(&scope.child("attn_norm"), dim, &norm)?,
                attn: Attention::new(&scope.child("attn"), &attn, Arc::new(NoPosition))?,
                ffn_norm: LayerNorm::new(&scope.child("ffn_norm"), dim, &norm)?,
                ffn: Mlp::new(&scope.child("ffn"), &ffn, Box::new(GeluTanh {}))?,
            })
        })?;
        let norm = LayerNorm::new(&scope.child("norm"), dim, &norm)?;
        Ok(Self { embed: Embed { tokens, position }, blocks, norm, head, context })
    }
}

impl Module for Gpt {
    fn forward(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.norm.forward(&self.blocks.forward(x, pass).at("blocks")?, pass).at("norm") // [b, t, d]
    }
    children!(embed, blocks, norm);
}

#[rustfmt::skip] // one line where one says it
impl TokenModel for Gpt {
    fn vocab(&self) -> usize { self.head.shape()[0] }
    fn context(&self) -> Option<usize> { Some(self.context) }
    fn head(&self) -> &dyn Weight { &self.head }
    fn embed(&self, tokens: ArrayView2<'_, u32>, pass: &mut Pass<'_>) -> Result<Tensor> {
        let ids: Vec<u32> = tokens.iter().copied().collect();
        self.embed.position.embed(&self.embed.tokens.lookup(&ids, tokens.shape(), pass)?, pass) // [b, t, d]
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let mut config = presets::gpt2_small();
    if formwork_examples::Options::from_args()?.tiny {
        (config.vocab, config.context) = (211, 64);
        config.blocks.truncate(2);
    }
    let size = [config.vocab, config.context, config.dim, 12, config.blocks.len()];
    let (ours, preset) = (Gpt::new(&Scope::root(&Seed::new(1)), size)?, config.build(&Seed::new(1))?);
    let shapes = |m: &dyn Module| params(m).iter().map(|(n, p)| (n.clone(), *p.shape())).collect::<Vec<_>>();
    assert_eq!(shapes(&ours), shapes(&preset), "the same names, shapes and order");
    let tokens = Array2::from_shape_fn((2, 11), |(row, i)| (row * 83 + i * 37) as u32 % config.vocab as u32);
    let logits = |model: &dyn TokenModel| -> Result<Vec<f32>> {
        model.logits(tokens.view(), Positions::All, &mut Pass::infer())?.to_vec() // [b, t, n]
    };
    assert_eq!(logits(&ours)?, logits(&preset)?, "the same numbers, to the bit");
    let count: usize = shapes(&ours).iter().map(|(_, shape)| shape.len()).sum();
    println!("{count} parameters: by hand and by preset the same names, shapes, order and logits");
    Ok(())
}
