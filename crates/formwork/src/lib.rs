//! Composable transformer building blocks: the facade over the Formwork crates
