//! `formwork bench-train`: how long a training step takes, by phase, beside what the machine could do.
//!
//! A step is what [`Trainer`](formwork::train::Trainer) does: forward to the loss, backward, and the optimiser with the
//! norm of the gradient, clipping at 1 and AdamW. The head's logits are never all there, so their gradient is part of the
//! forward. Tokens are random, one batch again and again; two steps come first and do not count.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use clap::{Arg, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use formwork::{
    Builder, ModelConfig, Pass, Seed, TokenModel,
    kernels::{isa, roofline::Roofline},
    model::{Outline, TrainingMemory},
    params,
    recipes::{Memory, peak_memory},
    train::{AdamW, AdamWConfig, TrainPrecision, Update, group_by_rank},
    with_threads,
};
use ndarray::Array2;
use serde::Serialize;

use crate::{
    command::{
        bench_machine::{Machine, threads, threads_arg, tokens},
        json_flag, style, text,
    },
    failure::{Failure, Result},
    interrupt,
    number::binary,
    output::{Output, Progress, Style},
    subject,
    table::{Side, Table},
};

const EXAMPLES: &str = "\
The model is filled with random weights. bf16 is mixed precision: products in bf16, sums, weights, gradients and the
residual stream in f32. Dropout is on if the config has it.

With --json, the keys are forward_s, backward_s, optimiser_s (of the step whose total is the median), tok_s, peak_bytes
(the most memory of the process until then; null where the system does not tell), predicted_bytes (the peak of a step as
it is told before the first), threads, kernels (the instruction set), roofline, and model, precision, batch, seq,
parameters, steps_s (of every step), loss (before the first counted step and after the last).

Examples:
  formwork bench-train --model gpt2-small
  formwork bench-train --model mine.json --batch 4 --seq 256 --precision bf16 --steps 6 --json";

/// Steps before the clock counts.
const WARM_UP: usize = 2;

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    let number = |name: &'static str, value: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .default_value(default)
            .value_parser(value_parser!(u32).range(1..))
            .help(help)
    };
    let precision = PossibleValuesParser::new(["f32", "bf16"]);
    command
        .about("Measure the phases of a training step")
        .arg(
            Arg::new("model")
                .long("model")
                .value_name("PRESET|CONFIG")
                .required(true)
                .help("A preset's name, or a config file (.json, .toml)"),
        )
        .arg(number("batch", "B", "4", "Rows of a batch"))
        .arg(number("seq", "T", "256", "Tokens of a row"))
        .arg(
            Arg::new("precision")
                .long("precision")
                .value_name("TYPE")
                .default_value("f32")
                .value_parser(precision)
                .help("The numbers of products"),
        )
        .arg(number("steps", "N", "6", "Steps that are measured"))
        .arg(threads_arg())
        .arg(json_flag("Print a JSON object"))
        .after_help(EXAMPLES)
}

/// The result for a program.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    precision: &'a str,
    batch: usize,
    seq: usize,
    parameters: u64,
    forward_s: f64,
    backward_s: f64,
    optimiser_s: f64,
    tok_s: f64,
    steps_s: Vec<f64>,
    loss: [f64; 2],
    peak_bytes: Option<u64>,
    predicted_bytes: u64,
    threads: usize,
    kernels: &'static str,
    roofline: Machine,
}

/// What is to be measured.
struct Plan<'a> {
    name: &'a str,
    precision: &'a str,
    batch: usize,
    seq: usize,
    steps: usize,
    threads: usize,
}

/// The phases of one step, in seconds.
#[derive(Clone, Copy)]
struct Phases {
    forward: f64,
    backward: f64,
    optimiser: f64,
    loss: f64,
}

impl Phases {
    fn total(&self) -> f64 {
        self.forward + self.backward + self.optimiser
    }
}

/// Fills the model, and measures.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let number = |name: &str| *matches.get_one::<u32>(name).expect("it has a default") as usize;
    let plan = Plan {
        name: text(matches, "model"),
        precision: text(matches, "precision"),
        batch: number("batch"),
        seq: number("seq"),
        steps: number("steps"),
        threads: threads(matches),
    };
    let report = with_threads(plan.threads, || measure(&plan))?;
    match style(matches) {
        Style::Json => out.json(&report),
        Style::Text => show(&report, out),
    }
}

