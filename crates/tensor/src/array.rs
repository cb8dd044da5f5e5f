//! The way in from `ndarray` and out to it.

use ndarray::{Array, ArrayD, ArrayViewD, Dimension, IxDyn, ShapeBuilder};

use crate::{Error, Result, Scalar, Tensor};

impl Tensor {
    /// A tensor on an array's own memory; an array that is not row-major is copied.
    ///
    /// ```
    /// use formwork_tensor::Tensor;
    /// let x = Tensor::from_array(ndarray::array![[1.0f32, 2.0], [3.0, 4.0]])?;
    /// assert_eq!(x.view::<f32>()?[[1, 0]], 3.0);
    /// # Ok::<(), formwork_tensor::Error>(())
    /// ```
    ///
    /// # Errors
    /// More than six axes.
    pub fn from_array<T: Scalar, D: Dimension>(array: Array<T, D>) -> Result<Self> {
        let dims = array.shape().to_vec();
        if !array.is_standard_layout() {
            return Self::from_vec(array.iter().copied().collect(), &dims);
        }
        let (values, start) = array.into_raw_vec_and_offset();
        Self::from_storage(T::store(std::sync::Arc::new(values)), start.unwrap_or(0), &dims)
    }

    /// The tensor seen as an array, strides and all, without a copy.
    ///
    /// # Errors
    /// Another type of numbers than `T`.
    pub fn view<T: Scalar>(&self) -> Result<ArrayViewD<'_, T>> {
        if self.is_empty() {
            // Strides mean nothing here, and those of a view may point past the memory.
            return ArrayViewD::from_shape(IxDyn(self.shape()), &self.reach::<T>()?[..0])
                .map_err(Error::external);
        }
        let shape = IxDyn(self.shape()).strides(IxDyn(self.strides()));
        ArrayViewD::from_shape(shape, self.reach::<T>()?).map_err(Error::external)
    }

    /// The tensor copied into an array.
    ///
    /// # Errors
    /// Another type of numbers than `T`.
    pub fn to_array<T: Scalar>(&self) -> Result<ArrayD<T>> {
        Ok(self.view::<T>()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;

    #[test]
    fn an_array_goes_in_and_out_without_moving() {
        let array = Array3::from_shape_fn((2, 3, 5), |(i, j, k)| (i * 100 + j * 10 + k) as f32);
        let memory = array.as_ptr();
        let x = Tensor::from_array(array.clone()).unwrap();
        let moved = Tensor::from_array(array).unwrap();
        assert_eq!(moved.slice::<f32>().unwrap().as_ptr(), memory);
        assert_eq!(x.to_array::<f32>().unwrap(), moved.to_array::<f32>().unwrap());
    }

    #[test]
    fn a_transposed_array_keeps_its_meaning() {
        let array =
            Array3::from_shape_fn((2, 3, 5), |(i, j, k)| (i * 100 + j * 10 + k) as f64).reversed_axes();
        let x = Tensor::from_array(array.clone()).unwrap();
        assert_eq!(x.view::<f64>().unwrap(), array.into_dyn());
    }

    #[test]
    fn views_show_strides_and_broadcasts() {
        let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], &[3]).unwrap();
        let wide = x.expand(&[2, 3]).unwrap();
        assert_eq!(wide.view::<f32>().unwrap()[[1, 2]], 3.0);
        let turned = wide.transpose(0, 1).unwrap();
        assert_eq!(turned.view::<f32>().unwrap()[[2, 1]], 3.0);
        assert!(x.view::<f64>().is_err());
    }

    #[test]
    fn a_view_of_nothing_is_an_array_of_nothing() {
        let x = Tensor::from_vec(vec![1.0f32, 2.0, 3.0], &[3]).unwrap();
        assert_eq!(x.expand(&[0, 5, 3]).unwrap().view::<f32>().unwrap().shape(), [0, 5, 3]);
        // One past the end of both axes would be past the end of the memory.
        let x = Tensor::from_vec(vec![1.0f32; 6], &[2, 3]).unwrap();
        let end = x.narrow(1, 3, 0).unwrap().narrow(0, 2, 0).unwrap();
        assert_eq!(end.to_array::<f32>().unwrap().shape(), [0, 0]);
    }
}
