//! `formwork tokenize`: a text as token ids and pieces, and back.

use clap::{Arg, ArgAction, ArgMatches, Command};
use formwork::{
    Tokenizer,
    tokenizer::{Encode, Frame, Markup, Specials},
};
use serde::Serialize;

use crate::{
    command::{generate::parse_ids, json_flag, model_arg, style, text},
    failure::{Failure, Result},
    output::{Output, Style},
    subject,
    table::{Side, Table},
};

const EXAMPLES: &str = "\
The text is yours, so special tokens that are written in it, such as <|endoftext|>, are tokens. What the model wants
around a text, such as a begin token, is added unless --no-special is given. An empty text is a text.

With --json, the keys are ids and pieces; with --ids, ids, pieces and text.

Examples:
  formwork tokenize --model smollm2.gguf \"The capital of France\"
  formwork tokenize --model smollm2.gguf --json -- \"--ids is text here\"
  formwork tokenize --model smollm2.gguf --ids 504,3575,282";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    command
        .about("Show the tokens of a text, or the text of tokens")
        .arg(model_arg().help("A model's folder or GGUF file; its tokenizer is enough"))
        .arg(
            Arg::new("no-special")
                .long("no-special")
                .action(ArgAction::SetTrue)
                .help("Add no begin or end token around the text"),
        )
        .arg(
            Arg::new("ids")
                .long("ids")
                .value_name("1,2,3")
                .conflicts_with_all(["text", "no-special"])
                .help("The text of these tokens instead"),
        )
        .arg(
            Arg::new("text")
                .value_name("TEXT")
                .required_unless_present("ids")
                .help("The text; after -- it may begin with a dash"),
        )
        .arg(json_flag("Print a JSON object"))
        .after_help(EXAMPLES)
}

/// Encodes the text, or decodes the ids.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let ids = matches.get_one::<String>("ids").map(|ids| parse_ids("--ids", ids)).transpose()?;
    let tokenizer = subject::tokenizer(text(matches, "model"))?;
    match ids {
        Some(ids) => decode(&tokenizer, ids, style(matches), out),
        None => encode(&tokenizer, matches, out),
    }
}

/// The result for a program.
#[derive(Serialize)]
struct Report {
    ids: Vec<u32>,
    pieces: Vec<String>,
    /// What was decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn encode(tokenizer: &Tokenizer, matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let frame = if matches.get_flag("no-special") { Frame::Bare } else { Frame::Template };
    let how = Encode { frame, markup: Markup::Tokens };
    let ids = tokenizer
        .encode_with(text(matches, "text"), &how)
        .map_err(|error| Failure::failed(format_args!("text: {error}")))?;
    let pieces = pieces(tokenizer, &ids)?;
    if style(matches) == Style::Json {
        return out.json(&Report { ids, pieces, text: None });
    }
    let mut table = Table::headed([("id", Side::Right), ("piece", Side::Left)]);
    for (id, piece) in ids.iter().zip(pieces) {
        // A line break in a piece would break the table.
        table.row([id.to_string(), piece.escape_debug().to_string()]);
    }
    out.table(&table)
}

fn decode(tokenizer: &Tokenizer, ids: Vec<u32>, style: Style, out: &mut Output) -> Result<()> {
    let text = tokenizer
        .decode_with(&ids, Specials::Keep)
        .map_err(|error| Failure::failed(format_args!("--ids: {error}")))?;
    match style {
        Style::Json => {
            let pieces = pieces(tokenizer, &ids)?;
            out.json(&Report { ids, pieces, text: Some(text) })
        }
        Style::Text => out.line(text),
    }
}

fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Result<Vec<String>> {
    let piece = |&id: &u32| {
        let piece = tokenizer.piece(id).map(str::to_owned);
        piece.ok_or_else(|| {
            Failure::failed(format_args!("the tokenizer has no token {id}; it has {}", tokenizer.vocab()))
        })
    };
    ids.iter().map(piece).collect()
}
