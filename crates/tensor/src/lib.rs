//! Tensors with run-time shapes, strided views, pooled storage and a reverse pass
