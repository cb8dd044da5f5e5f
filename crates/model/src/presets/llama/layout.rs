//! LLaMA's published layouts: the fields of `config.json`, the keys of GGUF, the names of tensors.
//!
//! Both store projections as `[out, in]`. A folder has the rows of q and k for RoPE pairs in halves, GGUF for interleaved ones.

use formwork_checkpoint::names::{Names, Piece};
use formwork_norm::NormConfig;
use formwork_position::{Pairs, PositionConfig};
use serde_json::Value;

use super::{Llama, rope};
use crate::{
    BlockConfig, Error, FeedForwardConfig, HeadConfig, ModelConfig, Result,
    activation::ActivationConfig,
    attention::Biases,
    module::Bias,
    published::{
        Family, Fields, Tensors,
        field::{
            Field, MAX_SIZE,
            Rule::{
                Activation, Deviation, Each, Flag, Inert, Layers, Only, OptionalSize, Own, Positive, Rate,
                Size, Text,
            },
            field, flag, given, number, size,
        },
        layout::Layout,
    },
};

const CONFIG: &[Field<Llama>] = &[
    field("_name_or_path", Text(|m| &mut m.name)),
    field("vocab_size", Size(|m| &mut m.vocab)),
    field("max_position_embeddings", Size(|m| &mut m.context)),
    field("hidden_size", Size(|m| &mut m.dim)),
    field("num_hidden_layers", Layers(|m| &mut m.layers)),
    field("num_attention_heads", Size(|m| &mut m.heads)),
    field("num_key_value_heads", OptionalSize(|m| &mut m.kv_heads)),
    field("head_dim", OptionalSize(|m| &mut m.head_dim)),
    field("intermediate_size", Size(|m| &mut m.hidden)),
    field("hidden_act", Activation(|m| &mut m.activation)),
    field("rms_norm_eps", Positive(|m| &mut m.eps)),
    field("attention_bias", Own),
    field("mlp_bias", Flag(|m| &mut m.has_mlp_bias)),
    field("attention_dropout", Rate(|m| &mut m.dropout)),
    field("initializer_range", Deviation(|m| &mut m.std)),
    field("tie_word_embeddings", Flag(|m| &mut m.is_tied)),
    field("rope_parameters", Own),
    field("rope_scaling", Own),
    field("rope_theta", Own),
    field("original_max_position_embeddings", Own),
    field("partial_rotary_factor", Only(&["1"])),
    field("rope_interleaved", Only(&["false"])),
    field("sliding_window", Only(&["null"])),
    field("use_sliding_window", Only(&["false"])),
    field("layer_types", Each("full_attention")),
    field("qk_norm", Only(&["false"])),
    field("use_qk_norm", Only(&["false"])),
    field("num_local_experts", Only(&["0", "1"])),
    // How matrices were split over devices in training; transformers 5 no longer multiplies them in pieces.
    field("pretraining_tp", Inert),
    field("max_sequence_length", Inert),
];

