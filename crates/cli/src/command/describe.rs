//! `formwork describe`: what a model is and takes. No memory is taken for weights, so any size answers at once.

use clap::{Arg, ArgAction, ArgMatches, Command};
use formwork::{
    Builder, ModelConfig,
    model::{Description, Outline},
};
use serde::Serialize;

use crate::{
    command::{json_flag, style, text},
    failure::Result,
    number::{binary, grouped},
    output::{Output, Style},
    subject,
    table::{Side, Table},
};

const EXAMPLES: &str = "\
FLOPs per token are those of a forward pass, averaged over a full context, a multiplication and an addition
counted as two. The KV cache is counted at 16 bits per number, with what each --cache-type takes beside it; training at
32, and so are weights but for those of a GGUF file, which stay as the file stores them. A training step is weights,
gradients, two moments of AdamW, and the most that one full context holds at a time, forward and backward.

With --json, the keys are name, config, parameters, parameters_by_part, flops_per_token, kv_bytes_per_token,
kv_bytes_by_type (a list of {cache, bytes_per_token}), weight_bytes, training_bytes, and with --outline outline: a list
of {name, shape, init}.

Examples:
  formwork describe llama3-70b --outline
  formwork describe my-config.toml
  formwork describe runs/first --json";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    command
        .about("Show a model's config, parameters, FLOPs and bytes, without allocating it")
        .arg(subject_arg("subject", "PRESET|CONFIG|MODEL"))
        .arg(
            Arg::new("outline")
                .long("outline")
                .action(ArgAction::SetTrue)
                .help("List every parameter with its shape and how a seed draws it"),
        )
        .arg(json_flag("Print a JSON object"))
        .after_help(EXAMPLES)
}

/// An argument that names a preset, a config or a model.
pub(super) fn subject_arg(id: &'static str, shown: &'static str) -> Arg {
    Arg::new(id)
        .value_name(shown)
        .required(true)
        .help("A preset's name, a config file (.json, .toml), a model's folder, or a GGUF file")
}

/// Describes the subject.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let name = text(matches, "subject");
    let builder = Builder::new(subject::config(name)?);
    let mut description = Description::of(&builder).map_err(|error| subject::located(name, &error))?;
    let stored = subject::stored_bytes(name)?;
    description.weight_bytes = stored.unwrap_or(description.weight_bytes);
    // What could be described has an outline.
    let outline = matches.get_flag("outline").then(|| Outline::of(&builder)).transpose()?;
    match style(matches) {
        Style::Json => out.json(&Report { description: &description, outline: outline.as_ref() }),
        Style::Text => {
            out.line(&description.name)?;
            let held = if stored.is_some() { "as the file stores them" } else { "at 32 bits" };
            out.table(&totals(&description, builder.config(), held))?;
            out.section("parameters by part", &parts(&description))?;
            out.section("config", &lines(builder.config()))?;
            match &outline {
                Some(outline) => out.section("outline", &parameters(outline)),
                None => Ok(()),
            }
        }
    }
}

/// All of it for a program.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    description: &'a Description,
    #[serde(skip_serializing_if = "Option::is_none")]
    outline: Option<&'a Outline>,
}

fn totals(found: &Description, config: &ModelConfig, held: &str) -> Table {
    let mut table = Table::new([Side::Left, Side::Right, Side::Left]);
    let mut row =
        |what: &str, number: u64, note: String| table.row([format!("  {what}"), grouped(number), note]);
    let context = grouped(config.context as u64);
    row("parameters", found.parameters, String::new());
    row("FLOPs per token", found.flops_per_token, format!("forward, averaged over a context of {context}"));
    row("weight bytes", found.weight_bytes, format!("{} {held}", binary(found.weight_bytes)));
    let by_type: Vec<_> = found
        .kv_bytes_by_type
        .iter()
        .map(|of| format!("{} {}", of.cache, binary(of.bytes_per_token)))
        .collect();
    row(
        "KV bytes per token",
        found.kv_bytes_per_token,
        format!("{} at 16 bits; {}", binary(found.kv_bytes_per_token), by_type.join(", ")),
    );
    row(
        "training bytes",
        found.training_bytes,
        format!("{} for one context of {context}, an estimate", binary(found.training_bytes)),
    );
    table
}

fn parts(found: &Description) -> Table {
    let mut table = Table::new([Side::Left, Side::Right, Side::Right]);
    for part in &found.parameters_by_part {
        let share = 100.0 * part.parameters as f64 / found.parameters.max(1) as f64;
        table.row([part.name.clone(), grouped(part.parameters), format!("{share:.2} %")]);
    }
    table
}

/// The config as TOML, which a person may save and change; as JSON where TOML cannot hold it.
fn lines(config: &ModelConfig) -> Table {
    let text = config.to_toml().unwrap_or_else(|_| config.to_json());
    let mut table = Table::new([Side::Left]);
    text.lines().for_each(|line| table.row([line.to_owned()]));
    table
}

fn parameters(outline: &Outline) -> Table {
    let mut table = Table::headed([("name", Side::Left), ("shape", Side::Left), ("init", Side::Left)]);
    for line in &outline.lines {
        table.row([line.name.clone(), line.shape.to_string(), line.init.to_string()]);
    }
    table
}
