//! Tiny published models, written down tensor by tensor as their publishers do.
#![allow(dead_code, reason = "each suite uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

use std::{fs, path::Path};

use formwork_formats::{Archive, ArchiveWriter, Dtype, Layout};
use formwork_kernels::rng;
use formwork_tokenizer::{BpeTrainer, Tokenizer};
use serde_json::{Value, json};

/// Ids of the tiny tokenizer, and rows of the tiny tables.
pub(crate) const VOCAB: usize = 263;

/// A folder's tensors: name, shape, type.
pub(crate) type Tensors = Vec<(String, Vec<usize>, Dtype)>;

/// Two layers, 3 query heads over 1, width 8, with or without a head of its own.
pub(crate) fn llama_config(tied: bool) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 24,
        "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": tied, "torch_dtype": "bfloat16", "bos_token_id": 261, "eos_token_id": 262,
        "initializer_range": 0.041666666666666664, "use_cache": true, "rope_interleaved": false,
    })
}

pub(crate) fn llama_tensors(tied: bool, dtype: Dtype) -> Tensors {
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![VOCAB, 24], dtype)];
    for i in 0..2 {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push((format!("model.layers.{i}.{name}.weight"), shape.to_vec(), dtype));
        };
        add("input_layernorm", &[24]);
        add("self_attn.q_proj", &[24, 24]);
        add("self_attn.k_proj", &[8, 24]);
        add("self_attn.v_proj", &[8, 24]);
        add("self_attn.o_proj", &[24, 24]);
        add("post_attention_layernorm", &[24]);
        add("mlp.gate_proj", &[40, 24]);
        add("mlp.up_proj", &[40, 24]);
        add("mlp.down_proj", &[24, 40]);
    }
    tensors.push(("model.norm.weight".to_owned(), vec![24], dtype));
    if !tied {
        tensors.push(("lm_head.weight".to_owned(), vec![VOCAB, 24], dtype));
    }
    tensors
}

pub(crate) fn gpt2_config() -> Value {
    json!({
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": VOCAB, "n_embd": 12, "n_layer": 2,
        "n_head": 3, "n_positions": 32, "n_ctx": 32, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
        "bos_token_id": 261, "eos_token_id": 262,
    })
}

/// `prefix` is `transformer.` or nothing.
pub(crate) fn gpt2_tensors(prefix: &str, dtype: Dtype) -> Tensors {
    let mut tensors = vec![
        (format!("{prefix}wte.weight"), vec![VOCAB, 12], dtype),
        (format!("{prefix}wpe.weight"), vec![32, 12], dtype),
    ];
    for i in 0..2 {
        let mut add = |name: &str, weight: &[usize], bias: usize| {
            tensors.push((format!("{prefix}h.{i}.{name}.weight"), weight.to_vec(), dtype));
            tensors.push((format!("{prefix}h.{i}.{name}.bias"), vec![bias], dtype));
        };
        add("ln_1", &[12], 12);
        add("attn.c_attn", &[12, 36], 36);
        add("attn.c_proj", &[12, 12], 12);
        add("ln_2", &[12], 12);
        add("mlp.c_fc", &[12, 48], 48);
        add("mlp.c_proj", &[48, 12], 12);
    }
    for what in ["weight", "bias"] {
        tensors.push((format!("{prefix}ln_f.{what}"), vec![12], dtype));
    }
    tensors
}

/// Byte-level byte-pair encoding with two special tokens, at 261 and 262.
pub(crate) fn tokenizer() -> Tokenizer {
    let special = vec!["<s>".to_owned(), "</s>".to_owned()];
    BpeTrainer { vocab: VOCAB, special, min_frequency: 1 }.train(["the cat sat on the mat"]).unwrap()
}

/// Writes the weights; numbers depend on the name alone.
pub(crate) fn write_tensors(folder: &Path, tensors: &Tensors, shard_bytes: u64) {
    let layout = tensors
        .iter()
        .fold(Layout::new().note("format", "pt"), |l, (name, shape, dtype)| l.tensor(name, *dtype, shape));
    let mut writer = ArchiveWriter::create(folder, &layout, shard_bytes).unwrap();
    for (name, shape, dtype) in tensors {
        let size = shape.iter().product::<usize>();
        if !dtype.is_float() {
            writer.append_bytes(name, &vec![1; dtype.size_of(shape).unwrap()]).unwrap();
            continue;
        }
        let mut numbers = vec![0f32; size];
        let key = name.bytes().fold(7, |sum, byte| rng::mix(sum, u64::from(byte)));
        rng::fill_normal(key, 0.3, &mut numbers);
        if shape.len() == 1 {
            numbers.iter_mut().for_each(|x| *x = 1.0 + 0.1 * *x);
        }
        writer.append_f32(name, &numbers).unwrap();
    }
    writer.finish().unwrap();
}

/// Writes a folder with a tokenizer and all the small files.
pub(crate) fn write_folder(folder: &Path, config: &Value, tensors: &Tensors) {
    write_tensors(folder, tensors, u64::MAX);
    let put = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    // Two spaces in front of a field: nobody who writes it anew writes this.
    put(
        "config.json",
        &serde_json::to_string_pretty(config).unwrap().replace("\"model_type", "  \"model_type"),
    );
    put("generation_config.json", "{\"bos_token_id\": 261,\n\n \"eos_token_id\": 262}");
    put("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
    put("special_tokens_map.json", "{}");
    put("README.md", "# Tiny\n");
    put("chat_template.jinja", "{% for m in messages %}{{ m.content }}</s>{% endfor %}");
    put("tokenizer.json", tokenizer().to_json());
}

/// Asserts that two folders hold the same tensors but for `inert` ones.
pub(crate) fn same_tensors(a: &Path, b: &Path, inert: &dyn Fn(&str) -> bool) {
    let (a, b) = (Archive::open(a).unwrap(), Archive::open(b).unwrap());
    let kept: Vec<_> = a.entries().filter(|entry| !inert(entry.name())).collect();
    assert_eq!(kept.len(), b.len());
    for entry in kept {
        let other = b.entry(entry.name()).unwrap_or_else(|| panic!("{} is there", entry.name()));
        assert_eq!((other.dtype(), other.shape()), (entry.dtype(), entry.shape()), "{}", entry.name());
        assert_eq!(other.bytes()[..], entry.bytes()[..], "{}", entry.name());
    }
}

/// Asserts that every small file of `a` is in `b` with the same bytes.
pub(crate) fn same_files(a: &Path, b: &Path) {
    for entry in fs::read_dir(a).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if path.extension().is_some_and(|e| e == "safetensors")
            || path.to_string_lossy().ends_with("index.json")
        {
            continue;
        }
        assert_eq!(fs::read(b.join(name)).ok(), fs::read(&path).ok(), "{}", path.display());
    }
}
