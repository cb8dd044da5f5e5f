//! Parameters out of an archive of tensors.

use std::{fmt, sync::Arc};

use formwork_formats::{Archive, Dtype, Entry};
use formwork_kernels::AlignedVec;
use formwork_module::{
    DType, Error, Given, Module, Outline, Pool, Result, Source, Spec, Stored, Tensor, Weight, held,
};
use formwork_tensor::{Scalar, Storage};

use crate::{
    names::Names,
    plan::{self, Part, Plan, Whole},
    read::{self, Number},
};

/// Asked for each matrix `[out, in]` with our name and its rows as the file has them: a weight that keeps them so, or `None`
/// for a plain parameter.
pub type Hold<'a> = dyn Fn(&str, &Entry) -> Result<Option<Arc<dyn Weight>>> + 'a;

/// A [`Source`] that finds each parameter in an archive by its name.
///
/// `f32` tensors that are aligned in the file stay there: a mapped file is not held twice. What has to be copied (other
/// types, other orders) is copied tensor by tensor, and its pages are given back.
#[derive(Clone)]
pub struct Checkpoint<'a> {
    archive: &'a Archive,
    plan: Option<Plan>,
    dtype: DType,
    pool: Pool,
    hold: Option<&'a Hold<'a>>,
}

impl<'a> Checkpoint<'a> {
    /// Takes parameters as `f32`, each from the tensor of its name.
    pub fn new(archive: &'a Archive) -> Self {
        Self { archive, plan: None, dtype: DType::F32, pool: Pool::new(), hold: None }
    }

    /// Takes parameters from where a plan places them.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Takes parameters as another type; narrower ones in the file are widened exactly.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Another pool for what has to be copied, and for all that is computed from the parameters.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Asks `hold` for each matrix whose rows stand in the file as they do in the model; it may keep them in their blocks.
    #[must_use]
    pub fn holding(mut self, hold: &'a Hold<'a>) -> Self {
        self.hold = Some(hold);
        self
    }

    fn found(&self, path: &str, spec: &Spec) -> Result<(Whole, Part)> {
        let Some(plan) = &self.plan else {
            let part = Part { ours: path.to_owned(), shape: spec.shape.to_vec(), start: 0, heads: None };
            let order = crate::names::Order::AsIs;
            return Ok((
                Whole { name: path.to_owned(), shape: spec.shape.to_vec(), order, parts: Vec::new() },
                part,
            ));
        };
        let (whole, part) = plan.place(path)?;
        if part.shape != spec.shape[..] {
            return Err(Error::shape("checkpoint", spec.shape, format_args!("{:?}", part.shape)));
        }
        Ok((whole.clone(), part.clone()))
    }

    fn copied<T: Scalar + Number>(&self, entry: &Entry, whole: &Whole, part: &Part) -> Result<Tensor> {
        // Not a buffer of the pool, whose sizes are rounded up: weights stay, and are most of what a model takes.
        let mut values = AlignedVec::<T>::zeroed(part.shape.iter().product());
        read::part::<T>(entry, whole, part, &mut values)?;
        Tensor::from_storage(Storage::adopt::<T>(values, Some(self.pool.clone())), 0, &part.shape)
    }
}

impl Source for Checkpoint<'_> {
    fn param(&self, path: &str, spec: &Spec) -> Result<Given> {
        let (whole, part) = self.found(path, spec)?;
        let entry = plan::entry(self.archive, &whole)?;
        let stored = stored(entry.dtype())?;
        let view = match self.dtype {
            DType::F32 => plan::plain(&whole, &part, entry)?.and_then(|rows| rows.as_f32()),
            _ => None,
        };
        let value = match (self.dtype, view) {
            (_, Some(view)) => {
                Tensor::from_storage(Storage::adopt::<f32>(view, Some(self.pool.clone())), 0, &spec.shape)?
            }
            (DType::F64, None) => self.copied::<f64>(entry, &whole, &part)?,
            _ => self.copied::<f32>(entry, &whole, &part)?,
        };
        Ok(Given { value: Some(value), stored })
    }

    fn weight(&self, path: &str, spec: &Spec) -> Result<Option<Arc<dyn Weight>>> {
        let Some(hold) = self.hold else { return Ok(None) };
        let (whole, part) = self.found(path, spec)?;
        match plan::plain(&whole, &part, plan::entry(self.archive, &whole)?)? {
            Some(rows) => hold(path, &rows),
            None => Ok(None),
        }
    }
}

/// How a file's type is remembered.
fn stored(dtype: Dtype) -> Result<Stored> {
    Ok(match (dtype, plan::blocks(dtype)) {
        (_, Some(format)) => Stored::Blocks(format),
        (Dtype::F64, _) => Stored::F64,
        (Dtype::F16, _) => Stored::F16,
        (Dtype::Bf16, _) => Stored::Bf16,
        (Dtype::F32, _) => Stored::F32,
        (other, _) => return Err(Error::invalid("checkpoint", "floating-point numbers", other.name())),
    })
}

impl fmt::Debug for Checkpoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, plan, dtype, .. } = self;
        let tensors = plan.as_ref().map_or(archive.len(), |plan| plan.tensors().len());
        f.debug_struct("Checkpoint").field("tensors", &tensors).field("dtype", dtype).finish_non_exhaustive()
    }
}

/// Builds a module with the numbers of an archive of our own layout.
///
/// `build` runs twice: first as an outline, to compare all names and shapes; then, if they agree, with the numbers.
///
/// # Errors
/// A [`Report`](crate::Report) of the differences, before any number is read; or what the build refuses.
pub fn load<M: Module>(archive: &Archive, build: impl Fn(&dyn Source) -> Result<M>) -> Result<M> {
    load_as(&Checkpoint::new(archive), &Names::identity(), build)
}

/// Builds a module with the numbers of an archive whose tensors are called as `names` says.
///
/// The names are [`fitted`](Names::fitted) to the archive. Everything else is as the checkpoint has been told: the type of
/// the numbers, the pool, matrices that stay in blocks.
///
/// # Errors
/// As [`load`], in their names; a parameter that has none.
pub fn load_as<M: Module>(
    checkpoint: &Checkpoint<'_>,
    names: &Names,
    build: impl Fn(&dyn Source) -> Result<M>,
) -> Result<M> {
    let outline = build(&Outline)?;
    let plan = Plan::of(&held(&outline), &names.fitted(checkpoint.archive))?;
    plan.report(checkpoint.archive).check()?;
    build(&checkpoint.clone().plan(plan))
}
