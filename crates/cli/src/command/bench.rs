//! `formwork bench`: how fast a model reads and writes, beside what the machine could do.
//!
//! Reading is the time from a prompt in hand to the logits behind it, on an empty cache. Writing is a token at a time
//! into an empty cache, as `llama-bench` does it: random tokens, logits each time, no sampling. Some runs of each come
//! first and do not count, since they pack weights and take memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use clap::{Arg, ArgMatches, Command, value_parser};
use formwork::{
    TokenModel, Transformer,
    generate::Session,
    kernels::{isa, roofline::Roofline},
    module::{CacheType, Precision},
    recipes::StoredType,
    with_threads,
};
use serde::Serialize;

use crate::{
    command::{
        bench_machine::{Machine, median, threads, threads_arg, tokens},
        bench_random::{bytes_per_token, main_type, model},
        json_flag, style, text,
    },
    failure::{Failure, Result},
    interrupt,
    number::binary,
    output::{Output, Progress, Style},
    settings::{cache_arg, cache_type, precision, precision_arg},
    table::{Side, Table},
};

/// Runs that come first: the first product of few rows reads weights as they are in the file, the second packs them.
const WARM_UP: usize = 2;

const EXAMPLES: &str = "\
A preset or a config is filled with random weights, which take the time of any others. --weights is f32 or the name of
a block format, such as bf16, q8_0 or q4_k; without it, weights are as a GGUF file has them, and f32 otherwise.
--cache-type is how the keys and values of earlier tokens are stored. -p 0 or -n 0 leaves a part out. The roofline is
what this machine did in the same minute at most: multiply-adds in registers, and bytes from memory.

With --json, the keys are model, weights, cache (how it stores), precision, threads, kernels (the instruction set), prefill and
decode (each with tokens, tok_s of every repetition and their median), bytes_per_token (of weights that a written token
reads) and roofline (clock_ghz, f32_gflops, bf16_gflops, int8_gops, read_gb_s, triad_gb_s).

Examples:
  formwork bench --model smollm2.gguf
  formwork bench --model smollm2.gguf -p 0 -n 2000 --cache-type bf16
  formwork bench --model smollm2-135m --weights q4_0 -p 512 -n 128 -r 5 --threads 2 --json";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    let number = |name: &'static str, short: char, default: &'static str, help: &'static str| {
        Arg::new(name)
            .short(short)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u32))
            .help(help)
    };
    command
        .about("Measure how fast a model reads a prompt and writes tokens")
        .arg(model_or_preset())
        .arg(number("prompt-tokens", 'p', "512", "Tokens of the prompt that is read"))
        .arg(number("new-tokens", 'n', "128", "Tokens that are written"))
        .arg(
            number("repetitions", 'r', "5", "How often each is measured")
                .value_parser(value_parser!(u32).range(1..)),
        )
        .arg(threads_arg())
        .arg(
            Arg::new("weights")
                .long("weights")
                .value_name("TYPE")
                .help("The type of the matrices [default: as they are]"),
        )
        .arg(cache_arg())
        .arg(precision_arg("as_stored"))
        .arg(json_flag("Print a JSON object"))
        .after_help(EXAMPLES)
}

fn model_or_preset() -> Arg {
    Arg::new("model").long("model").value_name("MODEL|PRESET").required(true).help(
        "A model's folder or GGUF file; or a preset or a config (.json, .toml), filled with random weights",
    )
}

/// The result for a program.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    weights: &'static str,
    cache: CacheType,
    precision: Precision,
    threads: usize,
    kernels: &'static str,
    prefill: Measured,
    decode: Measured,
    bytes_per_token: u64,
    roofline: Machine,
}

/// One part.
#[derive(Serialize)]
struct Measured {
    tokens: usize,
    tok_s: Vec<f64>,
    /// Null where nothing was measured.
    median: Option<f64>,
}

/// What is to be measured.
struct Plan {
    prompt: usize,
    new: usize,
    repetitions: usize,
    cache: CacheType,
    precision: Precision,
}

/// Loads or fills the model, and measures.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let name = text(matches, "model");
    let number = |name: &str| *matches.get_one::<u32>(name).expect("it has a default") as usize;
    let plan = Plan {
        prompt: number("prompt-tokens"),
        new: number("new-tokens"),
        repetitions: number("repetitions"),
        cache: cache_type(matches).unwrap_or_default(),
        precision: precision(matches).unwrap_or_default(),
    };
    if plan.prompt == 0 && plan.new == 0 {
        return Err(Failure::usage("-p and -n: expected tokens to read or to write, found 0 of both"));
    }
    let weights = matches.get_one::<String>("weights").map(|word| word.parse::<StoredType>());
    let weights = weights.transpose().map_err(|error| Failure::usage(format_args!("--weights: {error}")))?;
    let threads = threads(matches);
    let report = with_threads(threads, || measure(name, weights, threads, &plan))?;
    match style(matches) {
        Style::Json => out.json(&report),
        Style::Text => show(&report, out),
    }
}

