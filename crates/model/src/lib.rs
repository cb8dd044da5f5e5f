//! The config tree, the builder and the presets
