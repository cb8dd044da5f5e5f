//! Rotary position embedding.
//!
//! Queries and keys are turned in `w/2` planes: pair `i` of a head at position `p` by the angle `p · θ^(−2i/w)`, so that
//! a score depends on the distance of the two positions. `x`, `y`: `[b, t, heads, e]`; the rotary width `w` is `e` or
//! less, and what is past it stays as it is.
//!
//! Su et al. 2021, <https://arxiv.org/abs/2104.09864>. The paper pairs neighbours ([`Pairs::Interleaved`]); GPT-NeoX and
//! most published weights pair the two halves of a head. Angles are computed in f64.
//!
//! ```
//! use formwork_module::{Init, Pass, Position, Scope, Seed, Tensor};
//! use formwork_position::{Pairs, Place, Rope, RopeConfig};
//!
//! let config = RopeConfig { theta: 100.0, pairs: Pairs::Halves, rotary_dim: None };
//! let place = Place { dim: 4, context: 8, init: Init::Constant(0.0) };
//! let rope = Rope::new(&Scope::root(&Seed::new(1)), &place, &config)?;
//! let x = Tensor::from_vec(vec![1.0f64; 8], &[1, 2, 1, 4])?;
//! let y = rope.rotate(&x, &mut Pass::infer())?.to_vec::<f64>()?;
//! assert_eq!(y[..4], [1.0; 4]); // position 0 is not turned
//! assert!((y[4] - (1.0f64.cos() - 1.0f64.sin())).abs() < 1e-12);
//! assert!((y[5] - (0.1f64.cos() - 0.1f64.sin())).abs() < 1e-12); // θ^(−2/4) = 0.1
//! # Ok::<(), formwork_module::Error>(())
//! ```

use std::sync::Arc;

use formwork_kernels::{
    Dest,
    rope::{self, Direction},
};
use formwork_module::{Acts, Error, Pass, Position, Result, Scope, Tensor};
use formwork_tensor::{GradSink, Op, Outputs, Saved, Scalar, dispatch};
use serde::{Deserialize, Serialize};

use crate::{Place, of_tokens, table::Table};

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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// The base `θ` of the wavelengths, above 1. It differs between published models, so there is no default.
    pub theta: f64,
    /// How numbers are paired. Weights trained with one layout are wrong in the other, so there is no default.
    pub pairs: Pairs,
    /// The rotary width: even, at most the head width, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary_dim: Option<usize>,
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
    /// A rotary width that is odd, 0 or wider than a head, or a `theta` that is not above 1.
    pub fn new(scope: &Scope<'_>, place: &Place, config: &RopeConfig) -> Result<Self> {
        let turn = Turn::new(place.dim, config).map_err(|error| scope.locate(error))?;
        Ok(Self { head_dim: place.dim, context: place.context, turn: Arc::new(turn) })
    }
}

impl Position for Rope {
    fn acts(&self) -> Acts {
        Acts::Heads
    }

    fn rotate(&self, x: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        let e = self.head_dim;
        let [b, t] = match x.dims() {
            Ok([b, t, _, last]) if last == e => [b, t],
            _ => return Err(Error::shape("rope", format_args!("x [b, t, heads, {e}]"), x.shape())),
        };
        let spans = pass.spans(b, t)?;
        let positions = of_tokens(&spans, t);
        Tensor::apply1(Rotate { turn: self.turn.clone(), positions, context: self.context }, &[x])
    }
}

/// How heads are turned, with the tables.
#[derive(Debug)]
struct Turn {
    pairs: rope::Pairs,
    width: usize,
    /// `[w/2]`
    frequencies: Vec<f64>,
    f32: Table<f32>,
    f64: Table<f64>,
}

impl Turn {
    fn new(head_dim: usize, config: &RopeConfig) -> Result<Self> {
        let width = config.rotary_dim.unwrap_or(head_dim);
        if !width.is_multiple_of(2) {
            let (what, field) = match config.rotary_dim {
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
        if !(config.theta.is_finite() && config.theta > 1.0) {
            let error = Error::invalid("rope", "a theta above 1", config.theta);
            return Err(error.hint("the paper uses 10000"));
        }
        let pairs = match config.pairs {
            Pairs::Halves => rope::Pairs::Halves,
            Pairs::Interleaved => rope::Pairs::Interleaved,
        };
        let frequencies = rope::inverse_frequencies(width, config.theta);
        Ok(Self { pairs, width, frequencies, f32: Table::default(), f64: Table::default() })
    }
}

/// Input `x [b, t, heads, e]`, output the same shape; one position per token.
#[derive(Debug)]
struct Rotate {
    turn: Arc<Turn>,
    /// `[b·t]`
    positions: Vec<u32>,
    context: usize,
}

impl Rotate {
    fn turn<T: Tabled>(&self, x: &[T], [heads, head_dim]: [usize; 2], y: Dest<'_, T>, direction: Direction) {
        let turn = &*self.turn;
        let needed = self.positions.iter().max().map_or(0, |&last| last as usize + 1);
        let angles = T::table(turn).angles(&turn.frequencies, needed, self.context);
        let rope = rope::Rope {
            cos: &angles.cos,
            sin: &angles.sin,
            width: turn.width,
            pairs: turn.pairs,
            positions: &self.positions,
            heads,
            head_dim,
            stride: heads * head_dim,
        };
        rope::rotate_into(&rope, x, y, direction);
    }
}

/// The types of numbers that there is a table for.
trait Tabled: Scalar {
    fn table(turn: &Turn) -> &Table<Self>;
}

impl Tabled for f32 {
    fn table(turn: &Turn) -> &Table<f32> {
        &turn.f32
    }
}

impl Tabled for f64 {
    fn table(turn: &Turn) -> &Table<f64> {
        &turn.f64
    }
}

impl Op for Rotate {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<(Outputs, Saved)> {
        let x = inputs[0].compact()?;
        let [_, _, heads, e] = x.dims()?;
        let y = dispatch!(x.dtype(), T => {
            let mut y = x.buffer::<T>(x.len());
            self.turn(x.slice::<T>()?, [heads, e], Dest::store(&mut y), Direction::Forward);
            Tensor::from_buffer(y, x.shape())?
        });
        Ok((vec![y], vec![]))
    }

    /// dx = dy turned by the opposite angles: a rotation's adjoint is its inverse.
    fn backward(&self, _: &Saved, grads: &[Option<&Tensor>], into: &mut GradSink<'_>) -> Result<()> {
        let dy = into.grad(grads, 0)?;
        let [_, _, heads, e] = dy.dims()?;
        dispatch!(dy.dtype(), T => {
            let dy = dy.slice::<T>()?;
            into.give::<T>(0, |data, write| self.turn(dy, [heads, e], Dest { data, write }, Direction::Backward))
        })
    }
}
