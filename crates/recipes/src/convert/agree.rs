//! Whether two descriptions of a model say the same.

use formwork_model::{Difference, ModelConfig, diff, position::Pairs, published};

/// The first field in which a description that was read contradicts the model.
///
/// Names change nothing, of the head the tensors decide, pairs are as each layout has them, and a GGUF file rounds to 32
/// bits. How a seed draws the parameters is no part of a published model.
pub(super) fn contradiction(found: &ModelConfig, model: &ModelConfig) -> Option<Difference> {
    let plain = |config: &ModelConfig| published::canonical(&published::with_pairs(config, Pairs::Halves));
    let (mut found, model) = (plain(found), plain(model));
    (found.head, found.name, found.init) = (model.head, model.name.clone(), model.init);
    diff(&found, &model).into_iter().find(|difference| !difference.is_rounding())
}
