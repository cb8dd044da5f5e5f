//! What a file and a model disagree about, known before a number is read.

use std::fmt;

use formwork_formats::Archive;
use formwork_module::{Error, Param, Result, config::nearest};

/// The differences between the tensors of an archive and the parameters of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Parameters that the archive does not have.
    pub missing: Vec<Missing>,
    /// Tensors that the model does not have.
    pub unused: Vec<Found>,
    /// Names that both have, with different shapes.
    pub reshaped: Vec<Reshaped>,
}

/// A parameter without a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The parameter's name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// An unused tensor whose name is close, if there is one.
    pub nearest: Option<String>,
}

/// A tensor without a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The tensor's name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// A name with two shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshaped {
    /// The name.
    pub name: String,
    /// The model's shape.
    pub expected: Vec<usize>,
    /// The archive's shape.
    pub found: Vec<usize>,
}

/// Entries of each list that a message names; a wrong file differs in hundreds.
const SHOWN: usize = 5;

impl Report {
    /// Compares names and shapes; reads no numbers.
    pub fn compare(params: &[(String, Param)], archive: &Archive) -> Self {
        let mut report = Report::default();
        let known: std::collections::HashMap<&str, &Param> =
            params.iter().map(|(n, p)| (n.as_str(), p)).collect();
        for entry in archive.entries().filter(|e| !known.contains_key(e.name())) {
            report.unused.push(Found { name: entry.name().to_owned(), shape: entry.shape().to_vec() });
        }
        for (name, param) in params {
            let shape = param.shape().to_vec();
            match archive.entry(name) {
                None => {
                    let unused = report.unused.iter().map(|f| f.name.as_str());
                    let nearest = nearest(name, unused).map(str::to_owned);
                    report.missing.push(Missing { name: name.clone(), shape, nearest });
                }
                Some(entry) if entry.shape() != shape => {
                    let found = entry.shape().to_vec();
                    report.reshaped.push(Reshaped { name: name.clone(), expected: shape, found });
                }
                Some(_) => {}
            }
        }
        report
    }

    /// Whether the archive holds exactly the model's parameters.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.reshaped.is_empty()
    }

    /// # Errors
    /// Any difference at all, with the first few of each sort named.
    pub fn check(&self) -> Result<()> {
        if self.is_clean() {
            return Ok(());
        }
        Err(Error::invalid("checkpoint", "exactly the tensors of the model", self)
            .hint("the config may belong to another checkpoint"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reshaped =
            self.reshaped.iter().map(|r| format!("{} is {:?} instead of {:?}", r.name, r.found, r.expected));
        let missing = self.missing.iter().map(|m| match &m.nearest {
            Some(nearest) => format!("{} {:?} (is it {nearest}?)", m.name, m.shape),
            None => format!("{} {:?}", m.name, m.shape),
        });
        let unused = self.unused.iter().map(|u| format!("{} {:?}", u.name, u.shape));
        let lists: [(&str, Vec<String>); 3] =
            [("reshaped", reshaped.collect()), ("missing", missing.collect()), ("unused", unused.collect())];
        let mut first = true;
        for (what, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
            let separator = if std::mem::take(&mut first) { "" } else { "; " };
            write!(f, "{separator}{} {what}: {}", names.len(), names[..names.len().min(SHOWN)].join(", "))?;
            if names.len() > SHOWN {
                write!(f, " and {} more", names.len() - SHOWN)?;
            }
        }
        if first { f.write_str("no difference") } else { Ok(()) }
    }
}
