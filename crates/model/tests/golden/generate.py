"""Goldens of the model crate: tiny GPT-2 and LLaMA models, run by transformers in double precision.

    python generate.py            writes <name>.safetensors for every entry of GOLDENS, counts.json, then runs check.py

Weights are drawn as f32 numbers; everything computed from them runs in f64 and is stored as F64. A golden is
therefore the exact answer for its weights, to which an f32 and an f64 run are both held, each to its own tolerance.

transformers computes RMSNorm and the rotary angles in f32 whatever the dtype of the model. `exact` replaces those two
by f64 versions of the same formula; `agrees_with_f32` shows that the untouched model differs by rounding alone.

The order of random draws does not matter: each tensor has a stream of its own, seeded by its name. README.md says what
is in a file.
"""
import json
import platform
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

HERE = Path(__file__).resolve().parent

# Sizes are unequal, so that a swapped axis cannot pass. `llama-gqa` has heads * head_dim = 60 on a width of 18 and an
# even number of query heads per key head; `llama-mha-tied` is the plain case, heads * head_dim = dim.
GOLDENS = {
    "gpt2": dict(family="gpt2", layers=3, dim=20, heads=5, kv_heads=5, head_dim=4, hidden=52, vocab=97, context=23,
                 theta=None, eps=1e-5, tied=True),
    "llama-gqa": dict(family="llama", layers=3, dim=18, heads=6, kv_heads=2, head_dim=10, hidden=23, vocab=101,
                      context=29, theta=1e4, eps=1e-5, tied=False),
    "llama-mha-tied": dict(family="llama", layers=3, dim=20, heads=5, kv_heads=5, head_dim=4, hidden=37, vocab=89,
                           context=31, theta=5e5, eps=1e-6, tied=True),
}
# The first seeds whose ten steps are well conditioned. AdamW divides a gradient by its own size, so one that happens
# to be near 1e-8 makes the step of that one weight a matter of rounding in f32; `agrees_with_f32` asserts that the f32
# run of the reference meets no such weight.
SEEDS = {"gpt2": 1, "llama-gqa": 6, "llama-mha-tied": 3}
TRAINING = dict(optimizer="AdamW", steps=10, lr=3e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1,
                decayed="tensors of two dimensions, tables included", clip_global_norm=1.0,
                clip_rule="gradients times min(1, clip / (norm + 1e-6))",
                batch="tokens and targets, the same each step")
BATCH, LENGTH, PROMPT, NEW = 2, 11, 5, 12
LEFT_PADS, RIGHT_PADS = [4, 0], [0, 5]  # per row of the batch


