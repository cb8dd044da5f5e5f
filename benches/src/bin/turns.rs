//! Formwork's side of kernels that are compared with another program in turns: a job a line in, a result a line out.
//!
//! ```text
//! roofline                             {"f32_gflops": 231.0, ..}
//! matmul f32 nt 1024 3072 768          {"value": 203.4, "unit": "Gflop/s"}
//! linear bf16 1024 3072 768            {"value": 402.0, "unit": "Gflop/s"}
//! linear-step f32 1024 3072 768        {"value": 198.0, "unit": "Gflop/s"}
//! attention 12 64 1024                 {"value": 61.5, "unit": "ms"}
//! adamw 124000000                      {"value": 31.0, "unit": "GB/s"}
//! ```
//!
//! `matmul` is `x·Wᵀ`, `dy·W` or `dyᵀ·x` of plain matrices; `linear` has its weight in a type of storage, packed before;
//! `linear-step` is all three products of a layer in training. Sizes are rows, outputs, inputs. A turn repeats its job
//! for about half a second and gives the median. The thread count is the first argument, all cores without it.
#![forbid(unsafe_code)]

use std::{
    io::{self, BufRead, Write as _},
    time::Instant,
};

use formwork::{
    Error, Pass, Result, Scope, Seed, Tensor, Variable, Weight,
    attention::{Attend, Row},
    kernels::{
        Write,
        adamw::{AdamW, Moments, adamw},
        blocks::Format,
        isa,
        matmul::{Mat, MatMut, matmul},
        roofline::Roofline,
        team,
    },
    module::{Blocks, Init, Mask, Precision},
    quant::{Quantised, encode},
    tensor::{Buffer, Pool, Shape},
    with_threads,
};
use formwork_benches::numbers;
use serde_json::{Value, json};

fn main() -> io::Result<()> {
    let threads =
        std::env::args().nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(team::threads).max(1);
    with_threads(threads, || {
        for line in io::stdin().lock().lines() {
            let line = line?;
            let words: Vec<_> = line.split_whitespace().collect();
            let answer = run(&words).unwrap_or_else(|error| json!({"error": error.to_string()}));
            let mut out = io::stdout().lock();
            writeln!(out, "{answer}")?;
            out.flush()?;
        }
        Ok(())
    })
}

fn run(words: &[&str]) -> Result<Value> {
    match *words {
        ["roofline"] => Ok(roofline()),
        ["matmul", "f32", turn, m, n, k] => {
            let sizes = [number(m)?, number(n)?, number(k)?];
            Ok(speed(product(turn, sizes)?, 2.0 * volume(sizes)))
        }
        ["linear", stored, m, n, k] => {
            let sizes = [number(m)?, number(n)?, number(k)?];
            Ok(speed(linear(stored, sizes)?, 2.0 * volume(sizes)))
        }
        ["linear-step", precision, m, n, k] => {
            let sizes = [number(m)?, number(n)?, number(k)?];
            Ok(speed(linear_step(precision, sizes)?, 6.0 * volume(sizes)))
        }
        ["attention", heads, width, context] => {
            let seconds = attention([number(heads)?, number(width)?, number(context)?])?;
            Ok(json!({"value": 1e3 * seconds, "unit": "ms"}))
        }
        ["adamw", parameters] => {
            let parameters = number(parameters)?;
            Ok(json!({"value": 28e-9 * parameters as f64 / optimiser(parameters), "unit": "GB/s"}))
        }
        _ => Err(Error::invalid("job", "one of those in the head of this program", words.join(" "))),
    }
}

fn number(word: &str) -> Result<usize> {
    word.parse().map_err(|_| Error::invalid("job", "a number", word))
}

fn volume(sizes: [usize; 3]) -> f64 {
    sizes.iter().map(|&size| size as f64).product()
}

fn speed(seconds: f64, operations: f64) -> Value {
    json!({"value": operations / seconds / 1e9, "unit": "Gflop/s"})
}

fn roofline() -> Value {
    let found = Roofline::measure(team::threads());
    json!({
        "kernels": isa::current().name(),
        "threads": found.threads,
        "clock_ghz": found.clock.map(|clock| clock / 1e9),
        "f32_gflops": found.f32_ops / 1e9,
        "bf16_gflops": found.bf16_ops / 1e9,
        "int8_gops": found.int8_ops / 1e9,
        "read_gb_s": found.read_bytes / 1e9,
        "triad_gb_s": found.triad_bytes / 1e9,
    })
}

