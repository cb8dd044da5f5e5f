//! Weights that stay in the blocks of a quantised file, and quantising.
#![forbid(unsafe_code)]