fn measure<'a>(
    name: &'a str,
    weights: Option<StoredType>,
    threads: usize,
    plan: &Plan,
) -> Result<Report<'a>> {
    let stop = interrupt::flag();
    let mut progress = Progress::new("bench");
    progress.show("the model");
    let model = model(name, weights)?;
    if let Some(context) = model.context().filter(|&context| plan.prompt.max(plan.new) > context) {
        return Err(Failure::failed(format_args!(
            "{name}: expected at most {context} tokens, the context, found {}; choose less with -p or -n",
            plan.prompt.max(plan.new)
        )));
    }
    progress.show("the machine");
    let roofline = Roofline::measure(threads);
    let mut timing = Timing { model: &model, stop, progress, plan };
    Ok(Report {
        model: name,
        weights: main_type(&model),
        cache: plan.cache,
        precision: plan.precision,
        threads,
        kernels: isa::current().name(),
        prefill: timing.part("reading", plan.prompt, |session, ids| session.prompt(&[ids]))?,
        decode: timing.part("writing", plan.new, |session, ids| {
            for &id in ids {
                session.push(0, id)?;
                session.wake(0)?;
                session.advance()?;
            }
            Ok(())
        })?,
        bytes_per_token: bytes_per_token(&model),
        roofline: Machine::from(&roofline),
    })
}

/// What the measurements share.
struct Timing<'a> {
    model: &'a Transformer,
    stop: Arc<AtomicBool>,
    progress: Progress,
    plan: &'a Plan,
}

impl Timing<'_> {
    /// Times `work` on so many tokens, from an empty text each time.
    fn part(
        &mut self,
        what: &str,
        count: usize,
        work: impl Fn(&mut Session<'_>, &[u32]) -> formwork::Result<()>,
    ) -> Result<Measured> {
        let mut tok_s = Vec::new();
        if count > 0 {
            let ids = tokens(count, self.model.vocab());
            let session = Session::new(self.model, 1, count)?.cached_in(self.plan.cache)?;
            let mut session = session.in_precision(self.plan.precision).cancelled_by(self.stop.clone());
            for run in 0..WARM_UP + self.plan.repetitions {
                session.truncate(0, 0)?;
                let begin = Instant::now();
                let done = work(&mut session, &ids);
                if self.stop.load(Relaxed) {
                    return Err(Failure::failed("stopped by Ctrl-C"));
                }
                done?;
                let speed = count as f64 / begin.elapsed().as_secs_f64();
                if run >= WARM_UP {
                    tok_s.push(speed);
                }
                self.progress.show(format_args!(
                    "{what}, {} of {}: {speed:.1} tok/s",
                    tok_s.len(),
                    self.plan.repetitions
                ));
            }
        }
        Ok(Measured { tokens: count, median: median(&tok_s), tok_s })
    }
}

fn show(report: &Report<'_>, out: &mut Output) -> Result<()> {
    let Report { model, weights, cache, threads, kernels, precision, .. } = report;
    let precision = precision.name();
    out.line(format_args!(
        "{model}, {weights}, {threads} threads, {kernels}, cache in {cache}, precision {precision}"
    ))?;
    let mut table = Table::headed([
        ("", Side::Left),
        ("tokens", Side::Right),
        ("tok/s", Side::Right),
        ("least", Side::Right),
        ("most", Side::Right),
    ]);
    for (what, part) in [("prefill", &report.prefill), ("decode", &report.decode)] {
        if let Some(median) = part.median {
            let least = part.tok_s.iter().copied().fold(f64::INFINITY, f64::min);
            let most = part.tok_s.iter().copied().fold(0.0, f64::max);
            let [median, least, most] = [median, least, most].map(|speed| format!("{speed:.1}"));
            table.row([what.to_owned(), part.tokens.to_string(), median, least, most]);
        }
    }
    out.table(&table)?;
    if let Some(speed) = report.decode.median {
        let (bytes, memory) = (report.bytes_per_token, report.roofline.read_gb_s);
        let moved = speed * bytes as f64 / 1e9;
        out.line(format_args!(
            "a written token reads {} of weights: {moved:.1} GB/s, {:.0}% of what memory delivers",
            binary(bytes),
            100.0 * moved / memory
        ))?;
    }
    out.section("roofline", &report.roofline.table())
}
