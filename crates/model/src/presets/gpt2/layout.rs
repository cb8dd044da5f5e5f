//! GPT-2's published layouts: the fields of `config.json`, the keys of GGUF, the names of tensors.
//!
//! Folders store projections as `[in, out]`, with q, k and v in one matrix; GGUF stores `[out, in]`, q, k and v stacked.

use formwork_checkpoint::names::{Names, Piece};
use formwork_norm::NormConfig;
use formwork_position::PositionConfig;
use serde_json::Value;

use super::Gpt2;
use crate::{
    BlockConfig, Error, FeedForwardConfig, HeadConfig, ModelConfig, Result,
    activation::ActivationConfig,
    published::{
        Family, Fields, Tensors,
        field::{
            Field, MAX_SIZE,
            Rule::{
                Activation, Also, Deviation, Flag, Inert, Layers, Only, OptionalSize, Own, Positive, Rate,
                Size, Text,
            },
            field, given, size,
        },
        layout::Layout,
    },
};

const CONFIG: &[Field<Gpt2>] = &[
    field("_name_or_path", Text(|m| &mut m.name)),
    field("vocab_size", Size(|m| &mut m.vocab)),
    field("n_positions", Size(|m| &mut m.context)),
    field("max_position_embeddings", Also("n_positions")),
    field("n_embd", Size(|m| &mut m.dim)),
    field("hidden_size", Also("n_embd")),
    field("n_layer", Layers(|m| &mut m.layers)),
    field("num_hidden_layers", Also("n_layer")),
    field("n_head", Size(|m| &mut m.heads)),
    field("num_attention_heads", Also("n_head")),
    field("n_inner", OptionalSize(|m| &mut m.hidden)),
    field("activation_function", Activation(|m| &mut m.activation)),
    field("embd_pdrop", Rate(|m| &mut m.embed_dropout)),
    field("attn_pdrop", Rate(|m| &mut m.attn_dropout)),
    field("resid_pdrop", Rate(|m| &mut m.residual_dropout)),
    field("layer_norm_epsilon", Positive(|m| &mut m.eps)),
    field("initializer_range", Deviation(|m| &mut m.std)),
    field("tie_word_embeddings", Flag(|m| &mut m.is_tied)),
    field("scale_attn_weights", Only(&["true"])),
    field("scale_attn_by_inverse_layer_idx", Only(&["false"])),
    // Another order of the same arithmetic, in f32 where a run is in less: nothing in an f32 run.
    field("reorder_and_upcast_attn", Inert),
    field("n_ctx", Inert),
    field("n_special", Inert),
    field("predict_special_tokens", Inert),
    field("summary_activation", Inert),
    field("summary_first_dropout", Inert),
    field("summary_proj_to_labels", Inert),
    field("summary_type", Inert),
    field("summary_use_proj", Inert),
];

const METADATA: &[Field<Gpt2>] = &[
    field("general.name", Text(|m| &mut m.name)),
    field("context_length", Size(|m| &mut m.context)),
    field("embedding_length", Size(|m| &mut m.dim)),
    field("block_count", Layers(|m| &mut m.layers)),
    field("feed_forward_length", OptionalSize(|m| &mut m.hidden)),
    field("attention.head_count", Size(|m| &mut m.heads)),
    field("attention.layer_norm_epsilon", Positive(|m| &mut m.eps)),
    field("vocab_size", Size(|m| &mut m.vocab)),
    field("attention.head_count_kv", Own),
    field("attention.key_length", Own),
    field("attention.value_length", Own),
    field("attention.causal", Only(&["true"])),
    field("expert_count", Only(&["0"])),
    field("attention.sliding_window", Only(&["0"])),
    field("logit_scale", Only(&["0", "1"])),
    field("tensor_data_layout", Inert),
    field("formwork.embed_dropout", Rate(|m| &mut m.embed_dropout)),
    field("formwork.attention_dropout", Rate(|m| &mut m.attn_dropout)),
    field("formwork.residual_dropout", Rate(|m| &mut m.residual_dropout)),
    field("formwork.initializer_range", Deviation(|m| &mut m.std)),
];

/// A part of a layer: ours, the folder's and GGUF's, each without what comes before and after.
const PARTS: &[(&str, &str, &str)] = &[
    ("attn_norm", "ln_1", "attn_norm"),
    ("attn.q", "attn.c_attn", "attn_qkv"),
    ("attn.k", "attn.c_attn", "attn_qkv"),
    ("attn.v", "attn.c_attn", "attn_qkv"),
    ("attn.o", "attn.c_proj", "attn_output"),
    ("ffn_norm", "ln_2", "ffn_norm"),
    ("ffn.up", "mlp.c_fc", "ffn_up"),
    ("ffn.down", "mlp.c_proj", "ffn_down"),
];

impl Gpt2 {
    /// Every weight and bias of the layers, `theirs` named by a function of the layer and the part.
    fn layers(&self, theirs: impl Fn(usize, &(&str, &str, &str)) -> String) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for i in 0..self.layers {
            for part in PARTS {
                for kind in ["weight", "bias"] {
                    let ours = format!("blocks.{i}.{}.{kind}", part.0);
                    pieces.push(Piece::new(ours, format!("{}.{kind}", theirs(i, part))));
                }
            }
        }
        pieces
    }

    fn head(&self, names: Names, tokens: &str, head: &str) -> Names {
        match self.is_tied {
            true => names.tied(head, tokens),
            false => names.and([Piece::new("head.weight", head)]),
        }
    }
}

