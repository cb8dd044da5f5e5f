//! What a family says of its published layouts: its numbers, two tables, two lists of names.

use formwork_checkpoint::names::Names;
use serde_json::Value;

use super::{Family, Fields, Tensors, field::Field};
use crate::{BlockConfig, Error, ModelConfig, Result, diff};

/// The numbers in which the models of a family differ, and how their files say them.
///
/// The default has the values of transformers' config class: what a field means that is left out.
pub(crate) trait Layout: Clone + Default + 'static {
    /// `model_type` of `config.json`, `general.architecture` of GGUF.
    const NAME: &'static str;
    /// The family.
    const FAMILY: Family;
    /// `architectures` of models with a head; the first is written.
    const WITH_HEAD: &'static [&'static str];
    /// `architectures` of models without.
    const WITHOUT_HEAD: &'static str;
    /// The fields of `config.json`, beyond those that all families share.
    const CONFIG: &'static [Field<Self>];
    /// The keys of GGUF metadata, without the architecture in front.
    const METADATA: &'static [Field<Self>];
    /// Keys of metadata that must be there.
    const REQUIRED: &'static [&'static str];
    /// The token table in a GGUF file.
    const TOKENS: &'static str = "token_embd.weight";
    /// The head in a GGUF file; a file without it ties the head to the token table.
    const HEAD: &'static str = "output.weight";

    /// What people call the model.
    fn model_name(&mut self) -> &mut String;

    /// Number of token ids.
    fn vocab(&mut self) -> &mut usize;

    /// Whether the token table is the head.
    fn is_tied(&mut self) -> &mut bool;

    /// Reads the fields that the table leaves to the family, and checks what fields say together.
    fn read_own(&mut self, fields: &Fields, notes: &mut Vec<String>) -> Result<()>;

    /// Writes them.
    fn write_own(&self, fields: &mut Fields) -> Result<()>;

    /// Reads the metadata that the table leaves to the family, and checks what values say together.
    fn read_own_metadata(&mut self, metadata: &Fields, tensors: &Tensors<'_>) -> Result<()>;

    /// Writes them, and the factors of the RoPE frequencies, if the file must have any.
    fn write_own_metadata(&self, metadata: &mut Vec<(String, Value)>) -> Result<Option<Vec<f32>>>;

    /// The model that these numbers mean.
    fn config(self) -> ModelConfig;

    /// The numbers of a model whose layers are of the family's kind, read from its first layer.
    fn extracted(config: &ModelConfig) -> Option<Self>;

    /// The names of a folder's tensors.
    fn names(&self) -> Result<Names>;

    /// The names of a GGUF file's tensors.
    fn gguf_names(&self) -> Names;

    /// The numbers of a model, if they say all of it.
    ///
    /// # Errors
    /// The first field that they cannot say.
    fn of(config: &ModelConfig) -> Result<Self> {
        let layout = format!("the {} layout", Self::NAME);
        let Some(numbers) = Self::extracted(config) else {
            let found = config.blocks.first().map_or("no layers", |_| "layers of another kind");
            return Err(Error::invalid("blocks", format_args!("layers that {layout} has"), found).hint(OURS));
        };
        // Building the model anew is the exact check: whatever the numbers do not say differs. How a seed draws the
        // parameters is no part of a published model.
        let mut expected = numbers.clone().config();
        let plain = canonical(config);
        (expected.init, expected.name) = (plain.init, plain.name.clone());
        if expected != plain
            && let Some(difference) = diff(&expected, &plain).into_iter().next()
        {
            let text = |value: Option<Value>| value.map_or("nothing".to_owned(), |v| v.to_string());
            let error = Error::invalid(
                difference.field,
                format_args!("{}, as {layout} has it", text(difference.a)),
                text(difference.b),
            );
            return Err(error.hint(OURS));
        }
        Ok(numbers)
    }
}

const OURS: &str = "save it in formwork's own layout, which can say every config";

/// The model without the numbers that say what their absence says too: as many key heads as heads, heads that are together
/// as wide as the model.
///
/// ```
/// use formwork_model::{AttentionConfig, BlockConfig, presets, published::canonical};
/// let plain = presets::llama1_7b();
/// let mut config = plain.clone();
/// for block in &mut config.blocks {
///     if let BlockConfig::PreNorm(parts) = block && let AttentionConfig::MultiHead(attn) = &mut parts.attn {
///         attn.kv_heads = Some(attn.heads);
///     }
/// }
/// assert!(config != plain && canonical(&config) == plain);
/// ```
#[must_use]
pub fn canonical(config: &ModelConfig) -> ModelConfig {
    let (mut plain, dim) = (config.clone(), config.dim);
    for block in &mut plain.blocks {
        if let BlockConfig::PreNorm(parts) | BlockConfig::PostNorm(parts) = block
            && let crate::AttentionConfig::MultiHead(attn) = &mut parts.attn
        {
            attn.kv_heads = attn.kv_heads.filter(|kv_heads| *kv_heads != attn.heads);
            attn.head_dim = attn.head_dim.filter(|head_dim| !divides(*head_dim, attn.heads, dim));
        }
    }
    plain
}

/// Whether heads of this width together are as wide as the model, which is what no width means.
pub(crate) fn divides(head_dim: usize, heads: usize, dim: usize) -> bool {
    head_dim.checked_mul(heads) == Some(dim)
}
