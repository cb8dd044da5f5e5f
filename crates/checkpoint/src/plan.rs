//! Where each parameter of a model stands in the tensors of a layout: [`Names`] with the shapes of a model.
//!
//! The table knows names; how many rows of a fused tensor are whose follows from the shapes of our parameters.
//!
//! ```
//! use formwork_checkpoint::{Plan, names::{Names, Piece}};
//!
//! let fused = |part: &str| Piece::new(part, "qkv").transposed();
//! let shapes = [("q", vec![6, 4]), ("k", vec![2, 4]), ("v", vec![2, 4])];
//! let plan = Plan::new(shapes, &Names::new(["q", "k", "v"].map(fused)))?;
//! let [qkv] = plan.tensors() else { unreachable!("all three are one tensor") };
//! assert_eq!((&*qkv.name, &qkv.shape[..]), ("qkv", &[4, 10][..]));
//! assert_eq!((&*qkv.parts[2].ours, qkv.parts[2].start), ("v", 8));
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::collections::HashMap;

use formwork_formats::{Archive, Dtype, Entry};
use formwork_module::{Error, Held, Result};

use crate::{
    Report,
    names::{Names, Order},
    types::format_of,
};

/// A tensor of a layout, and the parameters that it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its name.
    pub name: String,
    /// The lengths of its axes.
    pub shape: Vec<usize>,
    /// How its axes stand.
    pub order: Order,
    /// Our parameters in it, along the output axis.
    pub parts: Vec<Part>,
}

/// A parameter in a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The parameter's full name.
    pub ours: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Where on the output axis of the tensor it begins.
    pub start: usize,
    /// Heads whose rows are halves in ours and side by side in theirs.
    pub heads: Option<usize>,
}

impl Part {
    /// Length of its output axis; a single number is one row.
    pub(crate) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Numbers in a row.
    pub(crate) fn width(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// The row of theirs, counted from [`start`](Part::start), that is our row `row`.
    pub(crate) fn their_row(&self, row: usize) -> usize {
        let Some(heads) = self.heads else { return row };
        let e = self.rows() / heads;
        let (head, at) = (row / e, row % e);
        head * e + 2 * (at % (e / 2)) + at / (e / 2)
    }

    /// The row of ours that is their row `row`, counted from [`start`](Part::start).
    pub(crate) fn our_row(&self, row: usize) -> usize {
        let Some(heads) = self.heads else { return row };
        let e = self.rows() / heads;
        let (head, at) = (row / e, row % e);
        head * e + (at % 2) * (e / 2) + at / 2
    }
}

/// The tensors of a layout for one model.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    tensors: Vec<Whole>,
    /// Tensor and part of each parameter.
    places: HashMap<String, (usize, usize)>,
    /// Index of each tensor by its name.
    index: HashMap<String, usize>,
    names: Names,
}

impl Plan {
    /// Places parameters, given with their shapes, as a table says; rows for parameters that the model does not have are
    /// passed over.
    ///
    /// # Errors
    /// A parameter without a row or with two, parts of one tensor that do not fit together, a transposed tensor that is no
    /// matrix, heads that do not divide the rows or are of odd width.
    pub fn new<N: Into<String>, S: Into<Vec<usize>>>(
        params: impl IntoIterator<Item = (N, S)>,
        names: &Names,
    ) -> Result<Self> {
        let params: Vec<(String, Vec<usize>)> =
            params.into_iter().map(|(name, shape)| (name.into(), shape.into())).collect();
        let mut plan = Self { names: names.clone(), ..Self::default() };
        if names.is_identity() {
            for (name, shape) in params {
                let part = Part { ours: name.clone(), shape, start: 0, heads: None };
                plan.add(&name, Order::AsIs, part)?;
            }
        } else {
            let shapes: HashMap<&str, &Vec<usize>> = params.iter().map(|(n, s)| (n.as_str(), s)).collect();
            for piece in names.pieces() {
                let Some(shape) = shapes.get(piece.ours.as_str()) else { continue };
                let (ours, shape, heads) = (piece.ours.clone(), shape.to_vec(), piece.heads);
                plan.add(&piece.theirs, piece.order, Part { ours, shape, start: 0, heads })?;
            }
            if let Some((name, _)) = params.iter().find(|(name, _)| !plan.places.contains_key(name)) {
                let error = Error::missing(format_args!("a name for {name} in this layout"));
                return Err(
                    error.hint("the layout has no place for it; keep the model in a folder of this project")
                );
            }
        }
        let there = names.seconds().iter().filter(|tied| tied.is_there);
        let seconds: Vec<Whole> = there
            .filter_map(|tied| {
                let first = plan.tensor(&tied.like)?;
                Some(Whole { name: tied.theirs.clone(), ..first.clone() })
            })
            .collect();
        for second in seconds {
            plan.index.insert(second.name.clone(), plan.tensors.len());
            plan.tensors.push(second);
        }
        Ok(plan)
    }