def reference_config(c):
    """The transformers config of a golden: no dropout, no special tokens, no cache tricks."""
    common = dict(tie_word_embeddings=c["tied"], bos_token_id=None, eos_token_id=None, pad_token_id=None)
    if c["family"] == "gpt2":
        assert c["heads"] == c["kv_heads"] and c["heads"] * c["head_dim"] == c["dim"], "GPT-2 has no free head width"
        return GPT2Config(vocab_size=c["vocab"], n_positions=c["context"], n_embd=c["dim"], n_layer=c["layers"],
                          n_head=c["heads"], n_inner=c["hidden"], activation_function="gelu_new",
                          layer_norm_epsilon=c["eps"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **common)
    return LlamaConfig(vocab_size=c["vocab"], max_position_embeddings=c["context"], hidden_size=c["dim"],
                       num_hidden_layers=c["layers"], num_attention_heads=c["heads"], head_dim=c["head_dim"],
                       num_key_value_heads=c["kv_heads"], intermediate_size=c["hidden"], rms_norm_eps=c["eps"],
                       rope_parameters=dict(rope_type="default", rope_theta=c["theta"]), **common)


class ExactRmsNorm(LlamaRMSNorm):
    """The formula of its parent without the detour through f32."""

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


class ExactRotary(LlamaRotaryEmbedding):
    """The formula of its parent with frequencies, angles, cosines and sines in f64."""

    def forward(self, x, position_ids):
        e = self.config.head_dim
        rates = self.config.rope_parameters["rope_theta"] ** (-torch.arange(0, e, 2, dtype=torch.float64) / e)
        angles = position_ids[..., None].double() * rates
        angles = torch.cat((angles, angles), dim=-1)
        return angles.cos(), angles.sin()


def build(c, seed, dtype):
    """The transformers model of a golden, in evaluation mode, holding the weights of the seed."""
    config = reference_config(c)
    config._attn_implementation = "sdpa"  # the eager path of LLaMA takes its softmax in f32
    model = (GPT2LMHeadModel if c["family"] == "gpt2" else LlamaForCausalLM)(config).to(dtype).eval()
    with torch.no_grad():
        for name, view, parameter in named(model, c):
            view(parameter).copy_(draw(seed, name, tuple(view(parameter).shape)))
    return model


def exact(model):
    """Replaces what the reference computes in f32 by its f64 version, in place; GPT-2 has no such part."""
    for module in model.modules():
        if type(module) is LlamaRMSNorm:
            module.__class__ = ExactRmsNorm
        elif type(module) is LlamaRotaryEmbedding:
            module.__class__ = ExactRotary
    return model


def draw(seed, name, shape):
    """Weights of one tensor as f32: gains near 1 but not 1, biases away from 0, tables and most projections of std 0.2.

    `RandomState` is numpy's frozen generator: its streams do not change between versions.
    """
    normal = np.random.RandomState(zlib.crc32(f"{seed}/{name}".encode())).standard_normal(shape)
    if name.endswith("bias"):
        values = 0.2 * normal
    elif "norm" in name:
        values = 1 + 0.3 * normal
    elif name == "head.weight":
        values = 0.3 * normal
    elif ".attn.q." in name or ".attn.k." in name:
        values = 0.3 * normal  # flat attention would hide mistakes of position and mask
    elif ".ffn.up." in name:
        values = 0.4 * normal  # the two forms of GELU differ most near 2
    else:
        values = 0.2 * normal
    return torch.from_numpy(values.astype(np.float32))


def named(model, c):
    """Triples (our name, view, parameter): `view` takes the parameter, or its gradient, to our layout [out, in].

    Views, not copies, so that the same table loads weights and reads gradients.
    """
    params = dict(model.named_parameters())
    d = c["dim"]

    def row(ours, theirs, view=lambda p: p):
        return ours, view, params[theirs]

    def thirds(j):
        """Rows of q, k or v (j = 0, 1, 2) of GPT-2's fused projection, a bias [3d] or a weight stored [d, 3d]."""
        return lambda p: p.mT[j * d:(j + 1) * d] if p.dim() == 2 else p[j * d:(j + 1) * d]

    def turned(p):
        """GPT-2 stores projections as [in, out]."""
        return p.mT if p.dim() == 2 else p

    table = []
    if c["family"] == "gpt2":
        table += [row("embed.tokens.weight", "transformer.wte.weight"),
                  row("embed.position.weight", "transformer.wpe.weight")]
        for i in range(c["layers"]):
            for kind in ("weight", "bias"):
                ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
                table += [row(f"{ours}.attn_norm.{kind}", f"{theirs}.ln_1.{kind}"),
                          row(f"{ours}.ffn_norm.{kind}", f"{theirs}.ln_2.{kind}"),
                          row(f"{ours}.attn.o.{kind}", f"{theirs}.attn.c_proj.{kind}", turned),
                          row(f"{ours}.ffn.up.{kind}", f"{theirs}.mlp.c_fc.{kind}", turned),
                          row(f"{ours}.ffn.down.{kind}", f"{theirs}.mlp.c_proj.{kind}", turned)]
                table += [row(f"{ours}.attn.{part}.{kind}", f"{theirs}.attn.c_attn.{kind}", thirds(j))
                          for j, part in enumerate("qkv")]
        table += [row(f"norm.{kind}", f"transformer.ln_f.{kind}") for kind in ("weight", "bias")]
    else:
        table.append(row("embed.tokens.weight", "model.embed_tokens.weight"))
        for i in range(c["layers"]):
            ours, theirs = f"blocks.{i}", f"model.layers.{i}"
            table += [row(f"{ours}.attn_norm.weight", f"{theirs}.input_layernorm.weight"),
                      row(f"{ours}.ffn_norm.weight", f"{theirs}.post_attention_layernorm.weight")]
            table += [row(f"{ours}.attn.{part}.weight", f"{theirs}.self_attn.{part}_proj.weight") for part in "qkvo"]
            table += [row(f"{ours}.ffn.{part}.weight", f"{theirs}.mlp.{part}_proj.weight")
                      for part in ("gate", "up", "down")]
        table.append(row("norm.weight", "model.norm.weight"))
        if not c["tied"]:
            table.append(row("head.weight", "lm_head.weight"))
    covered = sum(view(p).numel() for _, view, p in table)
    assert covered == sum(p.numel() for p in model.parameters()), "a parameter of the reference has no name of ours"
    return table


def mean_loss(model, tokens, targets):
    """Mean next-token cross-entropy in nats over all b * t positions, in the dtype of the model."""
    logits = model(input_ids=tokens).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()), logits


