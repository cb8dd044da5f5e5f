//! Feed-forward layers: the MLP and the gated MLP
