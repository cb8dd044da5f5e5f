//! GPT-2 124M, written with candle's own layers: a step of AdamW with clipping at 1.

use std::{io::BufRead, time::Instant};

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::{
    AdamW, Init, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, loss::cross_entropy, ops,
};
use serde_json::json;

const WIDTH: usize = 768;
const HEADS: usize = 12;
const LAYERS: usize = 12;
const VOCAB: usize = 50257;
const CONTEXT: usize = 1024;
const ROWS: usize = 4;
const LENGTH: usize = 256;

struct Norm {
    gain: Tensor,
    bias: Tensor,
}

impl Norm {
    fn new(at: VarBuilder) -> Result<Self> {
        Ok(Self {
            gain: at.get_with_hints(WIDTH, "weight", Init::Const(1.0))?,
            bias: at.get_with_hints(WIDTH, "bias", Init::Const(0.0))?,
        })
    }

    /// Of the two that candle has, the one with a gradient.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(x, &self.gain, &self.bias, 1e-5)
    }
}

struct Layer {
    norms: [Norm; 2],
    qkv: candle_nn::Linear,
    out: candle_nn::Linear,
    up: candle_nn::Linear,
    down: candle_nn::Linear,
}

impl Layer {
    fn new(at: VarBuilder) -> Result<Self> {
        Ok(Self {
            norms: [Norm::new(at.pp("norm1"))?, Norm::new(at.pp("norm2"))?],
            qkv: linear(WIDTH, 3 * WIDTH, at.pp("qkv"))?,
            out: linear(WIDTH, WIDTH, at.pp("out"))?,
            up: linear(WIDTH, 4 * WIDTH, at.pp("up"))?,
            down: linear(4 * WIDTH, WIDTH, at.pp("down"))?,
        })
    }

    fn forward(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (b, t, d) = x.dims3()?;
        let qkv = self.qkv.forward(&self.norms[0].forward(x)?)?.reshape((b, t, 3, HEADS, d / HEADS))?;
        let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let scores = (part(0)?.matmul(&part(1)?.t()?)? * ((d / HEADS) as f64).powf(-0.5))?;
        let mixed = ops::softmax(&scores.broadcast_add(mask)?, D::Minus1)?.matmul(&part(2)?)?;
        let x = (x + self.out.forward(&mixed.transpose(1, 2)?.reshape((b, t, d))?)?)?;
        &x + self.down.forward(&self.up.forward(&self.norms[1].forward(&x)?)?.gelu()?)?
    }
}

/// Answers lines of input.
pub fn serve() -> Result<()> {
    let device = Device::Cpu;
    let vars = VarMap::new();
    let at = VarBuilder::from_varmap(&vars, DType::F32, &device);
    let normal = Init::Randn { mean: 0.0, stdev: 0.02 };
    let tokens = at.get_with_hints((VOCAB, WIDTH), "tokens", normal)?;
    let positions = at.get_with_hints((CONTEXT, WIDTH), "positions", normal)?;
    let layers = (0..LAYERS).map(|i| Layer::new(at.pp(format!("layer{i}")))).collect::<Result<Vec<_>>>()?;
    let norm = Norm::new(at.pp("norm"))?;
    let mut optimizer =
        AdamW::new(vars.all_vars(), ParamsAdamW { lr: 1e-4, weight_decay: 0.0, ..Default::default() })?;

    let ids: Vec<u32> = (0..ROWS * LENGTH).map(|i| (i * 7919 % VOCAB) as u32).collect();
    let ids = Tensor::from_vec(ids, ROWS * LENGTH, &device)?;
    let mask: Vec<f32> = (0..LENGTH * LENGTH)
        .map(|at| if at % LENGTH > at / LENGTH { f32::NEG_INFINITY } else { 0.0 })
        .collect();
    let mask = Tensor::from_vec(mask, (LENGTH, LENGTH), &device)?;

    let mut step = || -> Result<()> {
        let x = tokens.embedding(&ids)?.reshape((ROWS, LENGTH, WIDTH))?;
        let mut x = x.broadcast_add(&positions.narrow(0, 0, LENGTH)?)?;
        for layer in &layers {
            x = layer.forward(&x, &mask)?;
        }
        let logits = norm.forward(&x)?.reshape((ROWS * LENGTH, WIDTH))?.matmul(&tokens.t()?)?;
        let mut grads = cross_entropy(&logits, &ids)?.backward()?;
        let mut square = 0.0;
        for var in vars.all_vars() {
            if let Some(grad) = grads.get(&var) {
                square += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let scale = (1.0 / (square.sqrt() + 1e-6)).min(1.0);
        for var in vars.all_vars() {
            if let Some(grad) = grads.remove(&var) {
                grads.insert(&var, (grad * scale)?);
            }
        }
        optimizer.step(&grads)
    };
    for line in std::io::stdin().lock().lines() {
        line?;
        step()?;
        let mut seconds = [0.0; 3];
        for seconds in &mut seconds {
            let begin = Instant::now();
            step()?;
            *seconds = begin.elapsed().as_secs_f64();
        }
        seconds.sort_by(f64::total_cmp);
        let tok_s = (ROWS * LENGTH) as f64 / seconds[1];
        println!("{}", json!({"name": "candle 0.11", "tok_s": tok_s, "peak_gb": peak_gb()}));
    }
    Ok(())
}

/// The most memory that the process has held; 0 where the system does not tell.
fn peak_gb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e9
}
