"""Writes rope_scaling.json: what transformers makes of each kind of RoPE scaling.

    pip install torch==2.15.0 transformers==5.23.0
    python rope_scaling.py

Each case has a config of this project, the head width, the length of the text, and the inverse frequencies and the
attention factor of transformers' own functions: `f32` as it computes them, `f64` by the same functions with torch's
single precision replaced by double. `rows` are the cosines and sines of its LlamaRotaryEmbedding at some positions.
"""

import json
import math
import types
from pathlib import Path

import torch
import transformers
from transformers import LlamaConfig
from transformers import modeling_rope_utils as rope
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

HEADS = 3


class Double(types.ModuleType):
    """torch, with double where single precision was asked for."""

    float = float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def published(case):
    """The config of transformers for one of ours."""
    scaling = dict(case["config"].get("scaling") or {"kind": "default"})
    kind = scaling.pop("kind")
    context = scaling.pop("original_context", 64)
    parameters = {"rope_type": kind, "rope_theta": case["config"]["theta"], **scaling}
    if kind in ("yarn", "llama3"):
        parameters["original_max_position_embeddings"] = context
    if "ramp" in parameters:
        parameters["truncate"] = parameters.pop("ramp") == "whole"
    head_dim = case["head_dim"]
    return LlamaConfig(hidden_size=HEADS * head_dim, num_attention_heads=HEADS, head_dim=head_dim,
                       max_position_embeddings=context, rope_parameters=parameters)


def compute(config, length):
    kind = config.rope_parameters["rope_type"]
    frequencies, factor = rope.ROPE_INIT_FUNCTIONS[kind](config, None, seq_len=length)
    return {"frequencies": frequencies.tolist(), "scale": factor}


def case(name, head_dim, theta, scaling, length=1):
    out = {"name": name, "head_dim": head_dim, "length": length,
           "config": {"theta": theta, "pairs": "halves", "scaling": scaling}}
    config = published(out)
    rope.torch = torch
    out["f32"] = compute(config, length)
    rope.torch = Double("torch")
    out["f64"] = compute(config, length)
    rope.torch = torch
    # The module as a model runs it on a text of this length: the last position and two before it.
    embedding = LlamaRotaryEmbedding(config)
    cos, sin = embedding(torch.zeros(1), torch.arange(length)[None])
    positions = sorted({0, length // 2, length - 1})
    half = head_dim // 2
    out["rows"] = [{"position": p, "cos": cos[0, p, :half].tolist(), "sin": sin[0, p, :half].tolist()}
                   for p in positions]
    assert math.isfinite(out["f64"]["scale"])
    return out


def main():
    linear = {"kind": "linear", "factor": 2.5}
    dynamic = {"kind": "dynamic", "factor": 3.0, "original_context": 16}
    yarn = {"kind": "yarn", "factor": 4.0, "original_context": 2048}
    llama = {"kind": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_context": 8192}
    cases = [
        case("linear", 10, 1e4, linear, 37),
        *[case(f"dynamic {n}", 10, 1e4, dynamic, n) for n in (1, 15, 16, 17, 23, 64)],
        case("dynamic, factor 1", 6, 5e5, {**dynamic, "factor": 1.0}, 33),
        case("yarn", 64, 1e4, yarn, 41),
        case("yarn, exact ramp", 64, 1e4, {**yarn, "ramp": "exact"}),
        case("yarn, a ramp of its own", 128, 1e6, {**yarn, "beta_fast": 16.0, "beta_slow": 2.0}),
        case("yarn, attention factor", 64, 1e4, {**yarn, "attention_factor": 1.25}, 41),
        case("yarn, two mscales", 64, 1e4, {**yarn, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0}),
        case("yarn, one mscale", 64, 1e4, {**yarn, "mscale": 0.707}),
        case("yarn, mscale 0", 64, 1e4, {**yarn, "mscale": 0.0, "mscale_all_dim": 1.0}),
        case("yarn, factor 1", 32, 1e4, {**yarn, "factor": 1.0}),
        case("yarn, ramp clipped at both ends", 6, 100.0, {**yarn, "original_context": 11}),
        case("yarn, all fast", 4, 1e4, {**yarn, "original_context": 3}),
        case("yarn, no room for a ramp", 4, 1e6, {**yarn, "original_context": 7, "beta_fast": 1.0}),
        case("LLaMA 3.1", 128, 5e5, llama, 41),
        case("LLaMA 3.2", 64, 5e5, {**llama, "factor": 32.0}),
        case("llama3, tiny", 10, 1e4, {**llama, "original_context": 29}, 31),
    ]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    text = ",\n".join(json.dumps(one) for one in cases)
    head = json.dumps({"made_by": "rope_scaling.py", "versions": versions})[:-1]
    Path(__file__).with_suffix(".json").write_text(f'{head}, "cases": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main()
