//! Candle's side: `candle-peer infer MODEL.gguf`, `candle-peer train`.
//!
//! `infer`: a line of input is `prefill` (512 tokens to the last logits) or `decode` (128 tokens into an empty cache); the
//! answer is `{"value": tokens per second}`. The model is that of candle's own example for quantised LLaMA files.
//!
//! `train`: every line is answered with `{"tok_s", "peak_gb"}` of a step of GPT-2 124M on 4 x 256 tokens, in f32.

mod infer;
mod train;

fn main() -> candle_core::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["infer", path] => infer::serve(path),
        ["train"] => train::serve(),
        _ => Err(candle_core::Error::msg("usage: candle-peer infer MODEL.gguf | candle-peer train")),
    }
}
