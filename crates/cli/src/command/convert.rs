//! `formwork convert`: a model from one layout to another, narrower if asked.

use clap::{Arg, ArgMatches, Command};
use formwork::recipes::{self, Conversion, Convert, Line, StoredType};
use serde::Serialize;

use crate::{
    command::{json_flag, style, text},
    failure::{Failure, Result},
    output::{Output, Style, warn},
};

const EXAMPLES: &str = "\
SRC is a published folder, a folder or run of this project, or a GGUF file; DST is a GGUF file if it ends in .gguf, else a
published folder. Without --type the stored types are kept and nothing is lost; a folder cannot hold quantised matrices, so
one made from a quantised file needs --type f32, f16 or bf16. With a type, matrices are stored in it as far as their width
allows, and what each tensor lost is reported; in a GGUF file norms and biases stay exact, in a folder they get the type
too. The tokenizer, the configs, the chat template, the card (README) and the licence of a folder go into the metadata of the
file, other files do not.

With --json, the keys are bytes and tensors: a list of {name, shape, from, to, error}, error null where nothing is lost, else
{max, rms, relative}.

Examples:
  formwork convert smollm2-q8.gguf smollm2-folder --type bf16
  formwork convert smollm2-folder smollm2-q8.gguf --type q8_0";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    let place =
        |name: &'static str, help: &'static str| Arg::new(name).value_name(name).required(true).help(help);
    command
        .about("Convert between a folder and a GGUF file, quantising if asked")
        .arg(place("SRC", "The model"))
        .arg(place("DST", "Where it is written; files that are there are replaced"))
        .arg(
            Arg::new("type")
                .long("type")
                .value_name("TYPE")
                .help("f32, f16, bf16, q8_0, q5_0, q5_1, q4_0, q4_1, q2_k, q3_k, q4_k, q5_k or q6_k"),
        )
        .arg(json_flag("Print a JSON object"))
        .after_help(EXAMPLES)
}

/// Converts, and says what was lost.
pub(super) fn run(matches: &ArgMatches, out: &mut Output) -> Result<()> {
    let wanted = matches.get_one::<String>("type").map(|name| name.parse::<StoredType>()).transpose();
    let dtype = wanted.map_err(|error| Failure::usage(format_args!("--{error}")))?;
    let report = recipes::convert(text(matches, "SRC"), text(matches, "DST"), &Convert { dtype })?;
    for note in &report.notes {
        warn(note);
    }
    match style(matches) {
        Style::Json => {
            let tensors = report.tensors.iter().map(Tensor::of).collect();
            out.json(&Report { bytes: report.bytes(), tensors })
        }
        Style::Text => {
            out.line(&report)?;
            match dtype {
                Some(wanted) => out.line(got(&report, wanted)),
                None => Ok(()),
            }
        }
    }
}

/// How many matrices have the type that was asked for.
fn got(report: &Conversion, wanted: StoredType) -> String {
    let wanted = wanted.to_string();
    let matrices = || report.tensors.iter().filter(|line| line.shape.len() > 1);
    let in_it = matrices().filter(|line| line.to.name().eq_ignore_ascii_case(&wanted)).count();
    let all = matrices().count();
    match in_it == all {
        true => format!("all {all} matrices in {wanted}"),
        false => format!(
            "{in_it} of {all} matrices in {wanted}; the others have a width that it cannot hold, or are heads and tables, \
             which are kept finer"
        ),
    }
}

/// The result for a program.
#[derive(Serialize)]
struct Report<'a> {
    bytes: u64,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    shape: &'a [usize],
    from: String,
    to: String,
    /// Null where nothing was lost.
    error: Option<Lost>,
}

#[derive(Serialize)]
struct Lost {
    max: f64,
    rms: f64,
    relative: f64,
}

impl<'a> Tensor<'a> {
    fn of(line: &'a Line) -> Self {
        let lower = |name: &str| name.to_ascii_lowercase();
        let (from, to) = (lower(line.from.name()), lower(line.to.name()));
        let error = line.error.map(|e| Lost { max: e.max, rms: e.rms, relative: e.relative });
        Self { name: &line.name, shape: &line.shape, from, to, error }
    }
}
