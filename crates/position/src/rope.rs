//! Rotary position embedding.
//!
//! Queries and keys are turned in `w/2` planes: pair `i` of a head at position `p` by the angle `p · θ^(−2i/w)`, so that
//! a score depends on the distance of the two positions. `x`, `y`: `[b, t, heads, e]`; the rotary width `w` is `e` or
//! less, and what is past it stays as it is. A [`RopeScaling`] gives other frequencies, for contexts longer than those a
//! model was trained on.
//!
//! Su et al. 2021, <https://arxiv.org/abs/2104.09864>. The paper pairs neighbours ([`Pairs::Interleaved`]); GPT-NeoX and
//! most published weights pair the two halves of a head. Angles are computed in f64.
//!
//! ```
//! use formwork_module::{Init, Pass, Position, Scope, Seed, Tensor};
//! use formwork_position::{Pairs, Place, Rope, RopeConfig};
//!
//! let place = Place { dim: 4, context: 8, heads: None, init: Init::Constant(0.0) };
//! let rope = Rope::new(&Scope::root(&Seed::new(1)), &place, &RopeConfig::new(100.0, Pairs::Halves))?;
//! let x = Tensor::from_vec(vec![1.0f64; 8], &[1, 2, 1, 4])?;
//! let y = rope.rotate(&x, &mut Pass::infer())?.to_vec::<f64>()?;
//! assert_eq!(y[..4], [1.0; 4]); // position 0 is not turned
//! assert!((y[4] - (1.0f64.cos() - 1.0f64.sin())).abs() < 1e-12);
//! assert!((y[5] - (0.1f64.cos() - 0.1f64.sin())).abs() < 1e-12); // θ^(−2/4) = 0.1
//! # Ok::<(), formwork_module::Error>(())
//! ```

pub mod dynamic;
pub mod factors;
pub mod linear;
pub mod llama3;
pub mod scaling;
pub mod yarn;

pub use dynamic::DynamicScaling;
pub use factors::FactorsScaling;
pub use linear::LinearScaling;
pub use llama3::Llama3Scaling;
pub use scaling::{RopeScaling, Spectrum};
pub use yarn::{Ramp, YarnScaling};

use std::sync::Arc;

use formwork_kernels::{
    Dest, Element,
    rope::{self, Direction},
    scratch::List,
};
use formwork_module::{Acts, Error, GrowingKeys, Keys, Pass, Position, Result, RowSpan, Scope, Tensor};
use formwork_tensor::{GradSink, Op, Outputs, Saved, Scalar, dispatch};
use serde::{Deserialize, Serialize};

use crate::{
    Place,
    grown::Grown,
    of_tokens,
    table::{Angles, Table},
};
use scaling::Base;

/// Which two numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairs {
    /// `i` with `i + w/2`.
    Halves,
    /// `2i` with `2i + 1`.
    Interleaved,
}

/// Settings of [`Rope`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// The base `θ` of the wavelengths, above 1. It differs between published models, so there is no default.
    pub theta: f64,
    /// How numbers are paired. Weights trained with one layout are wrong in the other, so there is no default.
    pub pairs: Pairs,
    /// The rotary width: even, at most the head width, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary_dim: Option<usize>,
    /// Other frequencies, for a context longer than the one that the model was trained on; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<RopeScaling>,
}

impl RopeConfig {
    /// Whole heads, without scaling.
    pub fn new(theta: f64, pairs: Pairs) -> Self {
        Self { theta, pairs, rotary_dim: None, scaling: None }
    }

    /// What heads of width `head_dim` are turned with in a text of `length` tokens. Only
    /// [dynamic NTK](RopeScaling::Dynamic) minds the length.
    ///
    /// # Errors
    /// Settings out of range: those of [`Rope::new`].
    pub fn spectrum(&self, head_dim: usize, length: usize) -> Result<Spectrum> {
        let base = self.base(head_dim)?;
        Ok(self.spectrum_at(&base, length))
    }

    fn spectrum_at(&self, base: &Base, length: usize) -> Spectrum {
        match &self.scaling {
            Some(scaling) => scaling.spectrum(base, length),
            None => base.frequencies().into(),
        }
    }

