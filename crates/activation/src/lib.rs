//! Activations: ReLU, GELU and SiLU