fn measure<'a>(plan: &Plan<'a>) -> Result<Report<'a>> {
    let config = subject::config(plan.name)?;
    let [parameters, predicted_bytes] = fits(&config, plan)?;
    let stop = interrupt::flag();
    let mut progress = Progress::new("bench-train");
    progress.show("the model");
    let model = config.build(&Seed::new(1)).map_err(|error| subject::located(plan.name, &error))?;
    let mut optimizer = AdamW::new(&params(&model), AdamWConfig::default(), &group_by_rank)?;
    let ids = tokens(plan.batch * (plan.seq + 1), model.vocab());
    let part = |from: usize| {
        Array2::from_shape_fn((plan.batch, plan.seq), |(row, i)| ids[row * (plan.seq + 1) + i + from])
    };
    let (inputs, targets) = (part(0), part(1));
    let precision = if plan.precision == "bf16" { TrainPrecision::Bf16 } else { TrainPrecision::F32 };

    let mut phases = Vec::new();
    for step in 0..WARM_UP + plan.steps {
        let begin = Instant::now();
        let seconds = |since: &Instant| since.elapsed().as_secs_f64();
        optimizer.clear_grads();
        let mut pass = Pass::train(1, step as u64).in_precision(precision.into()).cancelled_by(&stop);
        let loss = model.loss(inputs.view(), targets.view(), &mut pass);
        if stop.load(Relaxed) {
            return Err(Failure::failed(format_args!("stopped by Ctrl-C after {step} steps")));
        }
        let mean = loss?.mean;
        let value = mean.item()?;
        let forward = seconds(&begin);
        let begin = Instant::now();
        mean.backward()?;
        drop(mean);
        let backward = seconds(&begin);
        let begin = Instant::now();
        let norm = optimizer.grad_norm()?;
        optimizer.update(Update { lr: 1e-4, grad_scale: (1.0 / (norm + 1e-6)).min(1.0) })?;
        let found = Phases { forward, backward, optimiser: seconds(&begin), loss: value };
        progress.show(format_args!("step {} of {}: {:.3} s", step + 1, WARM_UP + plan.steps, found.total()));
        if step >= WARM_UP {
            phases.push(found);
        }
    }
    // Before the roofline, which takes memory of its own.
    let peak_bytes = peak_memory();
    progress.show("the machine");
    let loss = [phases[0].loss, phases[phases.len() - 1].loss];
    let steps_s = phases.iter().map(Phases::total).collect();
    phases.sort_by(|a, b| a.total().total_cmp(&b.total()));
    let median = phases[(phases.len() - 1) / 2];
    Ok(Report {
        model: plan.name,
        precision: plan.precision,
        batch: plan.batch,
        seq: plan.seq,
        parameters,
        forward_s: median.forward,
        backward_s: median.backward,
        optimiser_s: median.optimiser,
        tok_s: (plan.batch * plan.seq) as f64 / median.total(),
        steps_s,
        loss,
        peak_bytes,
        predicted_bytes,
        threads: plan.threads,
        kernels: isa::current().name(),
        roofline: Machine::from(&Roofline::measure(plan.threads)),
    })
}

/// The number of parameters of a model that can be trained here on rows of this length, and the bytes of a step.
fn fits(config: &ModelConfig, plan: &Plan<'_>) -> Result<[u64; 2]> {
    if plan.seq > config.context {
        return Err(Failure::failed(format_args!(
            "{}: expected rows of at most {} tokens, the context, found {}; choose less with --seq",
            plan.name, config.context, plan.seq
        )));
    }
    let builder = Builder::new(config.clone());
    let located = |error| subject::located(plan.name, &error);
    let parameters = Outline::of(&builder).map_err(located)?.parameters();
    let needed = TrainingMemory::of(&builder, [plan.batch, plan.seq]).map_err(located)?.peak();
    Memory::Available.holds(needed, "a training step", "choose a smaller model, --batch or --seq")?;
    Ok([parameters, needed])
}

fn show(report: &Report<'_>, out: &mut Output) -> Result<()> {
    let Report { model, precision, batch, seq, threads, kernels, .. } = report;
    out.line(format_args!("{model}, {batch} x {seq} tokens, {precision}, {threads} threads, {kernels}"))?;
    let mut table = Table::new([Side::Left, Side::Right]);
    let phases =
        [("forward", report.forward_s), ("backward", report.backward_s), ("optimiser", report.optimiser_s)];
    for (what, seconds) in phases {
        table.row([what.to_owned(), format!("{seconds:.4} s")]);
    }
    table.row(["speed".to_owned(), format!("{:.1} tok/s", report.tok_s)]);
    if let Some(bytes) = report.peak_bytes {
        table.row(["peak memory".to_owned(), binary(bytes)]);
    }
    table.row(["predicted".to_owned(), binary(report.predicted_bytes)]);
    let [first, last] = report.loss;
    table.row(["loss".to_owned(), format!("{first:.4} to {last:.4}")]);
    out.table(&table)?;
    out.section("roofline", &report.roofline.table())
}
