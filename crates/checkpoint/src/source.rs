//! Parameters out of an archive of tensors.

use formwork_formats::{Archive, Dtype};
use formwork_module::{
    Buffer, DType, Error, Given, Module, Outline, Pool, Result, Source, Spec, Stored, Tensor, params,
};
use formwork_tensor::{Scalar, Storage};

use crate::Report;

/// A [`Source`] that finds each parameter in an archive by its name.
///
/// `f32` tensors that are aligned in the file stay there: a mapped file is not held twice.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    archive: &'a Archive,
    dtype: DType,
    pool: Pool,
}

impl<'a> Checkpoint<'a> {
    /// Takes parameters as `f32`.
    pub fn new(archive: &'a Archive) -> Self {
        Self { archive, dtype: DType::F32, pool: Pool::new() }
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

    fn copied<T: Scalar>(
        &self,
        shape: &[usize],
        copy: impl FnOnce(&mut [T]) -> formwork_formats::Result<()>,
    ) -> Result<Tensor> {
        let mut values = Buffer::<T>::new(shape.iter().product(), Some(&self.pool));
        copy(&mut values).map_err(Error::external)?;
        Tensor::from_buffer(values, shape)
    }
}

impl Source for Checkpoint<'_> {
    fn param(&self, path: &str, spec: &Spec) -> Result<Given> {
        let entry = self
            .archive
            .entry(path)
            .ok_or_else(|| Error::missing(format_args!("a tensor named {path} in the checkpoint")))?;
        if entry.shape() != &spec.shape[..] {
            return Err(Error::shape("checkpoint", spec.shape, format_args!("{:?}", entry.shape())));
        }
        let stored = match entry.dtype() {
            Dtype::F64 => Stored::F64,
            Dtype::F16 => Stored::F16,
            Dtype::Bf16 => Stored::Bf16,
            Dtype::F32 => Stored::F32,
            other => return Err(Error::invalid("checkpoint", "floating-point numbers", other.name())),
        };
        let value = match (self.dtype, entry.as_f32()) {
            (DType::F32, Some(view)) => {
                Tensor::from_storage(Storage::adopt::<f32>(view, Some(self.pool.clone())), 0, &spec.shape)?
            }
            (DType::F64, _) => self.copied::<f64>(&spec.shape, |to| entry.copy_into_f64(to))?,
            _ => self.copied::<f32>(&spec.shape, |to| entry.copy_into_f32(to))?,
        };
        Ok(Given { value: Some(value), stored })
    }
}

/// Builds a module with the numbers of an archive.
///
/// `build` runs twice: first as an outline, to compare all names and shapes; then, if they agree, with the numbers.
///
/// # Errors
/// A [`Report`] of the differences, before any number is read; or what the build refuses.
pub fn load<M: Module>(archive: &Archive, build: impl Fn(&dyn Source) -> Result<M>) -> Result<M> {
    let outline = build(&Outline)?;
    Report::compare(&params(&outline), archive).check()?;
    build(&Checkpoint::new(archive))
}
