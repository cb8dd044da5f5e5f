//! `formwork chat`: a conversation.

use std::{
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Arg, ArgMatches, Command, value_parser};
use formwork::{
    TokenModel,
    generate::Finish,
    module::Kind,
    recipes::{
        Loaded,
        chat::{Chat, Date, Ends, Options, Overflow, Reply},
    },
};
use serde::Serialize;

use crate::{
    command::{generate::tokenizer_of, json_flag, model_arg, style, text},
    failure::{Failure, Result},
    interrupt,
    messages::{Messages, Turn},
    output::{Output, Style, remark, warn},
    settings, subject,
};

/// The most tokens of a conversation, unless told otherwise.
const CONTEXT: usize = 4096;
/// The most tokens of an answer, unless told otherwise.
const ANSWER: usize = 512;

const EXAMPLES: &str = "\
Each line of stdin is a message, each answer streams to stdout; an empty line is passed over, the end of stdin ends the
conversation. A message of several lines begins and ends with \"\"\". Ctrl-C ends an answer, and between answers the
conversation. The model's own chat template is used, and what is said never becomes one of its special tokens. When the
conversation no longer fits --context, its oldest messages are forgotten, with a warning.

With --json, a line with a JSON object follows each answer instead: ids, text, finish (end, stop, length or cancelled),
prompt (the tokens of the conversation) and read (how many of them were not in the cache).

Examples:
  formwork chat --model smollm2.gguf
  formwork chat --model smollm2.gguf --context 8192 --cache-type q8_0
  echo \"What is the capital of France?\" | formwork chat --model smollm2.gguf --greedy --system \"Answer in one word.\"
  printf '\"\"\"Is this a haiku?\\n\\nAn old silent pond\"\"\"\\n' | formwork chat --model smollm2.gguf";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    command
        .about("Talk with a model through its own chat template")
        .arg(model_arg())
        .arg(
            Arg::new("system")
                .long("system")
                .value_name("TEXT")
                .help("What the model is told before anything is said"),
        )
        .arg(Arg::new("context").long("context").value_name("N").value_parser(value_parser!(u32).range(1..)).help(
            "The most tokens of the conversation [default: 4096, or the model's context if that is less]",
        ))
        .args(settings::args())
        .arg(json_flag("Print a JSON object per answer"))
        .after_help(EXAMPLES)
}

/// Answers message by message until stdin ends.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let name = text(matches, "model");
    settings::check(matches)?;
    let loaded = subject::load(name)?;
    let Loaded { model, tokenizer, template, settings, .. } = &loaded;
    let tokenizer = tokenizer_of(tokenizer.as_ref(), name)?;
    let Some(template) = template else {
        let what = if Path::new(name).is_dir() {
            "chat_template.jinja or tokenizer_config.json"
        } else {
            "metadata"
        };
        return Err(Failure::failed(format_args!(
            "{name}: the model has no chat template (none in its {what}), so it was not made to talk; use formwork generate"
        )));
    };
    let asked = matches.get_one::<u32>("context").map(|&most| most as usize);
    if let (Some(asked), Some(most)) = (asked, model.context())
        && asked > most
    {
        warn(format_args!(
            "--context {asked}: the model reads at most {most} tokens, so that is what it gets"
        ));
    }
    let mut settings = settings::read(matches, settings);
    settings.max_tokens = matches.get_one("max-tokens").copied().unwrap_or(ANSWER);
    let busy = Arc::new(AtomicBool::new(false));
    let cancel = interrupt::between(busy.clone());
    let options = Options {
        settings,
        ends: if matches.get_flag("ignore-eos") { Ends::Settings } else { Ends::All },
        capacity: asked.unwrap_or(CONTEXT),
        overflow: Overflow::DropOldest,
        cancel: Some(cancel.clone()),
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let template = template.clone().dated(Date::from_unix(seconds)?);
    let mut chat = Chat::new(model, tokenizer, template, &options)?;
    chat.set_system(matches.get_one::<String>("system").map(String::as_str));

    let (mut messages, style) = (Messages::new(io::stdin().lock()), style(matches));
    while let Some(message) = messages.next(&ask)? {
        busy.store(true, Relaxed);
        let answered = answer(&mut chat, &message, style, out);
        busy.store(false, Relaxed);
        let stopped = cancel.swap(false, Relaxed);
        match answered? {
            Some(reply) => show(&reply, style, out)?,
            None if stopped => warn("stopped before the answer began; the message is forgotten"),
            None => {}
        }
    }
    Ok(())
}

/// The answer, streamed; `None` where Ctrl-C came before it began.
fn answer(chat: &mut Chat<'_>, message: &str, style: Style, out: &mut Output) -> Result<Option<Reply>> {
    let mut failed = None;
    let reply = chat.send(message, |piece| {
        let said = if style == Style::Text { out.stream(piece) } else { Ok(()) };
        failed = said.err();
        if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match (failed, reply) {
        (Some(failure), _) => Err(failure),
        (None, Ok(reply)) => Ok(Some(reply)),
        (None, Err(error)) if matches!(error.kind(), Kind::Cancelled) => Ok(None),
        (None, Err(error)) => Err(error.into()),
    }
}

/// A mark for a person that it is their turn.
fn ask(turn: Turn) {
    let mark = if turn == Turn::Begin { "> " } else { ". " };
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        let mut stderr = io::stderr();
        // A mark that cannot be written is no reason to fail.
        let _ = stderr.write_all(mark.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// The result for a program.
#[derive(Serialize)]
struct Report<'a> {
    ids: &'a [u32],
    text: &'a str,
    finish: Finish,
    prompt: usize,
    read: usize,
}

fn show(reply: &Reply, style: Style, out: &mut Output) -> Result<()> {
    let Reply { text, ids, finish, prompt, read, dropped } = reply;
    if *dropped > 0 {
        warn(format_args!("the {dropped} oldest messages were forgotten to make room"));
    }
    match style {
        Style::Text => out.stream("\n")?,
        Style::Json => {
            out.json_line(&Report { ids, text, finish: *finish, prompt: *prompt, read: *read })?;
            out.flush()?;
        }
    }
    match finish {
        Finish::Length => remark("(the answer was cut short by --max-tokens)"),
        Finish::Cancelled => remark("(stopped)"),
        _ => {}
    }
    Ok(())
}
