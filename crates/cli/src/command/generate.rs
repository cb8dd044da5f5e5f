//! `formwork generate`: a prompt goes in, text streams out.
//!
//! Text is written as soon as it is certain, a stop string never; `--json` waits for the end. Ctrl-C ends the text
//! after the token at hand.

use std::{ops::ControlFlow, sync::atomic::Ordering::Relaxed, time::Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use formwork::{
    Tokenizer,
    generate::{Event, Finish, Output as Written, Request, Session, Text},
    recipes::{Decode, Loaded},
    tokenizer::{Encode, Frame, Markup},
};
use serde::Serialize;

use crate::{
    command::{json_flag, model_arg, style, text},
    failure::{Failure, Result},
    interrupt,
    output::{Output, Style, remark},
    settings, subject,
};

const EXAMPLES: &str = "\
Without --greedy and sampling flags, the settings are the model's own, from the generation_config.json or
generation.json of its folder or those kept in a GGUF, else temperature 1 and nothing else. The same seed draws the same text.
Special tokens that are written in the prompt are tokens, and what the model wants before a text is added.

With --json, the keys are ids (the new ones), text (null without a tokenizer), finish (end, stop or length), and the
seconds prefill_s and decode_s.

Examples:
  formwork generate --model smollm2.gguf --prompt \"The capital of France is\" --greedy
  formwork generate --model runs/first --prompt \"The\" --temperature 0.8 --top-p 0.95 --stop . --seed 7
  formwork generate --model smollm2.gguf --prompt \"Once upon a time\" --max-tokens 4000 --cache-type bf16
  formwork generate --model runs/first --prompt 5,17,2 --raw-ids --greedy --json";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    command
        .about("Write on from a prompt, streaming the text")
        .arg(model_arg())
        .arg(
            Arg::new("prompt")
                .long("prompt")
                .value_name("TEXT")
                .required(true)
                .allow_hyphen_values(true)
                .help("The text to go on from; an empty one starts from the model's begin token"),
        )
        .args(settings::args())
        .arg(
            Arg::new("raw-ids")
                .long("raw-ids")
                .action(ArgAction::SetTrue)
                .help("The prompt is token ids, 5,17,2, and so is the output; no tokenizer is needed"),
        )
        .arg(json_flag("Print a JSON object at the end, and nothing before"))
        .after_help(EXAMPLES)
}

/// Loads the model, and writes on from the prompt.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let name = text(matches, "model");
    let raw = matches.get_flag("raw-ids");
    // What is wrong with the command line is said before a large model is loaded.
    let ids = raw.then(|| parse_ids("--prompt", text(matches, "prompt"))).transpose()?;
    settings::check(matches)?;

    let Loaded { model, tokenizer, settings, .. } = subject::load(name)?;
    let mut settings = settings::read(matches, &settings);
    let mut request = settings.request()?;
    let ids = match ids {
        Some(ids) => ids,
        None => {
            let tokenizer = tokenizer_of(tokenizer.as_ref(), name)
                .map_err(|failure| failure.and(", or give ids with --raw-ids --prompt 5,17,2"))?;
            encode(tokenizer, text(matches, "prompt"))?
        }
    };
    let prompt = or_begin(ids, tokenizer.as_ref())?;
    if !request.stop.is_empty() && tokenizer.is_none() {
        return Err(Failure::failed(format_args!(
            "--stop: {name} has no tokenizer, so there is no text to look for it in; leave it out"
        )));
    }
    if settings.end.is_empty() && !matches.get_flag("ignore-eos") {
        settings.end = tokenizer.as_ref().map_or_else(Vec::new, |tokenizer| tokenizer.special().end.clone());
    }
    let (cache, precision) = (settings.cache, settings.precision());
    request.end = settings.end;

    let stop = interrupt::flag();
    let capacity = prompt.len().saturating_add(request.max_tokens);
    let mut session = Session::new(&model, 1, capacity)?
        .cached_in(cache)?
        .in_precision(precision)
        .cancelled_by(stop.clone());
    let begin = Instant::now();
    session.prompt(&[&prompt]).map_err(|error| match stop.load(Relaxed) {
        true => interrupted(0),
        false => error.into(),
    })?;
    let prefill_s = begin.elapsed().as_secs_f64();

    let begin = Instant::now();
    let shown = match (style(matches), raw) {
        (Style::Json, _) => Shown::Nothing,
        (Style::Text, true) => Shown::Ids,
        (Style::Text, false) => Shown::Text,
    };
    let written = write(&mut session, &request, tokenizer.as_ref(), shown, out)?;
    let decode_s = begin.elapsed().as_secs_f64();

    if shown != Shown::Nothing {
        out.stream("\n")?;
    }
    if written.finish == Finish::Cancelled {
        return Err(interrupted(written.ids.len()));
    }
    let (new, finish) = (written.ids.len(), written.finish);
    if style(matches) == Style::Json {
        let text = tokenizer.is_some().then_some(written.text);
        return out.json(&Report { ids: written.ids, text, finish, prefill_s, decode_s });
    }
    remark(format_args!(
        "{} tokens read in {prefill_s:.2} s, {new} written in {decode_s:.2} s ({:.1} per second), ended by {}",
        prompt.len(),
        new as f64 / decode_s,
        match finish {
            Finish::End => "an end token",
            Finish::Stop => "a stop string",
            _ => "length",
        }
    ));
    Ok(())
}