def train(model, c, tokens, targets):
    """First loss and gradients, then TRAINING["steps"] steps of AdamW; returns the tensors to store."""
    out, losses, norms = {}, [], []
    groups = [dict(params=[p for p in model.parameters() if (p.dim() == 2) == decayed],
                   weight_decay=TRAINING["weight_decay"] if decayed else 0.0) for decayed in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=TRAINING["lr"], betas=tuple(TRAINING["betas"]), eps=TRAINING["eps"],
                                  foreach=False, fused=False)
    for step in range(TRAINING["steps"]):
        optimizer.zero_grad(set_to_none=True)
        loss, logits = mean_loss(model, tokens, targets)
        loss.backward()
        if step == 0:
            out["logits"], out["loss"] = logits.detach().clone(), loss.detach().reshape(1)
            out |= {f"grad.{name}": view(p.grad).clone() for name, view, p in named(model, c)}
        losses.append(loss.detach())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), TRAINING["clip_global_norm"], foreach=False))
        optimizer.step()
    out |= {f"after10.{name}": view(p).detach().clone() for name, view, p in named(model, c)}
    return out | {"losses": torch.stack(losses), "grad_norms": torch.stack(norms)}


def padded(model, rows, pads, side):
    """Logits of a batch whose row r has pads[r] pads on one side; zeros where the query itself is a pad."""
    tokens, mask = rows.clone(), torch.ones_like(rows)
    for r, count in enumerate(pads):
        hole = slice(0, count) if side == "left" else slice(LENGTH - count, LENGTH)
        mask[r, hole] = 0
    # The id under a pad is an ordinary one: that it changes nothing is the mask's doing.
    tokens[mask == 0] = 7
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    logits = model(input_ids=tokens, attention_mask=mask, position_ids=positions).logits
    for r, count in enumerate(pads):
        valid = mask[r] == 1
        alone = model(input_ids=tokens[r][valid][None]).logits[0]
        assert torch.allclose(logits[r][valid], alone, rtol=0, atol=1e-12), f"{side} padding changes row {r}"
    return dict(tokens=tokens, mask=mask, positions=positions, logits=logits * mask[..., None])


def greedy(model, c, seed):
    """A prompt and its greedy continuation, chosen among many so that it wanders and no step is a near tie."""
    prompts = torch.from_numpy(np.random.RandomState(seed).randint(0, c["vocab"], (256, PROMPT)))
    ids, margin = prompts, torch.full((len(prompts),), torch.inf, dtype=torch.float64)
    for _ in range(NEW):
        best = model(input_ids=ids).logits[:, -1].topk(2)
        margin = torch.minimum(margin, best.values[:, 0] - best.values[:, 1])
        ids = torch.cat((ids, best.indices[:, :1]), dim=1)
    variety = torch.tensor([len(set(row[PROMPT:].tolist())) for row in ids])
    variety[margin < 0.02] = 0
    chosen = ids[int(variety.argmax())]
    assert variety.max() >= 4, "no prompt with a continuation worth testing; change the seed"
    prompt, new = chosen[:PROMPT], chosen[PROMPT:]
    # The reference's own decoding, with its cache, must say the same.
    cached = model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), do_sample=False,
                            max_new_tokens=NEW, min_new_tokens=NEW)[0, PROMPT:]
    assert torch.equal(cached, new), "cached decoding of the reference differs from its full recompute"
    return prompt, new