const METADATA: &[Field<Llama>] = &[
    field("general.name", Text(|m| &mut m.name)),
    field("context_length", Size(|m| &mut m.context)),
    field("embedding_length", Size(|m| &mut m.dim)),
    field("block_count", Layers(|m| &mut m.layers)),
    field("feed_forward_length", Size(|m| &mut m.hidden)),
    field("attention.head_count", Size(|m| &mut m.heads)),
    field("attention.head_count_kv", OptionalSize(|m| &mut m.kv_heads)),
    field("attention.key_length", OptionalSize(|m| &mut m.head_dim)),
    field("attention.value_length", Own),
    field("attention.layer_norm_rms_epsilon", Positive(|m| &mut m.eps)),
    field("vocab_size", Size(|m| &mut m.vocab)),
    field("rope.dimension_count", Own),
    field("rope.freq_base", Own),
    field("rope.scale_linear", Own),
    field("rope.scaling.type", Own),
    field("rope.scaling.factor", Own),
    field("rope.scaling.original_context_length", Own),
    field("rope.scaling.attn_factor", Own),
    field("rope.scaling.yarn_attn_factor", Own),
    field("rope.scaling.yarn_beta_fast", Own),
    field("rope.scaling.yarn_beta_slow", Own),
    field("rope.scaling.yarn_ext_factor", Only(&["-1", "1"])),
    field("rope.scaling.yarn_log_multiplier", Only(&["0"])),
    field("rope.scaling.alpha", Only(&["0"])),
    field("rope.scaling.finetuned", Inert),
    field("rope.dimension_sections", Only(&["0"])),
    field("attention.scale", Own),
    field("attention.causal", Only(&["true"])),
    field("attention.clamp_kqv", Only(&["0"])),
    field("attention.max_alibi_bias", Only(&["0"])),
    field("attention.sliding_window", Only(&["0"])),
    field("attn_logit_softcapping", Only(&["0"])),
    field("final_logit_softcapping", Only(&["0"])),
    field("logit_scale", Only(&["0", "1"])),
    field("residual_scale", Only(&["0", "1"])),
    field("embedding_scale", Only(&["0", "1"])),
    field("expert_count", Only(&["0"])),
    field("expert_used_count", Only(&["0"])),
    field("leading_dense_block_count", Only(&["0"])),
    field("nextn_predict_layers", Only(&["0"])),
    field("swin_norm", Only(&["false"])),
    field("use_parallel_residual", Only(&["false"])),
    field("tensor_data_layout", Inert),
    field("formwork.attention_dropout", Rate(|m| &mut m.dropout)),
    field("formwork.initializer_range", Deviation(|m| &mut m.std)),
    field("formwork.rope.factor", Own),
    field("formwork.rope.low_freq_factor", Own),
    field("formwork.rope.high_freq_factor", Own),
    field("formwork.rope.original_context", Own),
    field("formwork.rope.mscale", Own),
    field("formwork.rope.mscale_all_dim", Own),
];

/// A part of a layer: ours, the folder's and GGUF's, each without what comes before and after.
const PARTS: &[(&str, &str, &str)] = &[
    ("attn_norm", "input_layernorm", "attn_norm"),
    ("attn.q", "self_attn.q_proj", "attn_q"),
    ("attn.k", "self_attn.k_proj", "attn_k"),
    ("attn.v", "self_attn.v_proj", "attn_v"),
    ("attn.o", "self_attn.o_proj", "attn_output"),
    ("ffn_norm", "post_attention_layernorm", "ffn_norm"),
    ("ffn.gate", "mlp.gate_proj", "ffn_gate"),
    ("ffn.up", "mlp.up_proj", "ffn_up"),
    ("ffn.down", "mlp.down_proj", "ffn_down"),
];

