//! The types of a file and the formats of blocks, which have the same names and are listed on both sides: the crate of
//! files and that of arithmetic do not see each other.
//!
//! ```
//! use formwork_checkpoint::{dtype_of, format_of};
//! use formwork_formats::Dtype;
//! use formwork_kernels::blocks::Format;
//! assert_eq!((dtype_of(Format::Q4_K), format_of(Dtype::Q4_K)), (Dtype::Q4_K, Some(Format::Q4_K)));
//! assert_eq!(format_of(Dtype::F32), None);
//! ```

use formwork_formats::Dtype;
use formwork_kernels::blocks::Format;

/// The type under which a file holds a format.
pub fn dtype_of(format: Format) -> Dtype {
    Dtype::from_name(&format.name().to_uppercase()).expect("every format has a type of its name")
}

/// The format of a type; `None` for those that are no format of weights: f32, f64 and whole numbers.
pub fn format_of(dtype: Dtype) -> Option<Format> {
    Format::from_name(dtype.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_has_a_type_of_the_same_blocks() {
        for format in Format::ALL {
            let dtype = dtype_of(format);
            assert_eq!(format_of(dtype), Some(format), "{format}");
            assert_eq!(
                (dtype.block(), dtype.block_bytes()),
                (format.block(), format.block_bytes()),
                "{format}"
            );
        }
    }
}
