//! The few options that examples take.

use std::path::PathBuf;

use formwork::{At, Error, Result, train::TrainPrecision};

use crate::repository_text;

const HELP: &str = "\
The options of the examples; what an example does with them stands at the top of its file.
  --tiny             finish in seconds
  --text FILE        learn from this text
  --model PATH       use this model: a folder or a GGUF file
  --out FOLDER       leave what is written there
  --precision bf16   train with products in bf16";

/// `--tiny`, `--text FILE`, `--model FOLDER`, `--out FOLDER`, `--precision bf16`, and words that are none of them.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Finish in seconds, for tests.
    pub tiny: bool,
    /// A text to use instead of the example's own.
    pub text: Option<PathBuf>,
    /// A model's folder to use instead of the example's own.
    pub model: Option<PathBuf>,
    /// Where to leave what the example writes.
    pub out: Option<PathBuf>,
    /// The numbers that products of training are computed in.
    pub precision: TrainPrecision,
    /// Everything else, in order.
    pub rest: Vec<String>,
}

impl Options {
    /// Reads the program's arguments.
    ///
    /// # Errors
    /// An option that no example has, or one without its value.
    pub fn from_args() -> Result<Self> {
        let mut options = Self::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| Error::invalid(&arg, "a word after it", "nothing"));
            match arg.as_str() {
                "--tiny" => options.tiny = true,
                "--text" => options.text = Some(value()?.into()),
                "--model" => options.model = Some(value()?.into()),
                "--out" => options.out = Some(value()?.into()),
                "--precision" => options.precision = precision(&value()?)?,
                "--help" => {
                    println!("{HELP}");
                    std::process::exit(0);
                }
                other if other.starts_with("--") => {
                    return Err(Error::invalid(
                        "option",
                        "one of --tiny, --text, --model, --out, --precision",
                        other,
                    ));
                }
                _ => options.rest.push(arg),
            }
        }
        Ok(options)
    }

    /// The text of `--text`, or the repository's own.
    ///
    /// # Errors
    /// A file that cannot be read, or one without text.
    pub fn text(&self) -> Result<String> {
        let Some(file) = &self.text else { return repository_text() };
        let text = std::fs::read_to_string(file).map_err(Error::external).in_file(file.display())?;
        match text.trim().is_empty() {
            true => {
                Err(Error::invalid("text", "something to learn from", "an empty file")
                    .in_file(file.display()))
            }
            false => Ok(text),
        }
    }
}

fn precision(word: &str) -> Result<TrainPrecision> {
    match word {
        "f32" => Ok(TrainPrecision::F32),
        "bf16" => Ok(TrainPrecision::Bf16),
        other => Err(Error::invalid("--precision", "f32 or bf16", other)),
    }
}

/// The folder for a run: `--out`, or the next free `runs/NAME-1`, `runs/NAME-2`, .. under the working directory.
///
/// # Errors
/// What the system says.
pub fn run_folder(options: &Options, name: &str) -> Result<PathBuf> {
    if let Some(out) = &options.out {
        return Ok(out.clone());
    }
    std::fs::create_dir_all("runs").map_err(Error::external).in_file("runs")?;
    let free = (1..).map(|i| PathBuf::from(format!("runs/{name}-{i}"))).find(|path| !path.exists());
    Ok(free.unwrap_or_else(|| PathBuf::from("runs").join(name)))
}
