"""Goldens of the recipes crate: tiny published checkpoints, as transformers writes them, with its logits and texts.

    pip install torch==2.15.0 transformers==5.23.0 numpy==2.4.6 safetensors==0.8.0
    python published.py           writes everything in published/

`published/<folder>/` is what `save_pretrained` wrote. `published/cases.json` lists the cases: a folder, its config as
transformers 5 spells it and as it was spelled before, a prompt, and what greedy decoding adds to it with and without
a repetition penalty. Cases that differ in the config alone share a folder. `published/expected.safetensors` has, for
each case,

    <case>.tokens   I64 [2, t]          one batch
    <case>.plain    F32 [2, t, vocab]   its logits, in f32
    <case>.padded   F32 [2, t, vocab]   the same with the first PADS tokens of the first row masked, positions from 0;
                                        what stands at masked tokens means nothing
    <case>.exact    F64 [2, t, vocab]   the logits of a run in f64, for some cases

and its metadata has the versions. Weights are drawn from numpy's frozen generator, one stream for each tensor, so the
same versions give the same bytes.
"""
import copy
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
OUT = HERE / "published"
sys.dont_write_bytecode = True
sys.path.append(str(HERE.parents[2] / "model" / "tests" / "golden"))
from generate import exact, versions, write  # noqa: E402  (the goldens of the layers come from the same parts)

BATCH, LENGTH, PADS, PROMPT, NEW, PENALTY = 2, 13, 4, 5, 11, 1.3
# The two likeliest tokens of every greedy step are apart by this much of the largest logit, fifty times the tolerance.
MARGIN = 1e-3


def gpt2(**more):
    """Fused projections stored [in, out]; tied unless told otherwise."""
    plain = dict(vocab_size=41, n_positions=24, n_embd=12, n_layer=2, n_head=3, bos_token_id=39, eos_token_id=40)
    return GPT2Config(**(plain | more))


def llama(**more):
    """Grouped queries: 4 heads over 2, of width 6."""
    plain = dict(vocab_size=43, hidden_size=24, intermediate_size=17, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=48, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
    return LlamaConfig(**(plain | more))


def rope(kind, **more):
    """Parameters of the rotary encoding."""
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=1e4) | more)


# Folder: the stored type, the size of its shards, and the config of each of its cases; the first is saved with it.
FOLDERS = {
    "gpt2": (torch.float32, "9KB", {"gpt2": gpt2()}),
    "gpt2-untied": (torch.bfloat16, None, {"gpt2-untied": gpt2(
        tie_word_embeddings=False, n_inner=31, activation_function="relu", layer_norm_epsilon=1e-3)}),
    "llama-gqa": (torch.float32, "16KB", {
        "llama-gqa": llama(),
        "llama-eps-theta": llama(rms_norm_eps=1e-2, **rope("default", rope_theta=5e5)),
        "llama-linear": llama(**rope("linear", factor=4.0)),
        "llama-dynamic": llama(max_position_embeddings=16, **rope("dynamic", factor=4.0)),
        "llama-yarn": llama(**rope("yarn", factor=4.0, original_max_position_embeddings=12)),
        "llama-yarn-mscale": llama(**rope("yarn", factor=6.0, original_max_position_embeddings=8, beta_fast=16.0,
                                          beta_slow=2.0, mscale=0.8, mscale_all_dim=0.5)),
        "llama-llama3": llama(**rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                     original_max_position_embeddings=16)),
    }),
    "llama-mqa-tied": (torch.bfloat16, None, {"llama-mqa-tied": llama(
        num_key_value_heads=1, tie_word_embeddings=True)}),
    "llama-bias": (torch.float32, None, {"llama-bias": llama(
        hidden_size=18, num_attention_heads=3, num_key_value_heads=3, attention_bias=True, mlp_bias=True)}),
    "llama-wide-heads": (torch.float16, None, {"llama-wide-heads": llama(
        hidden_size=18, num_attention_heads=6, num_key_value_heads=2, head_dim=10, hidden_act="gelu")}),
}
EXACT = ["gpt2", "llama-bias", "llama-wide-heads"]


