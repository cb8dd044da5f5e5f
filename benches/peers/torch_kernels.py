"""Torch's side of kernels: torch_kernels.py THREADS, a job a line in, {"value": ..} a line out.

The jobs are those of Formwork's program `turns`, which says what they mean. Operands of a bf16 product are bf16
already; a step of a linear layer runs under autocast, as training does."""
import json, math, statistics, sys, time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
torch.manual_seed(1)
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def median(work):
    """The median of the seconds of some repetitions over half a second, at least three, after a first."""
    work()
    start, seconds = time.perf_counter(), []
    while len(seconds) < 3 or time.perf_counter() - start < 0.5:
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def numbers(*shape):
    return torch.rand(*shape) * 2 - 1


def matmul(dtype, turn, m, n, k):
    left, right = (m, k), (k, n)
    a = numbers(k, m).T if turn == "tn" else numbers(*left)
    b = numbers(n, k).T if turn == "nt" else numbers(*right)
    a, b = a.to(DTYPES[dtype]), b.to(DTYPES[dtype])
    y = torch.empty(m, n, dtype=DTYPES[dtype])
    with torch.no_grad():
        return 2e-9 * m * n * k / median(lambda: torch.mm(a, b, out=y))


def linear(dtype, m, n, k):
    x, w = numbers(m, k).to(DTYPES[dtype]), numbers(n, k).to(DTYPES[dtype])
    with torch.no_grad():
        return 2e-9 * m * n * k / median(lambda: F.linear(x, w))


def linear_step(dtype, m, n, k):
    x, w, dy = numbers(m, k).requires_grad_(), (numbers(n, k) * 0.02).requires_grad_(), torch.ones(m, n)

    def work():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16"):
            y = F.linear(x, w)
        y.backward(dy.to(y.dtype))
        x.grad = w.grad = None

    return 6e-9 * m * n * k / median(work)


def attention(heads, width, context):
    q, k, v = (numbers(1, context, heads, width).transpose(1, 2).requires_grad_() for _ in range(3))
    dy = torch.ones(1, heads, context, width)

    def work():
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / math.sqrt(width)).backward(dy)
        q.grad = k.grad = v.grad = None

    return 1e3 * median(work)


def adamw(parameters):
    p = torch.full((parameters,), 0.5, requires_grad=True)
    p.grad = torch.full((parameters,), 1e-3)
    optimizer = torch.optim.AdamW([p], lr=1e-4, weight_decay=0.1, fused=True)
    return 28e-9 * parameters / median(optimizer.step)


JOBS = {"matmul": matmul, "linear": linear, "linear-step": linear_step, "attention": attention, "adamw": adamw}
for line in sys.stdin:
    job, *words = line.split()
    arguments = [int(word) if word.isdigit() else word for word in words]
    print(json.dumps({"name": f"torch {torch.__version__}", "value": JOBS[job](*arguments)}), flush=True)
