"""Reading and writing in transformers: transformers_infer.py THREADS FOLDER f32|bf16

A line of input is `prefill` (512 tokens to the last logits) or `decode` (64 tokens into an empty cache, greedily); the
answer is {"value": tokens per second}."""
import json, sys, time

import torch
import transformers

threads, folder, precision = int(sys.argv[1]), *sys.argv[2:4]
torch.set_num_threads(threads)
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
ids = torch.randint(model.config.vocab_size, (1, 512))


def prefill():
    model(ids, logits_to_keep=1)
    return 512


def decode():
    model.generate(ids[:, :1], max_new_tokens=64, min_new_tokens=64, do_sample=False)
    return 64


with torch.no_grad():
    for line in sys.stdin:
        work = {"prefill": prefill, "decode": decode}[line.strip()]
        work()
        begin = time.perf_counter()
        tokens = work()
        print(json.dumps({
            "name": f"transformers {transformers.__version__}", "value": tokens / (time.perf_counter() - begin),
        }), flush=True)