    /// The same for all that a model holds.
    ///
    /// # Errors
    /// Those of [`Plan::new`].
    pub fn of(held: &[(String, Held)], names: &Names) -> Result<Self> {
        Self::new(held.iter().map(|(name, held)| (name.as_str(), held.shape())), names)
    }

    /// The tensors, in the order of the table.
    pub fn tensors(&self) -> &[Whole] {
        &self.tensors
    }

    /// The names it was made with.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The tensor of this name.
    pub fn tensor(&self, theirs: &str) -> Option<&Whole> {
        self.index.get(theirs).map(|&index| &self.tensors[index])
    }

    /// The tensor in which a parameter stands, and its part of it.
    ///
    /// # Errors
    /// A parameter that the plan does not have.
    pub fn place(&self, ours: &str) -> Result<(&Whole, &Part)> {
        match self.places.get(ours) {
            Some(&(tensor, part)) => Ok((&self.tensors[tensor], &self.tensors[tensor].parts[part])),
            None => Err(Error::missing(format_args!("a place for {ours} in the checkpoint"))),
        }
    }

    /// What a file and the plan disagree about; reads no numbers.
    pub fn report(&self, archive: &Archive) -> Report {
        Report::of(self, archive)
    }

    fn add(&mut self, theirs: &str, order: Order, mut part: Part) -> Result<()> {
        let refused = |expected: String, found: String| {
            Err(Error::shape("checkpoint names", expected, found).at(&part.ours).at(theirs))
        };
        if order == Order::Transposed && part.shape.len() != 2 {
            return refused("a matrix where the axes are swapped".to_owned(), format!("{:?}", part.shape));
        }
        if let Some(heads) = part.heads
            && (heads == 0 || part.rows() == 0 || !part.rows().is_multiple_of(heads.saturating_mul(2)))
        {
            return refused(format!("rows of {heads} heads of even width"), format!("{:?}", part.shape));
        }
        let out = if order == Order::Transposed { 1 } else { 0 };
        let mut shape = part.shape.clone();
        if order == Order::Transposed {
            shape.reverse();
        }
        let index = match self.index.get(theirs).copied() {
            None => {
                self.index.insert(theirs.to_owned(), self.tensors.len());
                self.tensors.push(Whole { name: theirs.to_owned(), shape, order, parts: Vec::new() });
                self.tensors.len() - 1
            }
            Some(index) => {
                let whole = &mut self.tensors[index];
                let mut joined = whole.shape.clone();
                let fits = whole.order == order
                    && joined.len() == shape.len()
                    && !shape.is_empty()
                    && (0..shape.len()).all(|axis| axis == out || joined[axis] == shape[axis]);
                if !fits {
                    return refused(
                        format!("parts that stack to one tensor with {joined:?}"),
                        format!("{shape:?}"),
                    );
                }
                part.start = joined[out];
                joined[out] += shape[out];
                whole.shape = joined;
                index
            }
        };
        let parts = &mut self.tensors[index].parts;
        parts.push(part);
        let place = (index, parts.len() - 1);
        let ours = &parts[place.1].ours;
        if self.places.contains_key(ours) {
            return Err(Error::invalid("checkpoint names", "one row for each parameter", "two").at(ours));
        }
        self.places.insert(ours.clone(), place);
        Ok(())
    }
}

/// The rows of a part as an entry of their own, where they stand in the file as they do in the model.
pub(crate) fn plain(whole: &Whole, part: &Part, entry: &Entry) -> Result<Option<Entry>> {
    if whole.order != Order::AsIs || part.heads.is_some() {
        return Ok(None);
    }
    if part.shape == whole.shape {
        return Ok(Some(entry.clone()));
    }
    entry.rows(part.start..part.start + part.rows()).map(Some).map_err(Error::external)
}

/// The tensor of an archive, checked against the plan.
pub(crate) fn entry<'a>(archive: &'a Archive, whole: &Whole) -> Result<&'a Entry> {
    let Some(entry) = archive.entry(&whole.name) else {
        return Err(Error::missing(format_args!("a tensor named {} in the checkpoint", whole.name)));
    };
    if entry.shape() != whole.shape {
        let found = format!("{:?}", entry.shape());
        return Err(Error::shape("checkpoint", format_args!("{:?}", whole.shape), found).at(&whole.name));
    }
    Ok(entry)
}

/// The block format of a file's type, or `None` for plain numbers.
pub(crate) fn blocks(dtype: Dtype) -> Option<formwork_kernels::blocks::Format> {
    format_of(dtype).filter(|format| format.block() > 1)
}