/// The median of the seconds that `work` takes, over half a second and at least three times after a first.
fn median(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (start, mut seconds) = (Instant::now(), Vec::new());
    while seconds.len() < 3 || start.elapsed().as_secs_f64() < 0.5 {
        let begin = Instant::now();
        work()?;
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn product(turn: &str, [m, n, k]: [usize; 3]) -> Result<f64> {
    let (a, b, mut y) = (numbers(m * k, 1), numbers(n * k, 2), vec![0.0; m * n]);
    let (a, b) = match turn {
        "nt" => (Mat::row_major(&a, m, k), Mat::row_major(&b, n, k).transposed()),
        "nn" => (Mat::row_major(&a, m, k), Mat::row_major(&b, k, n)),
        "tn" => (Mat::row_major(&a, k, m).transposed(), Mat::row_major(&b, k, n)),
        _ => return Err(Error::invalid("job", "one of nt, nn, tn", turn)),
    };
    median(|| {
        matmul(MatMut::row_major(&mut y, m, n), a, b, 1.0, Write::Store);
        Ok(())
    })
}

/// A tensor in memory that is used again, as that of a model's activations is, and so is all that is computed from it.
fn pooled(pool: &Pool, dims: &[usize], seed: u32) -> Result<Tensor> {
    let shape = Shape::new(dims)?;
    let mut memory = Buffer::new(shape.len(), Some(pool));
    memory.copy_from_slice(&numbers(shape.len(), seed));
    Tensor::from_buffer::<f32>(memory, &shape)
}

fn linear(stored: &str, [m, n, k]: [usize; 3]) -> Result<f64> {
    let Some(format) = Format::from_name(stored) else {
        return Err(Error::invalid("job", "a block format", stored));
    };
    let bytes = encode(format, &numbers(n * k, 2), k)?.bytes;
    let weight = Quantised::new(Blocks::new("weight", [n, k], format, bytes)?);
    let x = pooled(&Pool::new(), &[m, k], 1)?;
    median(|| weight.apply(&x, None, &mut Pass::infer()).map(drop))
}

fn linear_step(precision: &str, [m, n, k]: [usize; 3]) -> Result<f64> {
    let precision = match precision {
        "f32" => Precision::Full,
        "bf16" => Precision::Bf16,
        other => return Err(Error::invalid("job", "f32 or bf16", other)),
    };
    let source = Seed::new(1);
    let weight = Scope::root(&source).param("weight", &[n, k], Init::Normal { std: 0.02 })?;
    let x = Variable::new(pooled(&Pool::new(), &[m, k], 1)?);
    median(|| {
        let mut pass = Pass::train(1, 1).in_precision(precision);
        weight.apply(&x.tensor(), None, &mut pass)?.backward()?;
        weight.clear_grad();
        x.clear();
        Ok(())
    })
}

fn attention([h, e, t]: [usize; 3]) -> Result<f64> {
    let pool = Pool::new();
    let part = |seed| Ok::<_, Error>(Variable::new(pooled(&pool, &[1, t, h, e], seed)?));
    let (q, k, v) = (part(1)?, part(2)?, part(3)?);
    median(|| {
        let attend = Attend {
            rows: vec![Row::whole(t, t)].into(),
            mask: Mask::Causal,
            scale: 1.0 / (e as f64).sqrt(),
            dropout: None,
        };
        attend.run([&q.tensor(), &k.tensor(), &v.tensor()], None)?.backward()?;
        [&q, &k, &v].into_iter().for_each(Variable::clear);
        Ok(())
    })
}

fn optimiser(parameters: usize) -> f64 {
    let (mut p, grads) = (vec![0.5_f32; parameters], vec![1e-3_f32; parameters]);
    let (mut m, mut v) = (vec![1e-3_f32; parameters], vec![1e-6_f32; parameters]);
    let mut step = 0;
    let work = || {
        step += 1;
        let rule =
            AdamW { lr: 1e-4, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, step, grad_scale: 1.0 };
        adamw(&rule, &mut p, &grads, Moments { m: &mut m, v: &mut v });
        Ok(())
    };
    median(work).unwrap_or(f64::NAN)
}
