"""Checks the goldens against a second implementation that shares no code with transformers.

    python check.py               needs torch and safetensors; exit status 0 when all is well

Every stored result is computed again from the `model.*` tensors by formulas written out below in our own names and
layout: logits, loss, gradients, ten AdamW steps by hand, both paddings, the greedy continuation. Then the same forward
is run with one mistake at a time (FLAWS): a golden that would not notice a mistake is no use, so each must move the
logits well beyond the tolerance that an f32 implementation is held to.
"""
import json
import math
import sys
from pathlib import Path

import torch
from safetensors import safe_open

EXACT = 1e-10  # f64 against f64 after ten steps: rounding only
F32_TOLERANCE = 2e-5  # of the largest logit: what an f32 implementation is held to
SIZE_LIMIT = 400_000  # bytes

# Mistakes that models are known to be shipped with.
FLAWS = {
    "gpt2": ["gelu of the other form", "eps times ten", "future visible", "no attention scale", "q and k exchanged",
             "positions from one"],
    "llama": ["interleaved pairs", "eps times ten", "future visible", "no attention scale", "gate and up exchanged",
              "other theta", "key heads tiled"],
}


def normalise(x, w, path, c, flaw):
    """LayerNorm for GPT-2, RMSNorm for LLaMA."""
    eps = c["eps"] * (10 if flaw == "eps times ten" else 1)
    if c["family"] == "gpt2":
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    return x * w[f"{path}.weight"] + w.get(f"{path}.bias", 0)


def linear(x, w, path):
    """x [.., in] times the transpose of a weight [out, in], plus the bias if there is one."""
    return x @ w[f"{path}.weight"].T + w.get(f"{path}.bias", 0)


def rotate(x, positions, c, flaw):
    """RoPE as complex multiplication: pair j of a head is (x[j], x[j + e/2]); x [b, t, h, e]."""
    e = x.shape[-1]
    theta = 3e4 if flaw == "other theta" else c["theta"]
    angle = positions[..., None, None] * theta ** (-2 * torch.arange(e // 2, dtype=torch.float64) / e)
    turn = torch.polar(torch.ones_like(angle), angle)
    if flaw == "interleaved pairs":
        return torch.view_as_real(torch.complex(x[..., 0::2], x[..., 1::2]) * turn).flatten(-2)
    turned = torch.complex(x[..., : e // 2], x[..., e // 2:]) * turn
    return torch.cat((turned.real, turned.imag), -1)


def attention(x, w, path, c, seen, positions, flaw):
    """Causal attention; query head h reads key head h // (heads / kv_heads). `seen` [b, t, t] is True where allowed."""
    b, t, _ = x.shape
    q, k, v = (linear(x, w, f"{path}.{part}").view(b, t, -1, c["head_dim"]) for part in "qkv")
    if flaw == "q and k exchanged":
        q, k = k, q
    if c["family"] == "llama":
        q, k = rotate(q, positions, c, flaw), rotate(k, positions, c, flaw)
    of = torch.arange(c["heads"]) // (c["heads"] // c["kv_heads"])
    if flaw == "key heads tiled":
        of = torch.arange(c["heads"]) % c["kv_heads"]
    scale = 1.0 if flaw == "no attention scale" else 1 / math.sqrt(c["head_dim"])
    scores = torch.einsum("bthe,bshe->bhts", q, k[:, :, of]) * scale
    weights = scores.masked_fill(~seen[:, None], -1e300).softmax(-1)
    return linear(torch.einsum("bhts,bshe->bthe", weights, v[:, :, of]).flatten(2), w, f"{path}.o")


def feedforward(x, w, path, c, flaw):
    """tanh-GELU MLP for GPT-2, SwiGLU for LLaMA."""
    up = linear(x, w, f"{path}.up")
    if c["family"] == "llama":
        gate = linear(x, w, f"{path}.gate")
        if flaw == "gate and up exchanged":
            gate, up = up, gate
        return linear(gate * gate.sigmoid() * up, w, f"{path}.down")
    if flaw == "gelu of the other form":
        up = up * (1 + torch.erf(up / math.sqrt(2))) / 2
    else:
        up = up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3))) / 2
    return linear(up, w, f"{path}.down")


def forward(w, c, tokens, mask=None, flaw=None):
    """Logits [b, t, n] of a batch, with a mask [b, t] of valid tokens if it is padded."""
    mask = torch.ones_like(tokens) if mask is None else mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0) + (flaw == "positions from one")
    future = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
    seen = (mask[:, None, :] == 1) & (~future | (flaw == "future visible"))
    x = w["embed.tokens.weight"][tokens]
    if c["family"] == "gpt2":
        x = x + w["embed.position.weight"][positions]
    for i in range(c["layers"]):
        path = f"blocks.{i}"
        x = x + attention(normalise(x, w, f"{path}.attn_norm", c, flaw), w, f"{path}.attn", c, seen, positions, flaw)
        x = x + feedforward(normalise(x, w, f"{path}.ffn_norm", c, flaw), w, f"{path}.ffn", c, flaw)
    head = "embed.tokens.weight" if c["tied"] else "head.weight"
    return normalise(x, w, "norm", c, flaw) @ w[head].T


