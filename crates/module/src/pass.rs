//! What one forward needs beside its input.

use std::{
    fmt,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use formwork_kernels::scratch::List;
use formwork_tensor::ops::Operands;
use serde::{Deserialize, Serialize};

use crate::{Error, Kind, KvCache, Param, Result, RowSpan, Rows, Site, Tensor};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Dropout is off; nothing is recorded.
    Infer,
    /// Dropout is on; its masks depend on nothing but these two numbers and the place in the model.
    Train {
        /// The seed of the run.
        seed: u64,
        /// The step of the run.
        step: u64,
    },
}

/// Whether a pass leaves a tape. Apart from [`Mode`], since a block that will be recomputed trains without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Parameters that learn are tracked.
    Tape,
    /// Nothing is tracked.
    Nothing,
}

/// In which numbers a product with a weight is computed. Sums are `f32` in each case, and a pass in `f64` always
/// computes in `f64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Precision {
    /// Activations enter a product as they are, and meet the weight's numbers decoded: what a reference computes, several
    /// times as slow as the others.
    Full,
    /// Activations are rounded as in [`AsStored`](Self::AsStored), and what that leaves of them is rounded and multiplied
    /// as well: 16 bits in place of 8, for twice the arithmetic and as much memory traffic. The likeliest token is then
    /// that of a reference but where two are all but equally likely.
    Split,
    /// Activations are rounded to the kind of numbers that the weight is stored in: bf16 for a bf16 weight, 8-bit
    /// integers with a scale to each block for a weight in blocks of integers. An `f32` weight meets `f32`.
    #[default]
    AsStored,
    /// `f32` weights and activations are rounded to bf16 as well: mixed precision for training. Parameters,
    /// gradients and the residual stream stay `f32`.
    Bf16,
}

impl Precision {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Full, Self::Split, Self::AsStored, Self::Bf16];

    /// Its word in settings and on the command line: `full`, `split`, `as_stored`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Split => "split",
            Self::AsStored => "as_stored",
            Self::Bf16 => "bf16",
        }
    }

    /// The choice of this name.
    ///
    /// ```
    /// use formwork_module::Precision;
    /// assert_eq!(Precision::from_name("split"), Some(Precision::Split));
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|precision| precision.name() == name)
    }
}

/// Looks at tensors on their way, by the name of the place.
pub trait Tap {
    /// Called with each tensor that a module shows.
    fn see(&mut self, site: &Site, what: &str, tensor: &Tensor);
}

/// A forward pass: mode, padding, cache, tap, auxiliary losses, cancellation.
pub struct Pass<'a> {
    mode: Mode,
    record: Record,
    precision: Precision,
    rows: Rows,
    cache: Option<&'a mut dyn KvCache>,
    tap: Option<&'a mut dyn Tap>,
    cancel: Option<&'a AtomicBool>,
    /// Losses that modules add to the model's own, such as the balance of experts.
    pub aux: Vec<Tensor>,
}

impl<'a> Pass<'a> {
    /// A pass that computes and records nothing.
    pub fn infer() -> Self {
        Self::new(Mode::Infer)
    }

    /// A pass that records, with dropout.
    pub fn train(seed: u64, step: u64) -> Self {
        Self::new(Mode::Train { seed, step })
    }

    fn new(mode: Mode) -> Self {
        let record = if mode == Mode::Infer { Record::Nothing } else { Record::Tape };
        let (precision, rows) = (Precision::default(), Rows::default());
        Self { mode, record, precision, rows, cache: None, tap: None, cancel: None, aux: Vec::new() }
    }

    /// Sets in which numbers products are computed.
    #[must_use]
    pub fn in_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets whether a tape is left; evaluation with dropout off but gradients on, say, is `infer().recording(Record::Tape)`.
    #[must_use]
    pub fn recording(mut self, record: Record) -> Self {
        self.record = record;
        self
    }

    /// Says which tokens are real.
    #[must_use]
    pub fn rows(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }

    /// Reads keys and values of earlier tokens from a cache, and adds those of this pass.
    #[must_use]
    pub fn cached(mut self, cache: &'a mut dyn KvCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Shows tensors on their way.
    #[must_use]
    pub fn tapped(mut self, tap: &'a mut dyn Tap) -> Self {
        self.tap = Some(tap);
        self
    }

    /// Stops with [`Kind::Cancelled`] at the next block once the flag is true.
    #[must_use]
    pub fn cancelled_by(mut self, flag: &'a AtomicBool) -> Self {
        self.cancel = Some(flag);
        self
    }

    /// What the pass is for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether parameters that learn are tracked.
    pub fn record(&self) -> Record {
        self.record
    }

    /// In which numbers products are computed.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// What becomes of the factors of a product of dense numbers in this pass.
    pub fn operands(&self) -> Operands {
        match self.precision {
            Precision::Bf16 => Operands::Bf16,
            Precision::Full | Precision::Split | Precision::AsStored => Operands::Own,
        }
    }

    /// The one way from a parameter to a tensor that learns.
    ///
    /// # Errors
    /// A parameter without numbers.
    pub fn take(&mut self, param: &Param) -> Result<Tensor> {
        let value = param.value()?;
        let learns = self.record == Record::Tape && param.is_trainable();
        Ok(if learns { value.tracked(param.leaf()) } else { value })
    }

    /// Says that a parameter rightly has no part in this pass, so that a step without its gradient is not refused.
    pub fn skip(&mut self, param: &Param) {
        param.excuse();
    }

    /// Each row's real tokens and first position, for a batch `[b, t]`.
    ///
    /// # Errors
    /// Padding or a cache made for another number of rows.
    pub fn spans(&self, b: usize, t: usize) -> Result<List<RowSpan>> {
        let ranges = self.rows.ranges(b, t)?;
        if let Some(cache) = &self.cache
            && cache.rows() != b
        {
            return Err(Error::shape(
                "cache",
                format_args!("{} rows", cache.rows()),
                format_args!("[{b}, {t}] tokens"),
            ));
        }
        let first = |row| self.cache.as_ref().map_or(0, |cache| cache.len(row));
        let starts = self.rows.starts(b)?;
        let span = |(row, tokens): (usize, &Range<usize>)| {
            let first = first(row);
            RowSpan {
                tokens: tokens.clone(),
                first,
                position: starts.get(row).map_or(first, |start| start.saturating_add(first)),
            }
        };
        Ok(ranges.iter().enumerate().map(span).collect())
    }

    /// The cache of this pass.
    pub fn cache(&mut self) -> Option<&mut (dyn KvCache + 'a)> {
        self.cache.as_deref_mut()
    }

    /// Whether a tap sees what modules show.
    pub fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    /// Shows a tensor to the tap, if there is one.
    pub fn show(&mut self, site: &Site, what: &str, tensor: &Tensor) {
        if let Some(tap) = &mut self.tap {
            tap.see(site, what, tensor);
        }
    }

    /// # Errors
    /// [`Kind::Cancelled`] once the caller has asked to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.cancel.is_some_and(|flag| flag.load(Relaxed)) {
            true => Err(Kind::Cancelled.into()),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pass = f.debug_struct("Pass");
        pass.field("mode", &self.mode)
            .field("record", &self.record)
            .field("precision", &self.precision)
            .field("rows", &self.rows);
        pass.field("cached", &self.cache.is_some()).finish_non_exhaustive()
    }
}
