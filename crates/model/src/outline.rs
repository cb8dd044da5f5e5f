//! Every parameter of a model, by name, without its numbers.
//!
//! ```
//! use formwork_model::{Builder, Outline, presets};
//!
//! let outline = Outline::of(&Builder::new(presets::gpt2_small()))?;
//! assert_eq!(outline.lines[0].to_string(), "embed.tokens.weight [50257, 768] normal(0, 0.020000)");
//! assert_eq!(outline.lines.len(), 2 + 12 * 16 + 2);
//! assert_eq!(outline.parameters(), 124_439_808);
//! assert!(outline.collapsed().contains("blocks.*.attn.q.weight [768, 768] normal(0, 0.020000) × 12\n"));
//! # Ok::<(), formwork_model::Error>(())
//! ```

use std::fmt::{self, Write};

use formwork_module::{Init, Module, Shape, params};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{Builder, Result, count::sum};

/// One parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its full name, such as `blocks.3.attn.q.weight`.
    pub name: String,
    /// The lengths of its axes.
    pub shape: Shape,
    /// How a seed draws it.
    pub init: Init,
}

/// Name, shape, init.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.shape, self.init)
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_struct("Line", 3)?;
        line.serialize_field("name", &self.name)?;
        line.serialize_field("shape", &self.shape[..])?;
        line.serialize_field("init", &self.init.to_string())?;
        line.end()
    }
}

/// The parameters of a model in building order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Outline {
    /// One line per parameter; a tied head has none of its own.
    pub lines: Vec<Line>,
}

impl Outline {
    /// The outline of what a builder would build; no memory is taken for weights.
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn of(builder: &Builder) -> Result<Self> {
        Ok(Self::shown_by(&builder.build(&formwork_module::Outline)?))
    }

    /// The outline of a module that is built already.
    pub fn shown_by<M: Module + ?Sized>(module: &M) -> Self {
        let line = |(name, param): (String, formwork_module::Param)| Line {
            name,
            shape: *param.shape(),
            init: param.init(),
        };
        Self { lines: params(module).into_iter().map(line).collect() }
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        sum(self.lines.iter().map(|line| line.shape.len() as u64))
    }

    /// The outline as text, with one line for what all layers repeat: `blocks.*.attn.q.weight [768, 768] .. × 12`.
    pub fn collapsed(&self) -> String {
        let mut groups: Vec<(Line, usize)> = Vec::new();
        for line in &self.lines {
            let line = Line { name: starred(&line.name), ..line.clone() };
            match groups.iter_mut().find(|(known, _)| *known == line) {
                Some((_, count)) => *count += 1,
                None => groups.push((line, 1)),
            }
        }
        let mut text = String::new();
        for (line, count) in groups {
            let times = if line.name.contains('*') { format!(" × {count}") } else { String::new() };
            writeln!(text, "{line}{times}").expect("a string takes everything");
        }
        text
    }
}

/// One line per parameter.
impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// The name with `*` in place of every number: what the layers' names have in common.
pub(crate) fn starred(name: &str) -> String {
    let segment = |s: &str| if s.bytes().all(|b| b.is_ascii_digit()) { "*".to_owned() } else { s.to_owned() };
    name.split('.').map(segment).collect::<Vec<_>>().join(".")
}