    /// The width and base, once everything is found legal.
    fn base(&self, head_dim: usize) -> Result<Base> {
        let width = self.rotary_dim.unwrap_or(head_dim);
        if !width.is_multiple_of(2) {
            let (what, field) = match self.rotary_dim {
                None => ("even head width", "head_dim"),
                Some(_) => ("even rotary width", "rotary_dim"),
            };
            let error = Error::invalid("rope", what, width);
            return Err(error.hint(format_args!("set {field} to an even number")));
        }
        if width == 0 || width > head_dim {
            let error =
                Error::invalid("rope", format_args!("a rotary width from 2 to head_dim {head_dim}"), width);
            return Err(error.hint("set rotary_dim to an even number in that range, or leave it out"));
        }
        if !(self.theta.is_finite() && self.theta > 1.0) {
            let error = Error::invalid("rope", "a theta above 1", self.theta);
            return Err(error.hint("the paper uses 10000"));
        }
        let base = Base { width, theta: self.theta };
        self.scaling.iter().try_for_each(|scaling| scaling.check(&base))?;
        Ok(base)
    }
}

/// Rotary position embedding; see the [module](self). Clones share their tables.
#[derive(Clone, Debug)]
pub struct Rope {
    head_dim: usize,
    context: usize,
    turn: Arc<Turn>,
}

impl Rope {
    /// For heads of width `place.dim`. Tables are made when a text first needs them.
    ///
    /// # Errors
    /// A rotary width that is odd, 0 or wider than a head, a `theta` that is not above 1, or a scaling whose settings
    /// make no sense.
    pub fn new(scope: &Scope<'_>, place: &Place, config: &RopeConfig) -> Result<Self> {
        let turn = Turn::new(place.dim, config).map_err(|error| scope.locate(error))?;
        Ok(Self { head_dim: place.dim, context: place.context, turn: Arc::new(turn) })
    }

    /// Batch and width of `x [b, t, heads, e]`.
    fn batch(&self, x: &Tensor) -> Result<[usize; 2]> {
        let e = self.head_dim;
        match x.dims() {
            Ok([b, t, _, last]) if last == e => Ok([b, t]),
            _ => Err(Error::shape("rope", format_args!("x [b, t, heads, {e}]"), x.shape())),
        }
    }

    fn turned(&self, x: &Tensor, spans: &[RowSpan], t: usize) -> Result<Tensor> {
        let (turn, context) = (self.turn.clone(), self.context);
        let (positions, lengths) = turn.places(spans, t);
        Tensor::apply1(Rotate { turn, positions, lengths, context }, &[x])
    }
}

impl Position for Rope {
    fn acts(&self) -> Acts {
        Acts::Heads
    }

    fn rotate(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let [b, t] = self.batch(x)?;
        self.turned(x, &pass.spans(b, t)?, t)
    }

    fn keys(&self) -> Keys<'_> {
        match self.turn.grows_past {
            Some(_) => Keys::Growing(self),
            None => Keys::Fixed,
        }
    }
}

impl GrowingKeys for Rope {
    fn rotate_all(&self, k: &Tensor, rows: &[RowSpan]) -> Result<Tensor> {
        let [b, s] = self.batch(k)?;
        if rows.len() != b || rows.iter().any(|row| row.tokens.start > row.tokens.end || row.tokens.end > s) {
            let expected = format!("tokens within {s} for each of {b} rows");
            return Err(Error::shape("rope", expected, format_args!("{rows:?}")));
        }
        self.turned(k, rows, s)
    }
}

/// How heads are turned, with the tables.
#[derive(Debug)]
struct Turn {
    pairs: rope::Pairs,
    base: Base,
    config: RopeConfig,
    /// That of a text within the original context.
    spectrum: Spectrum,
    /// The length from which on the spectrum depends on the length.
    grows_past: Option<usize>,
    f32: Tables<f32>,
    f64: Tables<f64>,
}

/// Angles in one type of numbers.
#[derive(Debug, Default)]
struct Tables<T: Element> {
    fixed: Table<T>,
    grown: Grown<T>,
}