impl Llama {
    /// Every weight and bias of the layers, `theirs` named by a function of the layer and the part.
    fn layers(&self, theirs: impl Fn(usize, &(&str, &str, &str)) -> String) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for i in 0..self.layers {
            for part in PARTS {
                let has_bias = match part.0 {
                    "attn.q" | "attn.k" | "attn.v" => self.bias != Biases::None,
                    "attn.o" => self.bias == Biases::All,
                    "ffn.gate" | "ffn.up" | "ffn.down" => self.has_mlp_bias,
                    _ => false,
                };
                for kind in if has_bias { ["weight", "bias"].as_slice() } else { &["weight"] } {
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

    /// Checks sizes that depend on each other; `names` are those of heads, key heads, head width and width.
    fn check_heads(&self, [heads, kv_heads, head_dim, dim]: [&str; 4]) -> Result<()> {
        if self.head_dim.is_none() && !self.dim.is_multiple_of(self.heads) {
            let expected = format!("a divisor of {dim} {}, as {head_dim} is not given", self.dim);
            return Err(Error::invalid(heads, expected, self.heads));
        }
        if !self.heads.is_multiple_of(self.kv_heads()) {
            let expected = format!("a divisor of {heads} {}", self.heads);
            return Err(Error::invalid(kv_heads, expected, self.kv_heads()));
        }
        if !self.head_dim().is_multiple_of(2) {
            return Err(Error::invalid(head_dim, "an even number, as RoPE turns pairs", self.head_dim()));
        }
        Ok(())
    }
}

impl Layout for Llama {
    const NAME: &'static str = "llama";
    const FAMILY: Family = Family::Llama;
    const WITH_HEAD: &'static [&'static str] = &["LlamaForCausalLM", "LLaMAForCausalLM"];
    const WITHOUT_HEAD: &'static str = "LlamaModel";
    const CONFIG: &'static [Field<Self>] = CONFIG;
    const METADATA: &'static [Field<Self>] = METADATA;
    const REQUIRED: &'static [&'static str] = &[
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
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

    fn read_own(&mut self, fields: &Fields, notes: &mut Vec<String>) -> Result<()> {
        if let Some(value) = given(fields, "attention_bias") {
            self.bias = if flag("attention_bias", value)? { Biases::All } else { Biases::None };
        }
        self.check_heads(["num_attention_heads", "num_key_value_heads", "head_dim", "hidden_size"])?;
        (self.rope, self.context) = rope::read(fields, self.context, notes)?;
        Ok(())
    }

    fn write_own(&self, fields: &mut Fields) -> Result<()> {
        let attention_bias = match self.bias {
            Biases::None => false,
            Biases::All => true,
            Biases::Qkv => {
                let expected = "biases of q, k, v and the output, or none";
                let error = Error::invalid("attn.bias", expected, "biases of q, k and v alone");
                return Err(error.hint("config.json cannot say it; write a GGUF file"));
            }
        };
        fields.insert("attention_bias".to_owned(), attention_bias.into());
        // Written out, as transformers does: what their absence means has changed between programs.
        fields.insert("num_key_value_heads".to_owned(), self.kv_heads().into());
        fields.insert("head_dim".to_owned(), self.head_dim().into());
        let context = rope::write(&self.rope, self.context, fields)?;
        fields.insert("max_position_embeddings".to_owned(), context.into());
        Ok(())
    }

    fn read_own_metadata(&mut self, metadata: &Fields, tensors: &Tensors<'_>) -> Result<()> {
        self.check_heads(
            ["attention.head_count", "attention.head_count_kv", "attention.key_length", "embedding_length"]
                .map(|key| format!("llama.{key}"))
                .each_ref()
                .map(String::as_str),
        )?;
        for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
            if let Some(value) = given(metadata, key) {
                let found = size(key, value, MAX_SIZE)?;
                if found != self.head_dim() {
                    let expected = format!("{}, the width of a head", self.head_dim());
                    return Err(Error::invalid(key, expected, found));
                }
            }
        }
        if let Some(value) = given(metadata, "llama.attention.scale") {
            let key = "llama.attention.scale";
            let scale = number(key, value, "a number of 0 or more", |x| x >= 0.0)?;
            let expected = 1.0 / (self.head_dim() as f64).sqrt();
            if scale != 0.0 && (scale / expected - 1.0).abs() > 1e-6 {
                return Err(Error::invalid(key, format_args!("{expected}, as head widths have it"), scale));
            }
        }
        for fused in ["blk.0.attn_qkv.weight", "blk.0.ffn_gate_up.weight"] {
            if tensors.has(fused) {
                let error = Error::invalid(fused, "a tensor for each projection", "several in one");
                return Err(error.hint("convert the model without fusing"));
            }
        }
        let biases =
            ["attn_q", "attn_output", "ffn_up"].map(|part| tensors.has(&format!("blk.0.{part}.bias")));
        self.bias = match biases {
            [false, false, _] => Biases::None,
            [true, false, _] => Biases::Qkv,
            [true, true, _] => Biases::All,
            [false, true, _] => {
                let expected = "biases of q, k and v too";
                return Err(Error::invalid("blk.0.attn_output.bias", expected, "that of the output alone"));
            }
        };
        self.has_mlp_bias = biases[2];
        self.rope =
            rope::read_metadata(metadata, tensors.rope_freqs.as_deref(), self.head_dim(), self.context)?;
        Ok(())
    }

    fn write_own_metadata(&self, metadata: &mut Vec<(String, Value)>) -> Result<Option<Vec<f32>>> {
        if !matches!(self.activation, ActivationConfig::Silu(_)) {
            let error =
                Error::invalid("ffn.activation", "silu, which is what GGUF means by llama", "another");
            return Err(error.hint("publish it as a folder"));
        }
        let mut add = |key: &str, value: Value| {
            let key = format!("llama.{key}");
            if !metadata.iter().any(|(known, _)| *known == key) {
                metadata.push((key, value));
            }
        };
        add("attention.head_count_kv", self.kv_heads().into());
        add("attention.key_length", self.head_dim().into());
        add("attention.value_length", self.head_dim().into());
        add("rope.dimension_count", self.head_dim().into());
        rope::write_metadata(&self.rope, self.head_dim(), metadata)
    }

    fn config(self) -> ModelConfig {
        Llama::config(self)
    }

    fn extracted(config: &ModelConfig) -> Option<Self> {
        let BlockConfig::PreNorm(parts) = config.blocks.first()? else { return None };
        let attn = config.blocks.first()?.multi_head()?;
        let (NormConfig::Rms(norm), FeedForwardConfig::Gated(ffn), PositionConfig::Rope(rope)) =
            (&parts.attn_norm, &parts.ffn, &attn.position)
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
            kv_heads: attn.kv_heads,
            head_dim: attn.head_dim,
            hidden: ffn.hidden,
            activation: ffn.activation.clone(),
            rope: rope.clone(),
            eps: norm.eps,
            bias: attn.bias,
            has_mlp_bias: ffn.bias == Bias::Learned,
            dropout: attn.dropout,
            std: config.init.std,
            is_tied: matches!(config.head, HeadConfig::Tied {}),
        })
    }

    fn names(&self) -> Result<Names> {
        if self.rope.pairs == Pairs::Interleaved {
            let error = Error::invalid("attn.position.pairs", "halves, as a folder has them", "interleaved");
            return Err(error.hint("load the model with its pairs in halves, published::with_pairs"));
        }
        const TOKENS: &str = "model.embed_tokens.weight";
        let names = Names::new([Piece::new("embed.tokens.weight", TOKENS)])
            .and(self.layers(|i, part| format!("model.layers.{i}.{}", part.1)))
            .and([Piece::new("norm.weight", "model.norm.weight")])
            .prefix("model.")
            .inert(["*.rotary_emb.inv_freq"]);
        Ok(self.head(names, TOKENS, "lm_head.weight"))
    }

    fn gguf_names(&self) -> Names {
        let mut layers = self.layers(|i, part| format!("blk.{i}.{}", part.2));
        if self.rope.pairs == Pairs::Halves {
            for piece in &mut layers {
                let heads = match piece.ours.split('.').nth(3) {
                    Some("q") => self.heads,
                    Some("k") => self.kv_heads(),
                    _ => continue,
                };
                *piece = piece.clone().heads(heads);
            }
        }
        let names = Names::new([Piece::new("embed.tokens.weight", Self::TOKENS)])
            .and(layers)
            .and([Piece::new("norm.weight", "output_norm.weight")])
            // The frequencies' factors are settings, read with the metadata.
            .inert(["rope_freqs.weight", "*.rope_freqs.weight", "*.attn_rot_embd"]);
        self.head(names, Self::TOKENS, Self::HEAD)
    }
}
