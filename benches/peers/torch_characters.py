"""The recipe of the example train_characters in torch: torch_characters.py THREADS TEXT f32|bf16

What `examples/train_characters.rs` says in its head, on the same text: the model, the optimiser, the schedule, 2000
steps, and the loss over the whole last tenth of the text in windows that do not overlap. In bf16 the passes of training
run under autocast."""
import math, sys, time

import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, LAYERS, CONTEXT, ROWS, STEPS, WARM_UP = 128, 4, 4, 64, 12, 2000, 100
torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(1)
text = open(sys.argv[2], encoding="utf-8").read()
letters = {letter: i for i, letter in enumerate(sorted(set(text)))}
ids = torch.tensor([letters[letter] for letter in text])
learned, held_out = ids.split([len(ids) * 9 // 10, len(ids) - len(ids) * 9 // 10])


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn_norm, self.ffn_norm = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)
        for matrix in (self.qkv, self.up):
            nn.init.normal_(matrix.weight, std=0.02)
        for matrix in (self.out, self.down):
            nn.init.normal_(matrix.weight, std=0.02 / math.sqrt(2 * LAYERS))

    def forward(self, x):
        split = self.qkv(self.attn_norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*split, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.ffn_norm(x))))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(len(letters), WIDTH), nn.Embedding(CONTEXT, WIDTH)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.layers, self.norm = nn.Sequential(*(Layer() for _ in range(LAYERS))), nn.LayerNorm(WIDTH, bias=False)

    def forward(self, x, y):
        hidden = self.norm(self.layers(self.tokens(x) + self.positions.weight))
        return F.cross_entropy(F.linear(hidden, self.tokens.weight).flatten(0, 1), y.flatten())


model = Model()
groups = [{"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1},
          {"params": [p for p in model.parameters() if p.dim() == 1], "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
begin = time.perf_counter()
for step in range(STEPS):
    done = max(step - WARM_UP, 0) / (STEPS - WARM_UP)
    rate = min((step + 1) / (WARM_UP + 1) * 1e-3, 1e-4 + 9e-4 * 0.5 * (1 + math.cos(math.pi * done)))
    for group in optimizer.param_groups:
        group["lr"] = rate
    starts = torch.randint(len(learned) - CONTEXT - 1, (ROWS, 1))
    windows = learned[starts + torch.arange(CONTEXT + 1)]
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=sys.argv[3] == "bf16"):
        loss = model(windows[:, :-1], windows[:, 1:])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
seconds = time.perf_counter() - begin
with torch.no_grad():
    count = (len(held_out) - 1) // CONTEXT
    x, y = (held_out[i : i + count * CONTEXT].view(count, CONTEXT) for i in (0, 1))
    loss = sum(model(a, b).item() * len(a) for a, b in zip(x.split(64), y.split(64))) / count
print(f"{STEPS} steps in {seconds:.1f} s, held-out {loss:.4f} nats per character")
