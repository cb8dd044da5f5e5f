//! How the tensors of a published layout are called, and how they differ from a model's parameters, as data.
//!
//! A family has one table per layout. A row ([`Piece`]) says that one of our parameters is, or is part of, one of their
//! tensors. Rows with the same `theirs` are stacked along the output axis in table order: a fused projection.
//!
//! | ours | theirs | means |
//! |---|---|---|
//! | `[out, in]` | `[out, in]` | the same numbers |
//! | `[out, in]` | [`Transposed`](Order::Transposed): `[in, out]` | their columns are our rows |
//! | `[a, in]`, `[b, in]` | `[a + b, in]`, or `[in, a + b]` | two rows with one `theirs` |
//! | `[h·e, in]` or `[h·e]` | `heads: Some(h)` | rows of each head reordered, see below |
//!
//! **Heads.** A rotary encoding turns pairs of numbers of a head. They stand either apart by half its width, `(i, i + e/2)`,
//! or side by side, `(2i, 2i + 1)`. With `heads: Some(h)` ours are halves and theirs are side by side: their row `2i` of a
//! head is our row `i`, their row `2i + 1` is our row `e/2 + i`. A layout whose pairs stand as the model's do says `None`.
//!
//! ```
//! use formwork_checkpoint::names::{Names, Order, Piece};
//!
//! let fused = |part: &str| Piece::new(format!("attn.{part}.weight"), "h.0.attn.c_attn.weight").transposed();
//! let names = Names::new([Piece::new("embed.tokens.weight", "transformer.wte.weight")])
//!     .and(["q", "k", "v"].map(fused)) // stacked: q, then k, then v
//!     .prefix("transformer.") // may be missing in front of every name
//!     .inert(["*.attn.bias", "*.rotary_emb.inv_freq"]) // buffers that hold nothing a model needs
//!     .tied("lm_head.weight", "transformer.wte.weight"); // may be there a second time
//! assert_eq!(names.pieces().len(), 4);
//! assert_eq!(names.pieces()[3].order, Order::Transposed);
//! assert!(names.is_inert("transformer.h.7.attn.bias") && !names.is_inert("h.7.attn.c_attn.bias"));
//! ```

use formwork_formats::{Archive, Bytes, Entry};

/// Bytes of a map that are read before their pages are given back.
pub(crate) const STRIPE: usize = 4 << 20;

/// How a layout stores the two axes of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// `[out, in]`, as ours; also everything that is no matrix.
    #[default]
    AsIs,
    /// `[in, out]`.
    Transposed,
}

/// A parameter of ours in a tensor of theirs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The parameter's full name, such as `blocks.3.attn.q.weight`.
    pub ours: String,
    /// The tensor's full name, such as `model.layers.3.self_attn.q_proj.weight`.
    pub theirs: String,
    /// How theirs stores the axes.
    pub order: Order,
    /// The number of heads whose rows are halves in ours and side by side in theirs; `None` where both are the same.
    pub heads: Option<usize>,
}

impl Piece {
    /// The same numbers under another name.
    pub fn new(ours: impl Into<String>, theirs: impl Into<String>) -> Self {
        Self { ours: ours.into(), theirs: theirs.into(), order: Order::AsIs, heads: None }
    }

    /// Stored as `[in, out]`.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { order: Order::Transposed, ..self }
    }

    /// Rows of `heads` heads, halves in ours, side by side in theirs.
    #[must_use]
    pub fn heads(self, heads: usize) -> Self {
        Self { heads: Some(heads), ..self }
    }
}

/// The names of a layout: see the [module](self).
///
/// The default, [`identity`](Names::identity), is our own layout: every parameter is a tensor of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// `None` for our own layout.
    table: Option<Vec<Piece>>,
    inert: Vec<String>,
    prefix: String,
    tied: Vec<Tied>,
}

/// A tensor that a file may hold a second time because the parameter is used twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tied {
    /// The second name.
    pub(crate) theirs: String,
    /// The name of the one that counts.
    pub(crate) like: String,
    /// Whether the file at hand has it.
    pub(crate) is_there: bool,
}

impl Names {
    /// Our own layout.
    pub fn identity() -> Self {
        Self::default()
    }

    /// A layout in which each parameter of a model has one row.
    pub fn new(pieces: impl IntoIterator<Item = Piece>) -> Self {
        Self { table: Some(pieces.into_iter().collect()), ..Self::default() }
    }

    /// More rows.
    #[must_use]
    pub fn and(mut self, pieces: impl IntoIterator<Item = Piece>) -> Self {
        self.table.get_or_insert_default().extend(pieces);
        self
    }

    /// Tensors that a file may hold and no model needs; `*` in a pattern stands for any characters, also none.
    #[must_use]
    pub fn inert<P: Into<String>>(mut self, patterns: impl IntoIterator<Item = P>) -> Self {
        self.inert.extend(patterns.into_iter().map(Into::into));
        self
    }