/// The result for a program.
#[derive(Serialize)]
struct Report {
    ids: Vec<u32>,
    /// Null where the model has no tokenizer.
    text: Option<String>,
    finish: Finish,
    prefill_s: f64,
    decode_s: f64,
}

/// What is written while it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Text,
    Ids,
    Nothing,
}

pub(super) fn tokenizer_of<'a>(tokenizer: Option<&'a Tokenizer>, name: &str) -> Result<&'a Tokenizer> {
    tokenizer.ok_or_else(|| {
        Failure::failed(match name.ends_with(".gguf") {
            true => format!("{name}: no vocabulary in the file to read the text with"),
            false => format!("{name}: no tokenizer.json to read the text with; put it there"),
        })
    })
}

/// The person at the command line wrote the prompt, so special tokens in it are meant.
fn encode(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let how = Encode { frame: Frame::Template, markup: Markup::Tokens };
    tokenizer.encode_with(prompt, &how).map_err(|error| Failure::failed(format_args!("--prompt: {error}")))
}

/// `5,17,2`, the value of `flag`.
pub(super) fn parse_ids(flag: &str, text: &str) -> Result<Vec<u32>> {
    let words = text.split(',').map(str::trim).enumerate();
    let ids = words.filter(|_| !text.trim().is_empty()).map(|(at, word)| {
        word.parse().map_err(|_| {
            Failure::usage(format_args!(
                "{flag}: expected token ids such as 5,17,2, found `{word}` as number {}",
                at + 1
            ))
        })
    });
    ids.collect()
}

/// The prompt, or the begin token in place of an empty one.
fn or_begin(ids: Vec<u32>, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    if !ids.is_empty() {
        return Ok(ids);
    }
    match tokenizer.and_then(|tokenizer| tokenizer.special().begin) {
        Some(begin) => Ok(vec![begin]),
        None => Err(Failure::failed(
            "--prompt: expected at least one token, found an empty text, and the model has no begin token to start \
             from; give a text",
        )),
    }
}

/// Goes on until the end, showing what comes.
fn write(
    session: &mut Session<'_>,
    request: &Request,
    tokenizer: Option<&Tokenizer>,
    shown: Shown,
    out: &mut Output,
) -> Result<Written> {
    let mut texts: Vec<Box<dyn Text>> = Vec::new();
    texts.extend(tokenizer.map(|tokenizer| Box::new(Decode::new(tokenizer)) as Box<dyn Text>));
    let (mut failed, mut first) = (None, true);
    let outputs = session.write(request, &mut texts, |event: Event<'_>| {
        let piece = match (shown, event.id) {
            (Shown::Text, _) if !event.text.is_empty() => event.text.to_owned(),
            (Shown::Ids, Some(id)) if std::mem::take(&mut first) => id.to_string(),
            (Shown::Ids, Some(id)) => format!(",{id}"),
            _ => return ControlFlow::Continue(()),
        };
        match out.stream(&piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(failure) => Err(failure),
        None => Ok(outputs.into_iter().next().expect("an output for the only row")),
    }
}

fn interrupted(tokens: usize) -> Failure {
    Failure::failed(format_args!("stopped by Ctrl-C after {tokens} new tokens"))
}