def loss_of(logits, targets):
    """Mean next-token cross-entropy in nats."""
    return (logits.logsumexp(-1) - logits.gather(-1, targets[..., None])[..., 0]).mean()


def train(w, c, tokens, targets, how):
    """The recipe in the file's metadata, by hand; returns what the golden stores."""
    w = {name: p.clone().requires_grad_() for name, p in w.items()}
    first, second = ({name: torch.zeros_like(p) for name, p in w.items()} for _ in range(2))
    (beta1, beta2), out, losses, norms = how["betas"], {}, [], []
    for step in range(1, how["steps"] + 1):
        logits = forward(w, c, tokens)
        loss = loss_of(logits, targets)
        grads = dict(zip(w, torch.autograd.grad(loss, list(w.values()))))
        norm = torch.sqrt(sum(g.square().sum() for g in grads.values()))
        losses.append(loss.detach())
        norms.append(norm)
        if step == 1:
            out |= {"logits": logits.detach(), "loss": loss.detach().reshape(1)}
            out |= {f"grad.{name}": g for name, g in grads.items()}
        with torch.no_grad():
            for name, p in w.items():
                g = grads[name] * torch.clamp(how["clip_global_norm"] / (norm + 1e-6), max=1)
                first[name] = beta1 * first[name] + (1 - beta1) * g
                second[name] = beta2 * second[name] + (1 - beta2) * g * g
                mean, square = first[name] / (1 - beta1**step), second[name] / (1 - beta2**step)
                if p.dim() == 2:
                    p *= 1 - how["lr"] * how["weight_decay"]
                p -= how["lr"] * mean / (square.sqrt() + how["eps"])
    out |= {f"after10.{name}": p.detach() for name, p in w.items()}
    return out | {"losses": torch.stack(losses), "grad_norms": torch.stack(norms)}


def same(name, found, expected):
    """Asserts equality up to f64 rounding, relative to the largest number of the tensor or 1e-3."""
    assert found.shape == expected.shape, f"{name}: expected {list(expected.shape)}, found {list(found.shape)}"
    gap = (found - expected).abs().max().item()
    assert gap <= EXACT * max(expected.abs().max().item(), 1e-3), f"{name}: off by {gap:.1e}"


def check(path):
    """Checks one file and prints a line about it."""
    with safe_open(path, "pt") as file:
        meta, stored = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    c, how = json.loads(meta["config"]), json.loads(meta["training"])
    assert path.stat().st_size <= SIZE_LIMIT, f"{path.name}: {path.stat().st_size} bytes"
    assert all(t.dtype == torch.int64 or t.isfinite().all() for t in stored.values()), "a number is not finite"
    w = {name.removeprefix("model."): p.double() for name, p in stored.items() if name.startswith("model.")}
    for prefix in ("grad", "after10"):
        shapes = {n.removeprefix(f"{prefix}."): list(p.shape) for n, p in stored.items() if n.startswith(f"{prefix}.")}
        assert shapes == {name: list(p.shape) for name, p in w.items()}, f"{prefix}.* is not model.*"

    mine = train(w, c, stored["tokens"], stored["targets"], how)
    for name, found in mine.items():
        same(name, found, stored[name])
    for case in ("padded", "padded_right"):
        mask = stored[f"{case}.mask"]
        logits = forward(w, c, stored[f"{case}.tokens"], mask)
        same(f"{case}.logits", logits * mask[..., None], stored[f"{case}.logits"])
    ids = stored["greedy.prompt"]
    for _ in stored["greedy.ids"]:
        ids = torch.cat((ids, forward(w, c, ids[None])[0, -1:].argmax(-1)))
    assert torch.equal(ids[len(stored["greedy.prompt"]):], stored["greedy.ids"]), "greedy continuation differs"

    # Each mistake is caught if it moves some logit by ten tolerances or more.
    visible, largest = {}, stored["logits"].abs().max()
    for flaw in FLAWS[c["family"]]:
        if flaw == "key heads tiled" and c["heads"] == c["kv_heads"]:
            continue
        gap = (forward(w, c, stored["tokens"], flaw=flaw) - stored["logits"]).abs().max() / largest
        visible[flaw] = (gap / F32_TOLERANCE).item()
        assert visible[flaw] > 10, f"{path.name}: would not notice {flaw}: {visible[flaw]:.1f} tolerances"
    least = min(visible, key=visible.get)
    print(f"{path.name}: {path.stat().st_size} bytes, {len(stored)} tensors, all recomputed; "
          f"least visible mistake: {least} ({visible[least]:.0f} tolerances)")


def main():
    """Checks every golden of this folder."""
    torch.set_num_threads(1)
    files = sorted(Path(__file__).resolve().parent.glob("*.safetensors"))
    assert files, "no goldens here; run generate.py"
    for path in files:
        check(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