impl Layout for Gpt2 {
    const NAME: &'static str = "gpt2";
    const FAMILY: Family = Family::Gpt2;
    const WITH_HEAD: &'static [&'static str] = &["GPT2LMHeadModel"];
    const WITHOUT_HEAD: &'static str = "GPT2Model";
    const CONFIG: &'static [Field<Self>] = CONFIG;
    const METADATA: &'static [Field<Self>] = METADATA;
    const REQUIRED: &'static [&'static str] = &[
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_epsilon",
    ];

    fn model_name(&mut self) -> &mut String {
        &mut self.name
    }

    fn vocab(&mut self) -> &mut usize {
        &mut self.vocab
    }

    fn is_tied(&mut self) -> &mut bool {
        &mut self.is_tied
    }

    fn read_own(&mut self, _: &Fields, _: &mut Vec<String>) -> Result<()> {
        match self.dim.is_multiple_of(self.heads) {
            true => Ok(()),
            false => {
                Err(Error::invalid("n_head", format_args!("a divisor of n_embd {}", self.dim), self.heads))
            }
        }
    }

    fn write_own(&self, fields: &mut Fields) -> Result<()> {
        // Other readers of GPT-2 configs, llama.cpp's converter among them, want the old name of n_positions too.
        fields.insert("n_ctx".to_owned(), self.context.into());
        Ok(())
    }

    fn read_own_metadata(&mut self, metadata: &Fields, _: &Tensors<'_>) -> Result<()> {
        if !self.dim.is_multiple_of(self.heads) {
            let expected = format!("a divisor of gpt2.embedding_length {}", self.dim);
            return Err(Error::invalid("gpt2.attention.head_count", expected, self.heads));
        }
        let head_dim = self.dim / self.heads;
        for (key, expected) in [
            ("gpt2.attention.head_count_kv", self.heads),
            ("gpt2.attention.key_length", head_dim),
            ("gpt2.attention.value_length", head_dim),
        ] {
            if let Some(value) = given(metadata, key) {
                let found = size(key, value, MAX_SIZE)?;
                if found != expected {
                    return Err(Error::invalid(key, expected, found).hint("GPT-2 has plain heads"));
                }
            }
        }
        Ok(())
    }

    fn write_own_metadata(&self, metadata: &mut Vec<(String, Value)>) -> Result<Option<Vec<f32>>> {
        if !matches!(self.activation, ActivationConfig::GeluTanh(_)) {
            let error =
                Error::invalid("ffn.activation", "tanh GELU, which is what GGUF means by gpt2", "another");
            return Err(error.hint("publish it as a folder"));
        }
        if self.hidden.is_none() {
            metadata.push(("gpt2.feed_forward_length".to_owned(), (4 * self.dim).into()));
        }
        Ok(None)
    }

    fn config(self) -> ModelConfig {
        Gpt2::config(self)
    }

    fn extracted(config: &ModelConfig) -> Option<Self> {
        let BlockConfig::PreNorm(parts) = config.blocks.first()? else { return None };
        let attn = config.blocks.first()?.multi_head()?;
        let (NormConfig::Layer(norm), FeedForwardConfig::Mlp(ffn), PositionConfig::Learned(_)) =
            (&parts.attn_norm, &parts.ffn, &config.embed.position)
        else {
            return None;
        };
        Some(Self {
            name: config.name.clone(),
            vocab: config.vocab,
            context: config.context,
            dim: config.dim,
            layers: config.blocks.len(),
            heads: attn.heads,
            hidden: Some(ffn.hidden).filter(|hidden| config.dim.checked_mul(4) != Some(*hidden)),
            activation: ffn.activation.clone(),
            embed_dropout: config.embed.dropout,
            attn_dropout: attn.dropout,
            residual_dropout: parts.dropout,
            eps: norm.eps,
            std: config.init.std,
            is_tied: matches!(config.head, HeadConfig::Tied {}),
        })
    }

    fn names(&self) -> Result<Names> {
        const TOKENS: &str = "transformer.wte.weight";
        let mut layers = self.layers(|i, part| format!("transformer.h.{i}.{}", part.1));
        for piece in &mut layers {
            // Every matrix of a layer: norms have none.
            if piece.ours.ends_with(".weight") && !piece.ours.contains("_norm.") {
                *piece = piece.clone().transposed();
            }
        }
        let names = Names::new([
            Piece::new("embed.tokens.weight", TOKENS),
            Piece::new("embed.position.weight", "transformer.wpe.weight"),
        ])
        .and(layers)
        .and(
            ["weight", "bias"]
                .map(|kind| Piece::new(format!("norm.{kind}"), format!("transformer.ln_f.{kind}"))),
        )
        .prefix("transformer.")
        .inert(["*.attn.bias", "*.attn.masked_bias"]);
        Ok(self.head(names, TOKENS, "lm_head.weight"))
    }

    fn gguf_names(&self) -> Names {
        let names = Names::new([
            Piece::new("embed.tokens.weight", Self::TOKENS),
            Piece::new("embed.position.weight", "position_embd.weight"),
        ])
        .and(self.layers(|i, part| format!("blk.{i}.{}", part.2)))
        .and(["weight", "bias"].map(|kind| Piece::new(format!("norm.{kind}"), format!("output_norm.{kind}"))))
        .inert(["*.attn.bias", "*.attn.masked_bias"]);
        self.head(names, Self::TOKENS, Self::HEAD)
    }
}