impl Turn {
    fn new(head_dim: usize, config: &RopeConfig) -> Result<Self> {
        let base = config.base(head_dim)?;
        let pairs = match config.pairs {
            Pairs::Halves => rope::Pairs::Halves,
            Pairs::Interleaved => rope::Pairs::Interleaved,
        };
        let spectrum = config.spectrum_at(&base, 0);
        let grows_past = config.scaling.as_ref().and_then(RopeScaling::grows_past);
        let (f32, f64) = (Tables::default(), Tables::default());
        Ok(Self { pairs, base, config: config.clone(), spectrum, grows_past, f32, f64 })
    }

    /// The row of the table for each token `[b, t]`, and the lengths of the texts, rising and each once, where the table
    /// is made for them: none while all texts are within the original context.
    fn places(&self, spans: &[RowSpan], t: usize) -> (List<u32>, List<usize>) {
        let mut places = of_tokens(spans, t);
        let length = |span: &RowSpan| span.position + span.tokens.len();
        let mut lengths: List<_> = spans.iter().filter(|s| !s.tokens.is_empty()).map(length).collect();
        if self.grows_past.is_none_or(|original| lengths.iter().all(|&length| length <= original)) {
            return (places, List::new());
        }
        lengths.sort_unstable();
        lengths.dedup();
        for (row, span) in places.chunks_exact_mut(t.max(1)).zip(spans) {
            let shorter: usize = lengths.iter().take_while(|&&shorter| shorter < length(span)).sum();
            let block = u32::try_from(shorter).unwrap_or(u32::MAX);
            row[span.tokens.clone()].iter_mut().for_each(|place| *place = place.saturating_add(block));
        }
        (places, lengths)
    }
}

/// Input `x [b, t, heads, e]`, output the same shape; one position per token.
#[derive(Debug)]
struct Rotate {
    turn: Arc<Turn>,
    /// Rows of the table: `[b·t]`.
    positions: List<u32>,
    /// The lengths that the table is made for, one block of rows each; none for the table that every length shares.
    lengths: List<usize>,
    context: usize,
}

impl Rotate {
    fn angles<T: Tabled>(&self) -> Arc<Angles<T>> {
        let (turn, tables) = (&*self.turn, T::tables(&self.turn));
        if self.lengths.is_empty() {
            let needed = self.positions.iter().max().map_or(0, |&last| last as usize + 1);
            return tables.fixed.angles(&turn.spectrum.view(), needed, self.context);
        }
        let spectrum = |length| turn.config.spectrum_at(&turn.base, length);
        tables.grown.angles(&self.lengths, turn.base.width / 2, spectrum)
    }

    fn turn<T: Tabled>(&self, x: &[T], [heads, head_dim]: [usize; 2], y: Dest<'_, T>, direction: Direction) {
        let angles = self.angles::<T>();
        let rope = rope::Rope {
            cos: &angles.cos,
            sin: &angles.sin,
            width: self.turn.base.width,
            pairs: self.turn.pairs,
            positions: &self.positions,
            heads,
            head_dim,
            stride: heads * head_dim,
        };
        rope::rotate_into(&rope, x, y, direction);
    }
}

/// The types of numbers that there are tables for.
trait Tabled: Scalar {
    fn tables(turn: &Turn) -> &Tables<Self>;
}

impl Tabled for f32 {
    fn tables(turn: &Turn) -> &Tables<f32> {
        &turn.f32
    }
}

impl Tabled for f64 {
    fn tables(turn: &Turn) -> &Tables<f64> {
        &turn.f64
    }
}

impl Op for Rotate {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Result<Outputs> {
        let x = inputs[0].compact()?;
        let [_, _, heads, e] = x.dims()?;
        let y = dispatch!(x.dtype(), T => {
            let mut y = x.buffer::<T>(x.len());
            self.turn(x.slice::<T>()?, [heads, e], Dest::store(&mut y), Direction::Forward);
            Tensor::from_buffer(y, x.shape())?
        });
        Ok(y.into())
    }

    /// dx = dy turned by the opposite angles, times the same scale: a rotation's adjoint is its inverse, a factor's itself.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let [_, _, heads, e] = dy.dims()?;
        dispatch!(dy.dtype(), T => {
            let dy = dy.slice::<T>()?;
            into.give::<T>(0, |data, write| self.turn(dy, [heads, e], Dest { data, write }, Direction::Backward))
        })
    }
}
