"""Parameter counts of the published presets, from transformers models built without weights: writes counts.json.

    python counts.py

The sizes are those of the papers and published configs; tied tables count once. A count that differs
from the one stated here stops the program, so that a change of the reference is seen.
"""
import json
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

# name: (layers, dim, heads, stated count)
GPT2 = {
    "gpt2-small": (12, 768, 12, 124_439_808),
    "gpt2-medium": (24, 1024, 16, 354_823_168),
    "gpt2-large": (36, 1280, 20, 774_030_080),
    "gpt2-xl": (48, 1600, 25, 1_557_611_200),
}
# name: (layers, dim, heads, kv heads, hidden, vocab, stated count)
LLAMA = {
    "llama1-7b": (32, 4096, 32, 32, 11008, 32000, 6_738_415_616),
    "llama1-13b": (40, 5120, 40, 40, 13824, 32000, 13_015_864_320),
    "llama1-33b": (60, 6656, 52, 52, 17920, 32000, 32_528_943_616),
    "llama1-65b": (80, 8192, 64, 64, 22016, 32000, 65_285_660_672),
    "llama2-7b": (32, 4096, 32, 32, 11008, 32000, 6_738_415_616),
    "llama2-13b": (40, 5120, 40, 40, 13824, 32000, 13_015_864_320),
    "llama2-34b": (48, 8192, 64, 8, 22016, 32000, 33_743_970_304),
    "llama2-70b": (80, 8192, 64, 8, 28672, 32000, 68_976_648_192),
    "llama3-8b": (32, 4096, 32, 8, 14336, 128256, 8_030_261_248),
    "llama3-70b": (80, 8192, 64, 8, 28672, 128256, 70_553_706_496),
    "llama3.1-405b": (126, 16384, 128, 8, 53248, 128256, 405_853_388_800),
    "llama3.2-1b": (16, 2048, 32, 8, 8192, 128256, 1_235_814_400),
    "llama3.2-3b": (28, 3072, 24, 8, 8192, 128256, 3_212_749_824),
    "codellama-7b": (32, 4096, 32, 32, 11008, 32016, 6_738_546_688),
    "codellama-13b": (40, 5120, 40, 40, 13824, 32016, 13_016_028_160),
    "codellama-34b": (48, 8192, 64, 8, 22016, 32000, 33_743_970_304),
    "smollm2-135m": (30, 576, 9, 3, 1536, 49152, 134_515_008),
}
TIED = ("llama3.2-1b", "llama3.2-3b", "smollm2-135m")


def count(model_class, config):
    """Parameters of a model that is built on the meta device; a tied head is the same parameter and counts once."""
    with torch.device("meta"):
        model = model_class(config)
    model.tie_weights()
    return sum(p.numel() for p in model.parameters())


def main():
    """Counts every preset, writes counts.json, and fails if a count differs from the stated one."""
    counts, stated = {}, {}
    for name, (layers, dim, heads, expected) in GPT2.items():
        counts[name] = count(GPT2LMHeadModel, GPT2Config(n_layer=layers, n_embd=dim, n_head=heads, n_positions=1024,
                                                         vocab_size=50257))
        stated[name] = expected
    for name, (layers, dim, heads, kv_heads, hidden, vocab, expected) in LLAMA.items():
        counts[name] = count(LlamaForCausalLM, LlamaConfig(
            num_hidden_layers=layers, hidden_size=dim, num_attention_heads=heads, num_key_value_heads=kv_heads,
            intermediate_size=hidden, vocab_size=vocab, tie_word_embeddings=name in TIED))
        stated[name] = expected
    wrong = {name: (counts[name], stated[name]) for name in counts if counts[name] != stated[name]}
    assert not wrong, f"counted and stated differ: {wrong}"
    path = Path(__file__).resolve().parent / "counts.json"
    path.write_text(json.dumps(counts, indent=2) + "\n")
    print(f"counts: {len(counts)} presets as stated")


if __name__ == "__main__":
    main()
