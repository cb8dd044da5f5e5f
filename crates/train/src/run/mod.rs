//! The folder of a run: metrics as they come, a loss curve and a summary to look at.
//!
//! | File | Holds |
//! |---|---|
//! | `metrics.jsonl` | one [`Record`] a line, appended while the run goes on |
//! | `loss.svg` | training and held-out loss over steps |
//! | `summary.txt` | what was trained, for how long, how well |
//!
//! Metrics are appended, so a killed run loses at most the line it was writing.
//! A resumed run goes on from a checkpoint: lines of steps after it are dropped, and those steps come again.
//!
//! ```
//! use formwork_train::run::{Record, RunFolder};
//! let place = tempfile::tempdir().expect("a place to write");
//! let mut run = RunFolder::create(place.path().join("first"))?;
//! run.log(&Record { loss: Some(4.25), ..Record::at(1) })?;
//! run.log(&Record { loss: Some(4.0), held_out: Some(4.125), ..Record::at(2) })?;
//!
//! let run = RunFolder::resume(place.path().join("first"), 1)?; // from a checkpoint of step 1
//! assert_eq!(run.records()?.len(), 1);
//! # Ok::<(), formwork_module::Error>(())
//! ```

pub mod chart;
mod curve;
mod record;
mod summary;
mod ticks;

pub use curve::Curve;
pub use record::Record;
pub use summary::Summary;

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use formwork_formats::atomic_write;
use formwork_module::{Error, Result};

/// Name of the metrics in a run folder.
pub const METRICS: &str = "metrics.jsonl";
/// Name of the loss curve in a run folder.
pub const CURVE: &str = "loss.svg";
/// Name of the summary in a run folder.
pub const SUMMARY: &str = "summary.txt";

/// A folder that a run writes to. It may hold other things, such as checkpoints.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    metrics: File,
}

impl RunFolder {
    /// Starts a run in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// A folder that holds a run already, or cannot be written to.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|e| refused(&path, "a folder for the run", e))?;
        let metrics = path.join(METRICS);
        match File::options().append(true).create_new(true).open(&metrics) {
            Ok(file) => Ok(Self { path, metrics: file }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::invalid(
                path.display(),
                "a folder without a run",
                format_args!("one with {METRICS}"),
            )
            .hint("resume that run, or choose another folder")),
            Err(e) => Err(refused(&metrics, "a file to append to", e)),
        }
    }

    /// Goes on with a run after `step`: lines of later steps, and a last line that a kill cut short, are dropped.
    ///
    /// # Errors
    /// A folder without a run, one that cannot be written to, or metrics with a broken line before the last.
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        let metrics = path.join(METRICS);
        let text = read(&metrics)?;
        // The lines themselves are kept, so that fields of another version survive.
        let kept: String = lines(&text, &metrics)?
            .into_iter()
            .filter(|(_, record)| record.step <= step)
            .flat_map(|(line, _)| [line, "\n"])
            .collect();
        if kept != text {
            atomic_write(&metrics, kept.as_bytes()).map_err(Error::external)?;
        }
        let file = File::options()
            .append(true)
            .open(&metrics)
            .map_err(|e| refused(&metrics, "a file to append to", e))?;
        Ok(Self { path, metrics: file })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line to the metrics.
    ///
    /// # Errors
    /// A file that cannot be written to.
    pub fn log(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).map_err(Error::external)?;
        line.push('\n');
        // One write, so that a reader never sees half a line of a living run.
        let written = self.metrics.write_all(line.as_bytes());
        written.map_err(|e| refused(&self.path.join(METRICS), "room for a line", e))
    }

    /// All that was logged, earlier parts of a resumed run included.
    ///
    /// # Errors
    /// A file that cannot be read, or a broken line before the last.
    pub fn records(&self) -> Result<Vec<Record>> {
        records(&self.path)
    }

    /// Draws the loss curve of all that was logged.
    ///
    /// # Errors
    /// Those of [`records`](Self::records), and a folder that cannot be written to.
    pub fn write_curve(&self, curve: &Curve) -> Result<()> {
        let svg = curve.chart(&self.records()?).to_svg();
        atomic_write(self.path.join(CURVE), svg.as_bytes()).map_err(Error::external)
    }

    /// Writes the summary of all that was logged.
    ///
    /// # Errors
    /// Those of [`records`](Self::records), and a folder that cannot be written to.
    pub fn write_summary(&self, summary: &Summary) -> Result<()> {
        let text = summary.text(&self.records()?);
        atomic_write(self.path.join(SUMMARY), text.as_bytes()).map_err(Error::external)
    }
}

/// The metrics in a run folder, without opening it for writing.
///
/// # Errors
/// A folder without a run, or metrics with a broken line before the last.
pub fn records(folder: impl AsRef<Path>) -> Result<Vec<Record>> {
    let metrics = folder.as_ref().join(METRICS);
    let text = read(&metrics)?;
    Ok(lines(&text, &metrics)?.into_iter().map(|(_, record)| record).collect())
}

fn read(metrics: &Path) -> Result<String> {
    let bytes = fs::read(metrics).map_err(|e| refused(metrics, "the metrics of a run", e))?;
    // A kill can cut a character in two; the line it stands in is then the last and broken.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Each line with what it says; the last may be cut short, and is then left out.
fn lines<'t>(text: &'t str, metrics: &Path) -> Result<Vec<(&'t str, Record)>> {
    let mut found = Vec::new();
    let count = text.lines().count();
    for (i, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(record) => found.push((line, record)),
            Err(_) if i + 1 == count => break,
            Err(e) => {
                let place = format!("{}, line {}", metrics.display(), i + 1);
                return Err(Error::invalid(place, "a record of metrics", e).hint("remove the line by hand"));
            }
        }
    }
    Ok(found)
}

fn refused(path: &Path, expected: impl Display, error: io::Error) -> Error {
    Error::invalid(path.display(), expected, error)
}
