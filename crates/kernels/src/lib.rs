//! Arithmetic of transformer blocks on slices, with adjoints, and the thread team
