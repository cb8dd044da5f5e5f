//! `formwork perplexity`: how well a model predicts a text.

use std::{fs, ops::ControlFlow, sync::atomic::Ordering::Relaxed};

use clap::{Arg, ArgMatches, Command, value_parser};
use formwork::{
    TokenModel,
    recipes::{self, Loaded, Windows},
    tokenizer::{Encode, Frame, Markup},
};
use serde::Serialize;

use crate::{
    command::{generate::tokenizer_of, json_flag, model_arg, style, text},
    failure::{Failure, Result},
    interrupt,
    output::{Output, Progress, Style},
    subject,
    table::{Side, Table},
};

/// The window of published figures.
const CONTEXT: usize = 512;

const EXAMPLES: &str = "\
With --stride, as the transformers documentation reads a text: windows of --context tokens begin so far apart, and each
scores the tokens that no earlier one scored. Without it, as llama-perplexity does: windows do not overlap, the second
half of each is scored, and a begin token stands first in each window if the model wants one. The two differ: compare
like with like.

With --json, the keys are tokens (that were scored), nats_per_token, perplexity, bits_per_byte.

Examples:
  formwork perplexity --model smollm2.gguf --text book.txt
  formwork perplexity --model smollm2 --text book.txt --context 1024 --stride 512 --json";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u32).range(1..)).help(help)
    };
    command
        .about("Measure how well a model predicts a text")
        .arg(model_arg())
        .arg(Arg::new("text").long("text").value_name("FILE").required(true).help("The text, in UTF-8"))
        .arg(number("context", "Tokens of a window [default: 512, or the model's context if that is less]"))
        .arg(number("stride", "Tokens from one window to the next"))
        .arg(json_flag("Print a JSON object"))
        .after_help(EXAMPLES)
}

/// The result for a program.
#[derive(Serialize)]
struct Report {
    tokens: usize,
    nats_per_token: f64,
    perplexity: f64,
    bits_per_byte: f64,
}

/// Reads the text, and says how surprising it was.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let file = text(matches, "text");
    let failed = |problem: &dyn std::fmt::Display| Failure::failed(format_args!("{file}: {problem}"));
    let words = fs::read(file).map_err(|error| failed(&error))?;
    let words = String::from_utf8(words).map_err(|error| {
        failed(&format_args!(
            "expected text in UTF-8, found a byte that is none at {}",
            error.utf8_error().valid_up_to()
        ))
    })?;
    let name = text(matches, "model");
    let Loaded { model, tokenizer, .. } = subject::load(name)?;
    let tokenizer = tokenizer_of(tokenizer.as_ref(), name)?;

    let number = |name: &str| matches.get_one::<u32>(name).map(|&number| number as usize);
    let stride = number("stride");
    let most = model.context().unwrap_or(usize::MAX);
    let context = number("context").unwrap_or(CONTEXT.min(most));
    // What is written in a book is text, whatever it looks like.
    let framed = Encode { frame: Frame::Template, markup: Markup::Text };
    let encode = |text: &str| tokenizer.encode_with(text, &framed).map_err(|error| failed(&error));
    let ids = encode(&words)?;
    let begin = encode("")?.first().copied().filter(|&first| tokenizer.special().begin == Some(first));
    let windows = Windows { context, stride, begin };

    let stop = interrupt::flag();
    let mut progress = Progress::new("reading");
    let found = recipes::perplexity(&model, &ids, &windows, &mut |reading| {
        let so_far = reading.so_far.perplexity();
        progress
            .show(format_args!("{} of {} windows, perplexity {so_far:.3}", reading.done, reading.windows));
        if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    progress.clear();
    let report = Report {
        tokens: found.tokens,
        nats_per_token: found.nats_per_token,
        perplexity: found.perplexity(),
        bits_per_byte: found.bits_per_byte(words.len()),
    };
    if style(matches) == Style::Json {
        return out.json(&report);
    }
    let mut table = Table::new([Side::Left, Side::Right]);
    table.row(["tokens scored".to_owned(), report.tokens.to_string()]);
    table.row(["nats per token".to_owned(), format!("{:.5}", report.nats_per_token)]);
    table.row(["perplexity".to_owned(), format!("{:.4}", report.perplexity)]);
    table.row(["bits per byte".to_owned(), format!("{:.5}", report.bits_per_byte)]);
    out.table(&table)
}
