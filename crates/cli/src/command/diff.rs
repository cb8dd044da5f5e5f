//! `formwork diff`: the config fields in which two models differ.

use clap::{ArgMatches, Command};
use formwork::model::diff;

use crate::{
    command::{describe::subject_arg, json_flag, style, text},
    failure::Result,
    output::{Output, Style},
    subject,
    table::{Side, Table},
};

const EXAMPLES: &str = "\
A field that all layers share is one line, blocks.*.attn.heads; one that only one side gives has - on the other,
and null in JSON. Beside a GGUF file, which rounds numbers to 32 bits, those that are the same in 32 bits do not differ.

Examples:
  formwork diff llama2-70b llama3-70b
  formwork diff gpt2-small my-config.json --json";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    command
        .about("List the config fields in which two models differ")
        .arg(subject_arg("a", "A"))
        .arg(subject_arg("b", "B"))
        .arg(json_flag("Print a JSON list of {field, a, b}"))
        .after_help(EXAMPLES)
}

/// Compares the two.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let (a, b) = (text(matches, "a"), text(matches, "b"));
    let mut found = diff(&subject::config(a)?, &subject::config(b)?);
    if [a, b].into_iter().any(subject::is_gguf) {
        found.retain(|difference| !difference.is_rounding());
    }
    if style(matches) == Style::Json {
        return out.json(&found);
    }
    if found.is_empty() {
        return out.line(format_args!("{a} and {b} do not differ"));
    }
    let mut table = Table::headed([("field", Side::Left), (a, Side::Left), (b, Side::Left)]);
    for difference in found {
        let text = |value: Option<_>| {
            value.map_or_else(|| "-".to_owned(), |value: serde_json::Value| value.to_string())
        };
        table.row([difference.field, text(difference.a), text(difference.b)]);
    }
    out.table(&table)
}
