//! What a file and a model disagree about, known before a number is read.

use std::{collections::HashSet, fmt};

use formwork_formats::{Archive, Entry};
use formwork_module::{Error, Param, Result, config::nearest};

use crate::Plan;

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

/// Unused names among which a neighbour is looked for.
const CANDIDATES: usize = 1000;

impl Report {
    /// Compares names and shapes; reads no numbers.
    pub fn compare(params: &[(String, Param)], archive: &Archive) -> Self {
        let named = params.iter().map(|(name, param)| (name.as_str(), &param.shape()[..]));
        Self::between(named, archive, &|_| false)
    }

    /// Compares a plan with an archive, in the plan's names; its inert tensors may be there or not.
    pub(crate) fn of(plan: &Plan, archive: &Archive) -> Self {
        let named = plan.tensors().iter().map(|whole| (whole.name.as_str(), &whole.shape[..]));
        Self::between(named, archive, &|name| plan.names().is_inert(name))
    }

    fn between<'a>(
        wanted: impl Iterator<Item = (&'a str, &'a [usize])>,
        archive: &Archive,
        is_inert: &dyn Fn(&str) -> bool,
    ) -> Self {
        let wanted: Vec<_> = wanted.collect();
        let known: HashSet<&str> = wanted.iter().map(|(name, _)| *name).collect();
        let unused = archive.entries().filter(|e| !known.contains(e.name()) && !is_inert(e.name()));
        let found = |entry: &Entry| Found { name: entry.name().to_owned(), shape: entry.shape().to_vec() };
        let mut report = Report { unused: unused.map(found).collect(), ..Report::default() };
        for (name, shape) in wanted {
            match archive.entry(name) {
                None => {
                    let unused = report.unused.iter().map(|f| f.name.as_str());
                    // A message shows the first few; looking for a neighbour of each of thousands would take minutes.
                    let nearest = match report.missing.len() < SHOWN {
                        true => nearest(name, unused.take(CANDIDATES)).map(str::to_owned),
                        false => None,
                    };
                    report.missing.push(Missing { name: name.to_owned(), shape: shape.to_vec(), nearest });
                }
                Some(entry) if entry.shape() != shape => {
                    let (expected, found) = (shape.to_vec(), entry.shape().to_vec());
                    report.reshaped.push(Reshaped { name: name.to_owned(), expected, found });
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
