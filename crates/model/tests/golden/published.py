"""What transformers makes of published config.json files: writes published.json.

    python published.py

Each case has the file as it is `given` (the spelling of its time), as transformers 5 has `saved` it, and what the
reference implementation makes of it: the number of parameters, the frequencies and the factor of its rotary encoding
for a text as long as the model was made for, and, for small models, the names and shapes of all tensors.
"""
import json
from pathlib import Path

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LLAMA_2 = {
    "_name_or_path": "meta-llama/Llama-2-7b-hf", "architectures": ["LlamaForCausalLM"], "bos_token_id": 1,
    "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "tie_word_embeddings": False, "torch_dtype": "float16",
    "transformers_version": "4.31.0.dev0", "use_cache": True, "vocab_size": 32000,
}
LLAMA_3 = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 8192, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
    "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 500000.0, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.40.0.dev0", "use_cache": True, "vocab_size": 128256,
}
LLAMA_3_ROPE = {"high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
                "rope_type": "llama3"}
# The well-known fields of files on the hub.
REAL = {
    "gpt2": {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
        "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None,
        "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
        "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "vocab_size": 50257,
    },
    "llama-7b": {  # LLaMA 1: the defaults stand for most of it
        "architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 11008,
        "max_position_embeddings": 2048, "max_sequence_length": 2048, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 32, "pad_token_id": 0, "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.28.0.dev0",
        "use_cache": True, "vocab_size": 32000,
    },
    "llama-2-7b": LLAMA_2,
    "llama-2-70b": {**LLAMA_2, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64,
                    "num_hidden_layers": 80, "num_key_value_heads": 8},
    "llama-3-8b": LLAMA_3,
    "llama-3.1-8b": {**LLAMA_3, "max_position_embeddings": 131072, "mlp_bias": False,
                     "rope_scaling": {"factor": 8.0, **LLAMA_3_ROPE}, "eos_token_id": [128001, 128008, 128009]},
    "llama-3.2-1b": {**LLAMA_3, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192,
                     "max_position_embeddings": 131072, "mlp_bias": False, "num_hidden_layers": 16,
                     "rope_scaling": {"factor": 32.0, **LLAMA_3_ROPE}, "tie_word_embeddings": True},
    "codellama-7b": {**LLAMA_2, "_name_or_path": "", "max_position_embeddings": 16384, "rope_theta": 1000000,
                     "vocab_size": 32016},
    "smollm2-135m": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0,
        "eos_token_id": 0, "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664,
        "intermediate_size": 1536, "is_llama_config": True, "max_position_embeddings": 8192, "model_type": "llama",
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None, "rope_theta": 100000,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.40.1",
        "use_cache": True, "vocab_size": 49152,
    },
    "tinyllama-1.1b": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632,
        "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22,
        "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.35.0", "use_cache": True, "vocab_size": 32000,
    },
}
LLAMA_TINY = {
    "model_type": "llama", "vocab_size": 101, "hidden_size": 24, "intermediate_size": 23, "num_hidden_layers": 2,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
}
GPT2_TINY = {"model_type": "gpt2", "vocab_size": 97, "n_embd": 20, "n_head": 5, "n_layer": 2, "n_positions": 23}
# What no famous file has, every tensor on record.
TINY = {
    "gpt2-plain": GPT2_TINY,
    "gpt2-untied-inner": {**GPT2_TINY, "tie_word_embeddings": False, "n_inner": 52, "activation_function": "gelu",
                          "attn_pdrop": 0.0, "embd_pdrop": 0.25, "resid_pdrop": 0.5, "layer_norm_epsilon": 1e-6},
    "gpt2-other-spellings": {"model_type": "gpt2", "vocab_size": 97, "hidden_size": 20, "num_attention_heads": 5,
                             "num_hidden_layers": 3, "max_position_embeddings": 23, "activation_function": "relu"},
    "llama-defaults": {**LLAMA_TINY, "num_key_value_heads": None, "rope_theta": 25000},
    "llama-tied-wide-heads": {**LLAMA_TINY, "tie_word_embeddings": True, "head_dim": 10, "hidden_act": "gelu_new"},
    "llama-biases": {**LLAMA_TINY, "attention_bias": True, "mlp_bias": True, "attention_dropout": 0.125,
                     "num_key_value_heads": 1, "hidden_act": "gelu"},
    "llama-linear": {**LLAMA_TINY, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama-dynamic": {**LLAMA_TINY, "head_dim": 8, "rope_scaling": {"type": "dynamic", "factor": 2.5}},
    "llama-yarn": {**LLAMA_TINY, "head_dim": 16, "rope_theta": 5000.0,
                   "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8}},
    "llama-yarn-all": {**LLAMA_TINY, "head_dim": 16, "rope_parameters": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 16, "rope_theta": 777.0,
        "attention_factor": 1.25, "beta_fast": 16, "beta_slow": 2.0, "truncate": False}},
    "llama-yarn-mscale": {**LLAMA_TINY, "head_dim": 16, "rope_parameters": {
        "rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 16, "rope_theta": 10000.0,
        "mscale": 1.0, "mscale_all_dim": 0.5}},
    "llama-llama3": {**LLAMA_TINY, "head_dim": 16, "rope_theta": 500.0, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}},
}


def case(given, is_tiny):
    """What the reference makes of one file."""
    config_class, model_class = {"gpt2": (GPT2Config, GPT2LMHeadModel),
                                 "llama": (LlamaConfig, LlamaForCausalLM)}[given["model_type"]]
    config = config_class.from_dict(json.loads(json.dumps(given)))
    with torch.device("meta"):
        model = model_class(config)
    model.tie_weights()
    saved = config.to_diff_dict()
    saved["model_type"] = given["model_type"]
    found = {"given": given, "saved": json.loads(json.dumps(saved, default=str)),
             "parameters": sum(p.numel() for p in model.parameters())}
    if given["model_type"] == "llama":
        kind = config.rope_parameters["rope_type"]
        rope = ROPE_INIT_FUNCTIONS.get(kind)
        if rope is None:
            frequencies, scale = model.model.rotary_emb.compute_default_rope_parameters(config)
        else:
            frequencies, scale = rope(config, torch.device("cpu"))
        found["frequencies"] = [float(f) for f in frequencies]
        found["scale"] = float(scale)
        if kind == "dynamic":
            longest = int(config.max_position_embeddings * config.rope_parameters["factor"])
            found["longest"] = longest
            found["frequencies_longest"] = [float(f) for f in rope(config, torch.device("cpu"), seq_len=longest)[0]]
    if is_tiny:
        found["tensors"] = {name: list(t.shape) for name, t in model.state_dict().items()}
    return found


def main():
    """Writes published.json."""
    cases = {name: case(given, False) for name, given in REAL.items()}
    cases |= {name: case(given, True) for name, given in TINY.items()}
    path = Path(__file__).resolve().parent / "published.json"
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    path.write_text(json.dumps({"versions": versions, "cases": cases}, indent=1) + "\n")
    print(f"published: {len(cases)} configs")


if __name__ == "__main__":
    main()
