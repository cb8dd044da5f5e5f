//! From one layout to another, tensor by tensor: a folder, ours or a published one, and a GGUF file, in every direction.
//!
//! No model is built: a tensor is read, reordered as the other layout wants it, stored in the type that is asked for, and
//! let go. Without a type, stored types are kept and nothing is lost:
//!
//! - matrices keep their bytes; only their rows (RoPE pairs) and axes move;
//! - vectors, which readers of GGUF expect in 32 bits, are widened exactly, and narrowed back on the way back;
//! - what the other side has no place for travels with it: a folder's files in keys `formwork.file.*` of the metadata,
//!   metadata in a file `metadata.gguf` of the folder.

mod agree;
mod described;
mod folder;
mod gguf;
mod report;

use std::{cell::RefCell, path::Path, str::FromStr};

use formwork_checkpoint::{
    Numbers, Part, Plan, Whole, format_of,
    names::{Names, Piece},
};
use formwork_formats::{Archive, Bytes, Dtype};
use formwork_kernels::blocks::Format;
use formwork_model::{
    Builder, HeadConfig, ModelConfig, Outline,
    position::Pairs,
    published::{Family, with_pairs},
};
use formwork_module::{At, DType, Error, Result, Tensor};
use formwork_quant::{Role, TensorError, encode};

pub use report::{Conversion, Line};

use crate::{
    layout::{Layout, is_gguf},
    opened::Opened,
};

/// What a conversion is to do beside changing the layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Convert {
    /// The type in which matrices are to be stored; `None` keeps what each has.
    pub dtype: Option<StoredType>,
}

/// A type in which a file can hold a matrix: `f32`, or any [`Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// 32-bit numbers.
    F32,
    /// 16-bit numbers or blocks.
    Format(Format),
}

impl std::fmt::Display for StoredType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::Format(format) => format.fmt(f),
        }
    }
}

impl FromStr for StoredType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match Format::from_name(name) {
            Some(format) => Ok(Self::Format(format)),
            None if name.eq_ignore_ascii_case("f32") => Ok(Self::F32),
            None => {
                let names: Vec<_> = Format::ALL.iter().map(|format| format.name()).collect();
                Err(Error::invalid("type", format_args!("one of f32, {}", names.join(", ")), name))
            }
        }
    }
}

/// Writes the model at `src` to `dst`: a path that ends in `.gguf` is a GGUF file, any other a published folder.
///
/// # Errors
/// Those of [`load`](crate::load) for `src`; a model that the other layout cannot say, a type that it does not have, a number
/// that the type cannot hold, and what the system says. `dst` is then as it was, but for small files of a folder.
///
/// ```
/// use formwork_model::ModelConfig;
/// use formwork_recipes::{Convert, convert, load, save};
///
/// # let config = ModelConfig::from_json(r#"{
/// #     "schema": 1, "name": "tiny", "vocab": 256, "context": 16, "dim": 8,
/// #     "blocks": {"layers": 2, "each": {
/// #         "kind": "pre_norm",
/// #         "attn_norm": {"kind": "rms", "eps": 1e-5},
/// #         "attn": {"kind": "multi_head", "heads": 2, "position": {"kind": "rope", "theta": 1e4, "pairs": "halves"}},
/// #         "ffn_norm": {"kind": "rms", "eps": 1e-5},
/// #         "ffn": {"kind": "gated", "hidden": 16, "activation": {"kind": "silu"}}
/// #     }},
/// #     "norm": {"kind": "rms", "eps": 1e-5}, "head": {"kind": "tied"}, "init": {"std": 0.02}
/// # }"#)?;
/// # let folder = tempfile::tempdir().expect("a folder for the test");
/// let (ours, file) = (folder.path().join("ours"), folder.path().join("tiny.gguf"));
/// save(&ours, &config.build(&formwork_module::Seed::new(1))?, None)?;
/// let report = convert(&ours, &file, &Convert { dtype: Some("f16".parse()?) })?;
/// assert_eq!(report.tensors.len(), 2 + 2 * 9);
/// assert!(report.tensors[0].error.is_some_and(|error| error.relative < 1e-3));
/// assert_eq!(load(&file)?.model.config().blocks.len(), 2);
/// # Ok::<(), formwork_module::Error>(())
/// ```
pub fn convert(src: impl AsRef<Path>, dst: impl AsRef<Path>, options: &Convert) -> Result<Conversion> {
    let (src, dst) = (src.as_ref(), dst.as_ref());
    if let (Ok(from), Ok(to)) = (src.canonicalize(), dst.canonicalize())
        && (from == to)
    {
        return Err(Error::invalid("convert", "another place to write to", dst.display()));
    }
    let source = Converted::open(src)?;
    let mut report = match is_gguf(dst) {
        true => gguf::write(&source, dst, options),
        false => folder::write(&source, dst, options),
    }?;
    report.notes.splice(0..0, source.opened.notes.iter().cloned());
    Ok(report)
}

/// A model that is being converted.
struct Converted {
    opened: Opened,
    family: Family,
    /// The model with its RoPE pairs in halves: between a folder and a GGUF file, the names of the latter permute.
    config: ModelConfig,
    /// Every parameter with its shape.
    params: Vec<(String, Vec<usize>)>,
    /// Where the parameters stand in the source.
    plan: Plan,
}