    /// What the names of the table begin with in some files and not in others; rows of other names stay as they are.
    ///
    /// The table has the names with it. A file none of whose names begins with it is read and written without.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// A tensor `theirs` that may be there a second time under the name `like`, as a head that is the token table.
    ///
    /// Where both are there and differ, they are two matrices, not one: [`untied`](Names::untied) says so. Where only
    /// `theirs` is there, it is the one.
    #[must_use]
    pub fn tied(mut self, theirs: impl Into<String>, like: impl Into<String>) -> Self {
        self.tied.push(Tied { theirs: theirs.into(), like: like.into(), is_there: false });
        self
    }

    /// The rows, in table order; none for our own layout.
    pub fn pieces(&self) -> &[Piece] {
        self.table.as_deref().unwrap_or_default()
    }

    /// Whether every parameter is a tensor of its own name.
    pub fn is_identity(&self) -> bool {
        self.table.is_none()
    }

    /// Whether a tensor of a file holds nothing that a model needs.
    pub fn is_inert(&self, theirs: &str) -> bool {
        self.inert.iter().any(|pattern| matches(pattern, theirs))
    }

    /// Second names of tensors.
    pub(crate) fn seconds(&self) -> &[Tied] {
        &self.tied
    }

    /// These names as one archive spells them: the prefix dropped where it has none, second names marked that it has, so
    /// that a file written by them has the names of the archive.
    #[must_use]
    pub fn fitted(&self, archive: &Archive) -> Self {
        let mut names = self.clone();
        let table = names.table.get_or_insert_default();
        if !self.prefix.is_empty() && !archive.entries().any(|e| e.name().starts_with(&self.prefix)) {
            let strip = |name: &mut String| {
                if let Some(rest) = name.strip_prefix(&self.prefix) {
                    *name = rest.to_owned();
                }
            };
            table.iter_mut().for_each(|piece| strip(&mut piece.theirs));
            names
                .tied
                .iter_mut()
                .for_each(|tied| [&mut tied.theirs, &mut tied.like].into_iter().for_each(strip));
            names.prefix.clear();
        }
        for tied in &mut names.tied {
            let [second, first] = [&tied.theirs, &tied.like].map(|name| archive.entry(name).is_some());
            tied.is_there = second && first;
            if second && !first {
                table
                    .iter_mut()
                    .filter(|p| p.theirs == tied.like)
                    .for_each(|p| p.theirs.clone_from(&tied.theirs));
            }
        }
        names.table = self.table.is_some().then(|| names.table.take()).flatten();
        names
    }

    /// The first second name under which a file has other bytes than under the first name, as the pair `[second, first]`.
    ///
    /// The reference implementation then takes them for two matrices whatever the config says. Compares the bytes of
    /// tensors that are there twice, and reads nothing else.
    pub fn untied(&self, archive: &Archive) -> Option<[String; 2]> {
        let differ = |tied: &&Tied| match (archive.entry(&tied.theirs), archive.entry(&tied.like)) {
            (Some(second), Some(first)) => !same(second, first),
            _ => false,
        };
        let names = self.fitted(archive);
        names.tied.iter().find(differ).map(|tied| [tied.theirs.clone(), tied.like.clone()])
    }
}

/// Whether two tensors are one, byte for byte; the pages of a map are given back on the way.
fn same(a: &Entry, b: &Entry) -> bool {
    let (x, y) = (a.bytes(), b.bytes());
    if a.dtype() != b.dtype() || a.shape() != b.shape() || x.len() != y.len() {
        return false;
    }
    let stripes = (0..x.len()).step_by(STRIPE).map(|from| from..x.len().min(from + STRIPE));
    let mut equal = stripes.map(|range| match (x.slice(range.clone()), y.slice(range)) {
        (Some(x), Some(y)) => {
            let equal = x[..] == y[..];
            [x, y].iter().for_each(Bytes::release);
            equal
        }
        _ => false,
    });
    equal.all(|equal| equal)
}

/// Whether `name` is `pattern`, in which each `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        // The earliest place leaves the most for the parts after it.
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            yes.iter().for_each(|name| assert!(matches(pattern, name), "{pattern} {name}"));
            no.iter().for_each(|name| assert!(!matches(pattern, name), "{pattern} {name}"));
        };
        check("a.bias", &["a.bias"], &["a.bias.x", "x.a.bias", ""]);
        check("*.attn.bias", &["h.0.attn.bias", ".attn.bias"], &["h.0.attn.bias2", "attn.bias"]);
        check("h.*.attn.*bias", &["h.3.attn.bias", "h.3.attn.masked_bias"], &["h.3.mlp.bias", "h.attn.bias"]);
        check("*", &["", "x"], &[]);
        check("a*a", &["aa", "aba"], &["a"]);
    }
}
