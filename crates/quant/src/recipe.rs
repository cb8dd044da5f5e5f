//! Which tensor gets which format.
//!
//! One format for all matrices, more bits for the head, f32 for the rest: what `llama-quantize` does for its types of
//! one format (`Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0`, `Q6_K`, and the `_S` types but for a few layers), as its
//! `llama_tensor_get_type_impl` and `tensor_allows_quantization` have it. The mixtures `_M` and `_L`, which give more
//! bits to some layers, are not here: [`quantise`](crate::quantise()) takes any function, so they can be written down.
//!
//! ```
//! use formwork_kernels::blocks::Format;
//! use formwork_quant::{Recipe, Role};
//! let recipe = Recipe::new(Format::Q4_K);
//! assert_eq!(recipe.format(Role::Matrix, [1024, 4096]), Some(Format::Q4_K));
//! assert_eq!(recipe.format(Role::Head, [32000, 4096]), Some(Format::Q6_K));
//! assert_eq!(recipe.format(Role::Head, [49152, 576]), Some(Format::Q8_0)); // 576 is no multiple of 256
//! assert_eq!(recipe.format(Role::Positions, [1024, 4096]), None);
//! assert_eq!(recipe.pure().format(Role::Head, [32000, 4096]), Some(Format::Q4_K));
//! ```

use formwork_kernels::blocks::Format;

use crate::fits::fits;

/// What a matrix is in its model, as far as its precision goes. Norms and biases are no matrices, and stay f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A projection of a block.
    Matrix,
    /// The token table of a model with a head of its own.
    Table,
    /// The head, or the token table that serves as the head: logits feel its errors at once.
    Head,
    /// A table of positions or of token types: small, and added to everything.
    Positions,
}

/// One format for all matrices, with the exception for the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What matrices get; where rows are no whole number of its blocks, what llama.cpp takes instead: a format of about as
    /// many bits in blocks of 32, or f16.
    pub matrices: Format,
    /// What the head gets, or what stands in for it in the same way.
    pub head: Format,
}

impl Recipe {
    /// The usual exception: the head is `Q6_K`, but 16-bit formats and `Q8_0` are kept.
    pub fn new(format: Format) -> Self {
        let head = match format {
            Format::F16 | Format::Bf16 | Format::Q8_0 => format,
            _ => Format::Q6_K,
        };
        Self { matrices: format, head }
    }

    /// No exception.
    #[must_use]
    pub fn pure(self) -> Self {
        Self { head: self.matrices, ..self }
    }

    /// The format of a matrix `[out, in]`, or `None` where it stays as it is.
    pub fn format(&self, role: Role, [_, inp]: [usize; 2]) -> Option<Format> {
        match role {
            Role::Matrix | Role::Table => Some(fits(self.matrices, inp)),
            // A width that the blocks of the matrices do not divide makes the head Q8_0 at once.
            Role::Head if self.head != self.matrices && self.matrices.row_bytes(inp).is_none() => {
                Some(fits(Format::Q8_0, inp))
            }
            Role::Head => Some(fits(self.head, inp)),
            Role::Positions => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As llama-quantize has stored SmolLM2-135M and LLaMA-3.2-1B, whose heads are their token tables.
    #[test]
    fn choices_are_those_of_published_files() {
        let check = |format, [inp, hidden]: [usize; 2], head, matrices| {
            let recipe = Recipe::new(format);
            assert_eq!(recipe.format(Role::Head, [7, inp]), Some(head), "{format}");
            for inp in [inp, hidden] {
                assert_eq!(recipe.format(Role::Matrix, [7, inp]), Some(matrices), "{format}");
            }
        };
        let (smollm2, llama) = ([576, 1536], [2048, 8192]);
        check(Format::Q4_0, smollm2, Format::Q8_0, Format::Q4_0);
        check(Format::Q4_1, smollm2, Format::Q8_0, Format::Q4_1);
        check(Format::Q8_0, smollm2, Format::Q8_0, Format::Q8_0);
        check(Format::Bf16, smollm2, Format::Bf16, Format::Bf16);
        check(Format::Q4_0, llama, Format::Q6_K, Format::Q4_0);
        check(Format::Q8_0, llama, Format::Q8_0, Format::Q8_0);
    }

    #[test]
    fn a_head_is_never_coarser_than_six_bits_but_in_a_pure_recipe() {
        for format in Format::ALL {
            for width in [4096, 576, 50] {
                let head = Recipe::new(format).format(Role::Head, [7, width]).unwrap();
                let expected = match (format, width) {
                    (Format::F16 | Format::Bf16, _) => format,
                    (_, 50) => Format::F16,
                    (Format::Q8_0, _) | (_, 576) => Format::Q8_0,
                    _ => Format::Q6_K,
                };
                assert_eq!(head, expected, "{format} at {width}");
                let pure = Recipe::new(format).pure().format(Role::Head, [7, width]);
                assert_eq!(pure, Recipe::new(format).format(Role::Table, [7, width]), "{format} at {width}");
            }
        }
    }
}