impl Converted {
    fn open(src: &Path) -> Result<Self> {
        let opened = Opened::open(src)?;
        let config = with_pairs(&opened.config, Pairs::Halves);
        let (family, names) = match opened.layout {
            Layout::Published(family) => (family, opened.names.clone()),
            Layout::Gguf(family) => (family, family.gguf_names(&config)?.fitted(&opened.archive)),
            Layout::Ours => {
                let family = Family::of(&config).in_file(opened.home.display())?;
                (family, ours(&opened, family, &config)?)
            }
        };
        let outline = Outline::of(&Builder::new(config.clone()))?;
        let params: Vec<_> = outline.lines.into_iter().map(|line| (line.name, line.shape.to_vec())).collect();
        let plan = Plan::new(params.iter().cloned(), &names)?;
        plan.report(&opened.archive).check().in_file(opened.weights.display())?;
        Ok(Self { opened, family, config, params, plan })
    }

    fn archive(&self) -> &Archive {
        &self.opened.archive
    }

    /// What a tensor is, as far as its precision goes; `None` for what is no matrix.
    fn role(&self, whole: &Whole) -> Option<Role> {
        let ours = whole.parts.first()?.ours.as_str();
        let tied = matches!(self.config.head, HeadConfig::Tied {});
        Some(match ours {
            _ if whole.shape.len() != 2 => return None,
            "embed.tokens.weight" if tied => Role::Head,
            "embed.tokens.weight" => Role::Table,
            "head.weight" => Role::Head,
            _ if ours.starts_with("embed.") => Role::Positions,
            _ => Role::Matrix,
        })
    }

    /// The type in which the source holds a tensor of the target: that of its parts, the widest where they differ.
    fn stored(&self, whole: &Whole) -> Result<Dtype> {
        let types = whole.parts.iter().map(|part| self.dtype(&part.ours)).collect::<Result<Vec<_>>>()?;
        Ok(match types.first() {
            Some(first) if types.iter().all(|dtype| dtype == first) => *first,
            _ => Dtype::F32,
        })
    }

    /// The type in which the source holds a parameter.
    fn dtype(&self, ours: &str) -> Result<Dtype> {
        let (whole, _) = self.plan.place(ours)?;
        let entry = self.archive().entry(&whole.name).ok_or_else(|| Error::missing(&whole.name))?;
        Ok(entry.dtype())
    }
}

/// Our own names; with the rows of q and k reordered where the model has interleaved pairs.
fn ours(opened: &Opened, family: Family, halves: &ModelConfig) -> Result<Names> {
    if opened.config == *halves {
        return Ok(Names::identity());
    }
    let table = family.gguf_names(halves)?;
    let piece = |piece: &Piece| Piece { heads: piece.heads, ..Piece::new(&piece.ours, &piece.ours) };
    Ok(Names::new(table.pieces().iter().map(piece)))
}

/// Hands the parameters of the source to a writer, each in the type that it is to be stored in, and keeps count.
struct Transfer<'a> {
    source: &'a Converted,
    lines: RefCell<Vec<Line>>,
    /// The pages of the parameter before, which are no longer needed.
    before: RefCell<Option<Bytes>>,
}

impl<'a> Transfer<'a> {
    fn new(source: &'a Converted) -> Self {
        Self { source, lines: RefCell::default(), before: RefCell::default() }
    }

    fn numbers(&self, whole: &Whole, part: &Part, to: Dtype) -> Result<Numbers> {
        let from = self.source.dtype(&part.ours)?;
        let bytes = self.source.plan.bytes(self.source.archive(), &part.ours)?;
        if let Some(before) = self.before.replace(Some(bytes.clone())) {
            before.release();
        }
        let stored = Numbers::Stored { dtype: from, bytes };
        let (numbers, error) = if from == to { (stored, None) } else { cast(stored, part, to)? };
        let name = match whole.parts.len() {
            1 => whole.name.clone(),
            _ => format!("{} ({})", whole.name, part.ours),
        };
        self.lines.borrow_mut().push(Line { name, shape: part.shape.clone(), from, to, error });
        Ok(numbers)
    }

    fn finish(self) -> Conversion {
        if let Some(before) = self.before.take() {
            before.release();
        }
        Conversion { tensors: self.lines.into_inner(), notes: Vec::new() }
    }
}

/// Numbers in another type, and what they lost.
fn cast(numbers: Numbers, part: &Part, to: Dtype) -> Result<(Numbers, Option<TensorError>)> {
    let exact = numbers.dtype();
    let wide = numbers.into_tensor(&part.shape)?;
    let narrowed = (wide.dtype() == DType::F64).then(|| narrow(&wide)).transpose()?;
    let wide = narrowed.unwrap_or(wide);
    let Some(format) = format_of(to) else {
        // From 16 bits or blocks nothing is lost; from 64 bits half an ulp, which no one would look at.
        return match to {
            Dtype::F32 => Ok((Numbers::Tensor(wide), None)),
            _ => {
                Err(Error::invalid("type", "one that a converter can write", format_args!("{exact} to {to}")))
            }
        };
    };
    let columns = part.shape.last().copied().unwrap_or(1);
    let encoded = encode(format, wide.slice()?, columns).at(&part.ours)?;
    let stored = Numbers::Stored { dtype: to, bytes: encoded.bytes.into() };
    Ok((stored, Some(encoded.error).filter(|error| error.max > 0.0)))
}

fn narrow(wide: &Tensor) -> Result<Tensor> {
    let numbers: &[f64] = wide.slice()?;
    let narrow: Vec<f32> = numbers.iter().map(|&x| x as f32).collect();
    match numbers.iter().zip(&narrow).position(|(wide, narrow)| wide.is_finite() && narrow.is_infinite()) {
        Some(at) => Err(Error::invalid("type", "numbers that 32 bits can hold", numbers[at])),
        None => Tensor::from_vec(narrow, wide.shape()),
    }
}
