"""A training step in torch: torch_step.py THREADS MODEL f32|bf16 eager|compiled

Every line of input is answered with the median of three steps: {"tok_s", "forward_s", "backward_s", "optimiser_s",
"peak_gb"}. Models are those of configs/, from transformers, without dropout; batches of 4 x 256 random tokens; the
gradient's norm is clipped at 1; AdamW is torch's fused one; bf16 is autocast."""
import json, resource, sys, time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

threads, name, precision, mode = int(sys.argv[1]), *sys.argv[2:5]
ROWS, LENGTH = 4, 256
torch.set_num_threads(threads)
torch.manual_seed(1)
if name == "gpt2-124m":
    config = GPT2Config(attn_implementation="sdpa", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    model = GPT2LMHeadModel(config)
elif name == "llama-135m":
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, attn_implementation="sdpa")
    model = LlamaForCausalLM(config)
else:
    sys.exit(f"model: expected gpt2-124m or llama-135m, found {name}")
model.train()
run = torch.compile(model) if mode == "compiled" else model
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
ids = torch.randint(config.vocab_size, (ROWS, LENGTH))


def step():
    """The seconds of the three phases."""
    marks = [time.perf_counter()]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = run(input_ids=ids, labels=ids).loss
    marks.append(time.perf_counter())
    loss.backward()
    marks.append(time.perf_counter())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    marks.append(time.perf_counter())
    return [after - before for before, after in zip(marks, marks[1:])]


warm = False
for _ in sys.stdin:
    # Two steps before the clock counts, in the first turn the compiler's as well.
    for _ in range(2 if not warm else 1):
        step()
    warm = True
    middle = sorted((step() for _ in range(3)), key=sum)[1]
    print(json.dumps({
        "name": f"torch {torch.__version__} {mode}",
        "tok_s": ROWS * LENGTH / sum(middle),
        **dict(zip(("forward_s", "backward_s", "optimiser_s"), middle)),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }), flush=True)
