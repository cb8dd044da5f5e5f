//! A quantised LLaMA, read and written.

use std::{fs::File, io::BufRead, time::Instant};

use candle_core::{Device, Result, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_llama::ModelWeights;
use serde_json::json;

/// Answers lines of input.
pub fn serve(path: &str) -> Result<()> {
    let mut file = File::open(path)?;
    let content = gguf_file::Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    for line in std::io::stdin().lock().lines() {
        let is_prefill = line?.trim() == "prefill";
        run(&mut model, is_prefill)?;
        let begin = Instant::now();
        let tokens = run(&mut model, is_prefill)?;
        let value = tokens as f64 / begin.elapsed().as_secs_f64();
        println!("{}", json!({"name": "candle 0.11", "value": value}));
    }
    Ok(())
}

/// A text at position 0 empties the cache.
fn run(model: &mut ModelWeights, is_prefill: bool) -> Result<usize> {
    let id = |i: usize| (i * 7919 % 32000) as u32;
    if is_prefill {
        let ids: Vec<u32> = (0..512).map(id).collect();
        model.forward(&Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?, 0)?.to_vec2::<f32>()?;
        return Ok(512);
    }
    for position in 0..128 {
        let ids = Tensor::new(&[id(position)], &Device::Cpu)?.unsqueeze(0)?;
        model.forward(&ids, position)?.to_vec2::<f32>()?;
    }
    Ok(128)
}