def agrees_with_f32(c, seed, truth, tokens, targets):
    """Runs the untouched f32 reference, asserts that it is the truth up to rounding, prints the distances."""
    plain = train(build(c, seed, torch.float32), c, tokens, targets)
    for prefix in ("logits", "losses", "grad_norms", "grad.", "after10."):
        # The gradient of a key bias is zero, as the softmax does not see it: f32 steps on noise there.
        keys = [k for k in truth if k.startswith(prefix) and not (prefix == "after10." and k.endswith("k.bias"))]
        gap, key = max(((plain[k].double() - truth[k]).abs().max().item(), k) for k in keys)
        gap /= max(truth[k].abs().max().item() for k in keys)
        print(f"  untouched f32 reference: {prefix}* off by {gap:.1e} of the largest, at {key}")
        assert gap < 4e-6, "another function than the f64 reference, or a seed that rounding decides; try the next seed"


def write(path, tensors, metadata):
    """Writes safetensors with sorted keys, so that the same numbers give the same bytes."""
    kinds = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}
    header, body = {"__metadata__": dict(sorted(metadata.items()))}, b""
    for name in sorted(tensors, key=lambda n: (-tensors[n].element_size(), n)):
        data = tensors[name].contiguous().numpy().tobytes()
        header[name] = dict(dtype=kinds[tensors[name].dtype], shape=list(tensors[name].shape),
                            data_offsets=[len(body), len(body) + len(data)])
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def make(name, c):
    """Computes and writes one golden."""
    seed = f"{name}/{SEEDS[name]}"
    random = np.random.RandomState(zlib.crc32(seed.encode()))
    drawn = torch.from_numpy(random.randint(0, c["vocab"], (BATCH, LENGTH + 1)))
    tokens, targets = drawn[:, :-1].contiguous(), drawn[:, 1:].contiguous()
    assert tokens.unique().numel() < tokens.numel(), "no token repeats: gradients of a table would not be summed"
    model = exact(build(c, seed, torch.float64))
    tensors = {f"model.{ours}": view(p).detach().float() for ours, view, p in named(model, c)}
    with torch.no_grad():
        left, right = padded(model, tokens, LEFT_PADS, "left"), padded(model, tokens, RIGHT_PADS, "right")
        prompt, ids = greedy(model, c, zlib.crc32(seed.encode()))
    truth = train(model, c, tokens, targets)
    print(f"{name}: {sum(v.numel() for k, v in tensors.items())} parameters, largest logit "
          f"{truth['logits'].abs().max():.3f}, loss {truth['losses'][0]:.4f} -> {truth['losses'][-1]:.4f}, "
          f"gradient norm {truth['grad_norms'][0]:.3f} -> {truth['grad_norms'][-1]:.3f}, greedy {ids.tolist()}")
    agrees_with_f32(c, seed, truth, tokens, targets)
    tensors |= truth | {"tokens": tokens, "targets": targets, "greedy.prompt": prompt, "greedy.ids": ids}
    tensors |= {f"padded.{k}": v for k, v in left.items()} | {f"padded_right.{k}": v for k, v in right.items()}
    write(HERE / f"{name}.safetensors", tensors, {
        "config": json.dumps(c), "training": json.dumps(TRAINING), "versions": json.dumps(versions()),
        "reference": f"transformers {type(model).__name__}, float64, sdpa", "made_by": "generate.py"})


def versions():
    """What the numbers were made with."""
    return dict(python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
                numpy=np.__version__)


def main():
    """Refreshes everything in this folder and checks it."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sys.dont_write_bytecode = True
    for name, c in GOLDENS.items():
        make(name, c)
    import check
    import counts
    counts.main()
    sys.exit(check.main())


if __name__ == "__main__":
    main()
