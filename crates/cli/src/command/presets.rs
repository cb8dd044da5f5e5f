//! `formwork presets`: every preset with its sizes and its exact parameter count.

use clap::{ArgMatches, Command};
use formwork::{
    Builder,
    model::Outline,
    presets::{self, Preset},
};
use serde::Serialize;

use crate::{
    command::{json_flag, style},
    failure::Result,
    number::grouped,
    output::{Output, Style},
    table::{Side, Table},
};

const EXAMPLES: &str = "\
With --json, each preset has name, family, layers, dim, heads, kv_heads, head_dim, hidden, vocab, context, parameters.

Examples:
  formwork presets
  formwork presets --json";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    command
        .about("List every preset with its sizes and its exact parameter count")
        .arg(json_flag("Print a JSON list"))
        .after_help(EXAMPLES)
}

/// Lists the presets.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let rows = presets::ALL.iter().map(Row::of).collect::<Result<Vec<_>>>()?;
    match style(matches) {
        Style::Json => out.json(&rows),
        Style::Text => out.table(&table(&rows)),
    }
}

/// A preset's line. The numbers of heads and widths are those of the first layer, as presets are uniform in them;
/// a layer without heads, or a feed-forward of another kind, has none.
#[derive(Serialize)]
struct Row {
    name: &'static str,
    family: &'static str,
    layers: usize,
    dim: usize,
    heads: Option<usize>,
    kv_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden: Option<usize>,
    vocab: usize,
    context: usize,
    parameters: u64,
}

impl Row {
    fn of(preset: &Preset) -> Result<Self> {
        let builder = Builder::new((preset.config)());
        let parameters = Outline::of(&builder)?.parameters();
        let config = builder.config();
        let first = config.blocks.first();
        let attn = first.and_then(|block| block.multi_head());
        Ok(Self {
            name: preset.name,
            family: preset.family,
            layers: config.blocks.len(),
            dim: config.dim,
            heads: attn.map(|attn| attn.heads),
            kv_heads: attn.map(|attn| attn.kv_heads()),
            head_dim: attn.map(|attn| attn.head_dim(config.dim)),
            hidden: first.and_then(|block| block.residual()).and_then(|parts| parts.ffn.hidden()),
            vocab: config.vocab,
            context: config.context,
            parameters,
        })
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::headed([
        ("name", Side::Left),
        ("family", Side::Left),
        ("layers", Side::Right),
        ("dim", Side::Right),
        ("heads", Side::Right),
        ("kv heads", Side::Right),
        ("hidden", Side::Right),
        ("vocab", Side::Right),
        ("context", Side::Right),
        ("parameters", Side::Right),
    ]);
    let size = |number: usize| grouped(number as u64);
    let known = |number: Option<usize>| number.map_or_else(|| "-".to_owned(), size);
    for row in rows {
        table.row([
            row.name.to_owned(),
            row.family.to_owned(),
            size(row.layers),
            size(row.dim),
            known(row.heads),
            known(row.kv_heads),
            known(row.hidden),
            size(row.vocab),
            size(row.context),
            grouped(row.parameters),
        ]);
    }
    table
}
