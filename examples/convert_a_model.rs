//! From a folder to a GGUF file and back, exactly; then narrower, with what that costs in bytes and in logits.
//! Run: cargo run --release --example convert_a_model [-- --model FOLDER|FILE.gguf] [-- --tiny]

use std::{error::Error, path::Path};

use formwork::{
    Pass, Positions, TokenModel,
    formats::Archive,
    recipes::{self, Convert},
};
use formwork_examples::{Options, model_or_talker};
use ndarray::Array2;

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::from_args()?;
    let scratch = tempfile::tempdir()?;
    let source = model_or_talker(&options, scratch.path())?;
    let (file, folder) = (scratch.path().join("exact.gguf"), scratch.path().join("back"));

    // Without a type nothing is lost: rows are reordered, names change, numbers stay.
    recipes::convert(&source, &file, &Convert::default())?;
    recipes::convert(&file, &folder, &Convert::default())?;
    if source.is_dir() {
        let (before, after) = (Archive::open(&source)?, Archive::open(&folder)?);
        let same = before
            .entries()
            .filter(|old| after.entry(old.name()).is_some_and(|new| old.bytes() == new.bytes()));
        println!("folder, GGUF, folder: {} of {} tensors have the same bytes", same.count(), before.len());
    }

    let exact = logits(&file)?;
    let largest = exact.iter().fold(0.0f32, |most, logit| most.max(logit.abs()));
    println!("\n{:6} {:>12} {:>16} {:>18}", "type", "bytes", "worst tensor", "logits off by");
    for name in ["f16", "bf16", "q8_0", "q5_1", "q4_1", "q4_0"] {
        let narrow = scratch.path().join(format!("{name}.gguf"));
        let report = recipes::convert(&file, &narrow, &Convert { dtype: Some(name.parse()?) })?;
        let found = logits(&narrow)?;
        let off = exact.iter().zip(&found).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        println!(
            "{name:6} {:12} {:15.3}% {:17.3}%",
            report.bytes(),
            100.0 * report.worst(),
            100.0 * off / largest
        );
    }

    // The report has a line for each tensor.
    let report = recipes::convert(
        &file,
        scratch.path().join("report.gguf"),
        &Convert { dtype: Some("q4_0".parse()?) },
    )?;
    println!("\nthe five tensors that lost most as q4_0:");
    let mut lines: Vec<_> =
        report.tensors.iter().filter_map(|line| Some((line.error?.relative, line))).collect();
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (relative, line) in lines.iter().take(5) {
        println!("  {:7.3}%  {} {:?} as {}", 100.0 * relative, line.name, line.shape, line.to.name());
    }
    Ok(())
}

/// The logits of a few tokens, which need no tokenizer.
fn logits(path: &Path) -> Result<Vec<f32>, Box<dyn Error>> {
    let loaded = recipes::load(path)?;
    let tokens = Array2::from_shape_fn((1, 11), |(_, i)| (i * i + 3) as u32);
    Ok(loaded.model.logits(tokens.view(), Positions::All, &mut Pass::infer())?.to_vec::<f32>()?)
}
