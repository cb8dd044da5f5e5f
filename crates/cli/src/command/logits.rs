//! `formwork logits`: token ids in a JSON file go in, one tensor of logits comes out.

use std::{fs, path::Path};

use clap::{Arg, ArgMatches, Command};
use formwork::{
    Pass, Positions, Rows, TokenModel,
    formats::{Dtype, Layout, Writer},
    module::{Precision, config},
    recipes::Loaded,
};
use ndarray::Array2;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    command::{model_arg, text},
    failure::{Failure, Result},
    output::{Output, remark},
    subject,
};

const EXAMPLES: &str = "\
IN.json is {\"input_ids\": [[5, 17, 2], [3, 1, 4]], \"attention_mask\": .., \"position_ids\": ..}; all but the ids may be
left out. The rows have one length; a mask of 1 and 0 says which tokens are real, in one piece per row, padding left or
right. Positions are 0, 1, 2 .. along a row unless given; given ones must go up by one along the real tokens of a row.

OUT.safetensors holds one f32 tensor `output` [rows, tokens, vocabulary]; what stands at padding means nothing. Products
are computed in full precision, as a reference computes them: activations are not rounded as they are in generation.

Example:
  formwork logits --model runs/first --input ids.json --output logits.safetensors";

/// The arguments and their help.
pub(super) fn define(command: Command) -> Command {
    let file = |name: &'static str, shown: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(shown).required(true).help(help)
    };
    command
        .about("Compute the logits of given token ids")
        .arg(model_arg())
        .arg(file("input", "IN.json", "The token ids"))
        .arg(file("output", "OUT.safetensors", "Where the logits are written; replaced if it is there"))
        .after_help(EXAMPLES)
}

/// Runs the model over all rows at once, and writes what comes out.
pub(super) fn run(matches: &ArgMatches, _: &mut Output) -> Result<()> {
    let input = text(matches, "input");
    let failed = |problem: &dyn std::fmt::Display| Failure::failed(format_args!("{input}: {problem}"));
    let bytes = fs::read(input).map_err(|error| failed(&error))?;
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| failed(&format_args!("expected JSON: {error}")))?;
    if !value.is_object() {
        return Err(failed(&"expected an object, such as {\"input_ids\": [[1, 2, 3]]}"));
    }
    let input = config::read::<Input>(value).map_err(|error| failed(&error))?;
    let batch = input.batch().map_err(|problem| failed(&problem))?;

    let (model, output) = (text(matches, "model"), Path::new(text(matches, "output")));
    keep_apart(output, &[Path::new(model), Path::new(text(matches, "input"))])?;
    let Loaded { model, .. } = subject::load(model)?;
    // What is written is compared with a reference, so nothing is rounded on the way.
    let mut pass = Pass::infer().rows(batch.rows).in_precision(Precision::Full);
    let logits = model.logits(batch.ids.view(), Positions::All, &mut pass)?;
    let logits = logits.to_vec::<f32>()?;
    write(output, &[batch.ids.nrows(), batch.ids.ncols(), model.vocab()], &logits)
}

/// Refuses to write over what is read: the input, or a file of the model.
fn keep_apart(output: &Path, read: &[&Path]) -> Result<()> {
    let Ok(output) = output.canonicalize() else { return Ok(()) };
    let over = |read: &&Path| read.canonicalize().is_ok_and(|read| output.starts_with(read));
    match read.iter().any(over) {
        true => Err(Failure::failed(format_args!(
            "{}: the file belongs to what is read; give --output another name",
            output.display()
        ))),
        false => Ok(()),
    }
}

/// The file of token ids, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    input_ids: Vec<Vec<u32>>,
    attention_mask: Option<Vec<Vec<u8>>>,
    position_ids: Option<Vec<Vec<usize>>>,
    /// Sorts of text, which encoders know.
    token_type_ids: Option<Vec<Vec<u32>>>,
}

/// The ids, and where in them the real tokens are.
struct Batch {
    ids: Array2<u32>,
    rows: Rows,
}

impl Input {
    fn batch(self) -> std::result::Result<Batch, String> {
        let (b, t) = (self.input_ids.len(), self.input_ids.first().map_or(0, Vec::len));
        if b == 0 || t == 0 {
            return Err("input_ids: expected at least one row of at least one id, found none".to_owned());
        }
        same("input_ids", &self.input_ids, [b, t])?;
        if let Some(types) = &self.token_type_ids {
            same("token_type_ids", types, [b, t])?;
            if types.iter().flatten().any(|&sort| sort != 0) {
                return Err(
                    "token_type_ids: expected 0 everywhere, since the model has one sort of text; leave \
                            them out"
                        .to_owned(),
                );
            }
        }
        let mask = match &self.attention_mask {
            None => vec![vec![true; t]; b],
            Some(mask) => {
                same("attention_mask", mask, [b, t])?;
                if let Some(other) = mask.iter().flatten().find(|&&real| real > 1) {
                    return Err(format!(
                        "attention_mask: expected 1 for a real token and 0 for padding, found {other}"
                    ));
                }
                mask.iter().map(|row| row.iter().map(|&real| real != 0).collect()).collect()
            }
        };
        let mut rows = Rows::from_mask(mask.iter().map(Vec::as_slice))
            .map_err(|error| format!("attention_mask: {error}"))?;
        let first = |row: &Vec<bool>| row.iter().position(|&real| real).unwrap_or(0);
        let mut starts: Vec<usize> = mask.iter().map(first).collect();
        if let Some(positions) = &self.position_ids {
            same("position_ids", positions, [b, t])?;
            for (row, (positions, mask)) in positions.iter().zip(&mask).enumerate() {
                starts[row] = start(positions, mask).ok_or_else(|| {
                    format!(
                        "position_ids: expected positions that go up by one along the real tokens, found others in \
                         row {row}"
                    )
                })?;
            }
        }
        rows = rows.starting_at(&starts);
        let ids = Array2::from_shape_vec((b, t), self.input_ids.concat()).expect("the rows have one length");
        Ok(Batch { ids, rows })
    }
}

/// The position of the first real token, if those after it follow one by one.
fn start(positions: &[usize], mask: &[bool]) -> Option<usize> {
    let real: Vec<usize> = positions.iter().zip(mask).filter(|(_, real)| **real).map(|(p, _)| *p).collect();
    let first = real.first().copied().unwrap_or(0);
    real.iter().enumerate().all(|(i, &p)| p.checked_sub(i) == Some(first)).then_some(first)
}

fn same<T>(field: &str, rows: &[Vec<T>], [b, t]: [usize; 2]) -> std::result::Result<(), String> {
    if rows.len() != b {
        return Err(format!("{field}: expected {b} rows, as there are of input_ids, found {}", rows.len()));
    }
    match rows.iter().position(|row| row.len() != t) {
        Some(row) => Err(format!(
            "{field}.{row}: expected {t} numbers, as in the first row of ids, found {}",
            rows[row].len()
        )),
        None => Ok(()),
    }
}

fn write(path: &Path, shape: &[usize], logits: &[f32]) -> Result<()> {
    let failed = |error: formwork::formats::Error| Failure::failed(error);
    let layout = Layout::new().tensor("output", Dtype::F32, shape);
    let mut writer = Writer::create(path, &layout).map_err(failed)?;
    writer.append_f32("output", logits).map_err(failed)?;
    writer.finish().map_err(failed)?;
    remark(format_args!("{}: {shape:?} written", path.display()));
    Ok(())
}
