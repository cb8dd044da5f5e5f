//! Normalisations: LayerNorm and RMSNorm