def model_of(config, name, stored):
    """The reference model with weights that depend on the folder's name alone, rounded to the stored type."""
    kind = GPT2LMHeadModel if isinstance(config, GPT2Config) else LlamaForCausalLM
    model = kind(copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter, values in model.named_parameters():
            random = np.random.RandomState(zlib.crc32(f"{name}/{parameter}".encode()))
            normal = random.standard_normal(tuple(values.shape))
            if parameter.endswith("bias"):
                normal *= 0.2
            elif values.dim() == 1:
                normal = 1 + 0.3 * normal
            else:
                normal *= 0.35
            values.copy_(torch.from_numpy(normal.astype(np.float32)).to(stored))
    return model


def spelled_before(config):
    """The config.json as transformers wrote it before version 5."""
    old = copy.deepcopy(config)
    if "dtype" in old:
        old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.41.0"
    rotary = old.pop("rope_parameters", None)
    if rotary is not None:
        old["rope_theta"] = rotary.pop("rope_theta")
        kind = rotary.pop("rope_type")
        # The name of the kind was `type` until 4.43, which added llama3.
        key = "rope_type" if kind == "llama3" else "type"
        old["rope_scaling"] = None if kind == "default" else {key: kind} | rotary
    return old


def greedy(model, prompt, penalty):
    """The ids after a prompt, by full recomputation; `None` where two tokens are too close to tell."""
    ids = list(prompt)
    for _ in range(NEW):
        logits = model(torch.tensor([ids])).logits[0, -1].double()
        largest = logits.abs().max()
        for seen in set(ids):
            logits[seen] = logits[seen] / penalty if logits[seen] > 0 else logits[seen] * penalty
        top = logits.topk(2)
        if top.values[0] - top.values[1] < MARGIN * largest:
            return None
        ids.append(int(top.indices[0]))
    return ids[len(prompt):]


def prompt_of(model, name, vocab):
    """The first prompt that is continued without a near tie, with both continuations."""
    for seed in range(1000):
        random = np.random.RandomState(zlib.crc32(f"{name}/prompt/{seed}".encode()))
        prompt = random.randint(3, vocab, PROMPT).tolist()
        texts = [greedy(model, prompt, penalty) for penalty in (1.0, PENALTY)]
        if None not in texts and texts[0] != texts[1] and len(set(texts[0])) > 3:
            break
    else:
        sys.exit(f"{name}: no prompt without a near tie")
    given = torch.tensor([prompt])
    for text, penalty in zip(texts, (1.0, PENALTY)):
        written = model.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=NEW,
                                 eos_token_id=None, pad_token_id=0, repetition_penalty=penalty)
        assert written[0, PROMPT:].tolist() == text, f"{name}: the cache changes the text"
    return dict(prompt=prompt, greedy=texts[0], penalised=texts[1])


def main():
    """Writes everything."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cases, tensors = [], {}
    for folder, (stored, shards, configs) in FOLDERS.items():
        for case, config in configs.items():
            model = model_of(config, folder, stored)
            place = OUT / folder
            if case == folder:
                for file in place.glob("*"):
                    file.unlink()
                model.to(stored).save_pretrained(place, **({"max_shard_size": shards} if shards else {}))
                model = model.float()
                for file in place.glob("*"):
                    file.chmod(0o644)
            described = json.loads((place / "config.json").read_text())
            if case != folder:
                theirs = model.config.to_dict()
                changed = {key: theirs[key] for key in described if theirs.get(key) is not None}
                described = described | changed
            random = np.random.RandomState(zlib.crc32(f"{case}/tokens".encode()))
            length = 19 if "dynamic" in case else LENGTH
            tokens = torch.from_numpy(random.randint(0, config.vocab_size, (BATCH, length)))
            mask = torch.ones_like(tokens)
            mask[0, :PADS] = 0
            positions = (mask.cumsum(-1) - 1).clamp(min=0)
            with torch.no_grad():
                tensors[f"{case}.tokens"] = tokens
                # The dynamic encoding goes by the longest text that the model has seen; each run starts afresh.
                fresh = lambda: model_of(config, folder, stored)
                tensors[f"{case}.plain"] = fresh()(input_ids=tokens).logits
                # It also goes by the longest row of a batch, and so is asked for one row at a time.
                size = 1 if "dynamic" in case else BATCH
                parts = zip(tokens.split(size), mask.split(size), positions.split(size))
                tensors[f"{case}.padded"] = torch.cat([
                    fresh()(input_ids=ids, attention_mask=real, position_ids=at).logits for ids, real, at in parts])
                if case in EXACT:
                    wide = exact(fresh().double())
                    tensors[f"{case}.exact"] = wide(input_ids=tokens).logits
                    off = (tensors[f"{case}.exact"] - tensors[f"{case}.plain"]).abs().max()
                    assert off < 5e-6 * tensors[f"{case}.plain"].abs().max(), f"{case}: f64 is {off} away"
                text = prompt_of(model, case, config.vocab_size)
            cases.append(dict(name=case, folder=folder, pads=PADS, penalty=PENALTY, config=described,
                              before=spelled_before(described)) | text)
            print(f"{case}: {sum(p.numel() for p in model.parameters())} parameters, largest logit "
                  f"{tensors[f'{case}.plain'].abs().max():.2f}, greedy {text['greedy']}")
    write(OUT / "expected.safetensors", tensors, {"versions": json.dumps(versions()), "made_by": "published.py"})
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    (OUT / "cases.json").write_text(f'{{"versions": {json.dumps(versions())},\n"cases": [\n{lines}\n]}}\n')
    print(sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file()), "bytes")


if __name__ == "__main__":
    main()
