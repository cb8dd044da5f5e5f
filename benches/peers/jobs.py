"""What is compared: a name, both sides, a unit, and the ceiling that bounds it."""
import re
from dataclasses import dataclass
from typing import Callable, Optional

from sides import HERE, Command, Roofline, Server


@dataclass
class Job:
    ours: Callable
    theirs: Callable
    unit: str
    less_is_better: bool = False
    rounds: int = 5
    # From a record to the share of the ceiling that our side reached.
    ceiling: Optional[Callable] = None
    # A second figure of the same turns, less of which is better: its job's name and unit. A turn is a pair then.
    second: Optional[tuple] = None


JOBS = {}
# Operations of one token's forward pass, two for each weight of a layer: a prompt asks for one row of logits only.
MODELS = {
    "135m": {"file": "smollm2-{}.gguf", "types": ("f32", "bf16", "q8_0", "q4_0", "q4_1"), "prompt": 512, "weights": 0.1345e9, "ops": 0.2124e9},
    "1b": {"file": "llama1b-{}.gguf", "types": ("bf16", "q8_0", "q4_0"), "prompt": 256, "weights": 1.0387e9, "ops": 1.946e9},
}
# A weight's; in files of 4 bits the head is larger, which these leave out.
BYTES = {"f32": 4, "bf16": 2, "q8_0": 34 / 32, "q4_0": 18 / 32, "q4_1": 20 / 32}
ARITHMETIC = {"f32": "f32_gflops", "bf16": "bf16_gflops"}


def llama(home, model, *words, read=None):
    """llama-bench, one repetition a turn; its own warm-up comes first, as ours does."""
    command = [home.llama(), "-m", home.model(model), "-t", str(home.threads), "-r", "1", "-o", "json", *words]
    return Command(home.llama_version(), command, read)


def bench(home, model, *words, part, threads=None):
    """`formwork bench`, one repetition a turn."""
    command = [home.formwork(), "bench", "--model", model, "--threads", str(threads or home.threads), "-r", "1", "--json"]
    return Command("formwork", [*command, *words], lambda found: found[part]["median"])


def candle(home, line, *words, read=lambda found: found["value"]):
    """Candle takes its threads from the environment."""
    return Server("candle", [*home.candle(), *words], line, read, env={"RAYON_NUM_THREADS": str(home.threads)})


def inference(size, stored, model):
    file, prompt = model["file"].format(stored), model["prompt"]
    first = lambda found: found[0]["avg_ts"]
    reads = lambda found: found["ours"] * model["ops"] / 1e9 / found[ARITHMETIC.get(stored, "int8_gops")]
    JOBS[f"prefill/{size}/{stored}"] = Job(
        lambda home: bench(home, home.model(file), "-p", str(prompt), "-n", "0", part="prefill"),
        lambda home: llama(home, file, "-p", str(prompt), "-n", "0", read=first),
        "tok/s", ceiling=reads)
    new = 64 if size == "1b" else 128
    # A token reads every weight once.
    moves = lambda found: found["ours"] * model["weights"] * BYTES[stored] / 1e9 / found["read_gb_s"]
    JOBS[f"decode/{size}/{stored}"] = Job(
        lambda home: bench(home, home.model(file), "-p", "0", "-n", str(new), part="decode"),
        lambda home: llama(home, file, "-p", "0", "-n", str(new), read=first), "tok/s", ceiling=moves)
    # The whole command, from its start to its end: the model is opened, one token goes through it.
    JOBS[f"load/{size}/{stored}"] = Job(
        lambda home: Command("formwork", [home.formwork(), "generate", "--model", home.model(file), "--raw-ids",
                                          "--prompt", "1", "--max-tokens", "1", "--greedy",
                                          "--precision", "as_stored"]),
        lambda home: llama(home, file, "-p", "0", "-n", "1", "--no-warmup"),
        "s", less_is_better=True, rounds=7)


for size, model in MODELS.items():
    for stored in model["types"]:
        inference(size, stored, model)

for stored in ("f32", "bf16"):
    for part, words in (("prefill", ["-p", "512", "-n", "0"]), ("decode", ["-p", "0", "-n", "64"])):
        JOBS[f"{part}/135m/{stored}/transformers"] = Job(
            lambda home, stored=stored, part=part, words=words:
                bench(home, home.model(f"smollm2-{stored}.gguf"), *words, part=part),
            lambda home, stored=stored, part=part:
                Server("transformers", home.python("transformers_infer.py", home.model("smollm2"), stored), part),
            "tok/s", rounds=3)
for stored in ("f32", "q8_0", "q4_0", "q4_1"):
    for part, words in (("prefill", ["-p", "512", "-n", "0"]), ("decode", ["-p", "0", "-n", "128"])):
        JOBS[f"{part}/135m/{stored}/candle"] = Job(
            lambda home, stored=stored, part=part, words=words:
                bench(home, home.model(f"smollm2-{stored}.gguf"), *words, part=part),
            lambda home, stored=stored, part=part:
                candle(home, part, "infer", home.model(f"smollm2-{stored}.gguf")),
            "tok/s", rounds=3)


def step(home, model, precision, read, threads=None):
    """`formwork bench-train`, two steps to warm up and three that count."""
    config = str(HERE / "configs" / f"{model}.json")
    words = ["bench-train", "--model", config, "--batch", "4", "--seq", "256", "--precision", precision, "--steps", "3",
             "--threads", str(threads or home.threads), "--json"]
    return Command("formwork", [home.formwork(), *words], read)


def training(model, precision, mode):
    both = lambda found: (found["tok_s"], found["peak_gb"])

    def peer(home):
        if mode == "candle":
            return candle(home, "step", "train", read=both)
        return Server(f"torch {mode}", home.python("torch_step.py", model, precision, mode), "step", both)

    JOBS[f"train/{model}/{precision}/{mode}"] = Job(
        lambda home: step(home, model, precision, lambda found: (found["tok_s"], found["peak_bytes"] / 1e9)),
        peer, "tok/s", rounds=3, second=(f"memory/{model}/{precision}/{mode}", "GB"))


for precision in ("f32", "bf16"):
    for mode in ("eager", "compiled"):
        training("gpt2-124m", precision, mode)
    training("llama-135m", precision, "eager")
training("gpt2-124m", "f32", "candle")


def characters_ours(home, precision):
    text = need_text(home)
    program = home.target / "examples/train_characters"
    if not program.exists():
        raise RuntimeError(f"{program} is not there; run cargo build --release --example train_characters")
    return Command("formwork", [str(program), "--text", text, "--precision", precision, "1"], training_seconds, parse=str)


def characters_theirs(home, precision):
    command = home.python("torch_characters.py", need_text(home), precision)
    return Command(f"torch {precision}", command, training_seconds, parse=str)


def training_seconds(said):
    """Both say `2000 steps in 80.0 s`, without what came before and after."""
    return float(re.search(r"steps in ([\d.]+) s", said)[1])


def need_text(home):
    if home.text is None:
        raise RuntimeError("--text FILE is needed")
    return str(home.text.resolve())


# Two thousand steps of a small model: like against like, and our fastest against their usual one.
for name, precisions in (("characters", ("f32", "f32")), ("characters/bf16", ("bf16", "bf16")),
                         ("characters/bf16/torch_f32", ("bf16", "f32"))):
    JOBS[f"train/{name}"] = Job(
        lambda home, ours=precisions[0]: characters_ours(home, ours),
        lambda home, theirs=precisions[1]: characters_theirs(home, theirs),
        "s", less_is_better=True, rounds=1)

SHAPES = {"chars_up": (768, 512, 128), "gpt2_up": (1024, 3072, 768), "gpt2_down": (1024, 768, 3072),
          "head": (512, 50257, 768), "llama_up": (512, 8192, 2048), "cube": (2048, 2048, 2048)}


def kernel(name, words, ceiling=None, unit="Gflop/s", less_is_better=False):
    """The same line to both sides."""
    words = " ".join(map(str, words))
    JOBS[name] = Job(
        lambda home: Server("formwork", home.turns(), words),
        lambda home: Server("torch", home.python("torch_kernels.py"), words),
        unit, less_is_better, ceiling=ceiling and (lambda found: found["ours"] / found[ceiling]))


for shape, sizes in SHAPES.items():
    for turn in ("nt", "nn", "tn"):
        kernel(f"matmul/f32/{shape}_{turn}", ["matmul", "f32", turn, *sizes], "f32_gflops")
    kernel(f"matmul/bf16/{shape}", ["linear", "bf16", *sizes], "bf16_gflops")
    kernel(f"matmul/bf16-step/{shape}", ["linear-step", "bf16", *sizes], "bf16_gflops")
for context in (512, 1024, 2048, 4096):
    kernel(f"attention/{context}", ["attention", 12, 64, context], unit="ms", less_is_better=True)
kernel("attention/1024_width_128", ["attention", 8, 128, 1024], unit="ms", less_is_better=True)
kernel("attention/1024_width_80", ["attention", 8, 80, 1024], unit="ms", less_is_better=True)


# Shapes that no goal names: few rows, odd sizes, a wide vocabulary, contexts from one token to thousands.
OTHER_SHAPES = {"one_row": (1, 2048, 2048), "few_rows": (7, 3072, 768), "odd": (333, 777, 555), "narrow": (1024, 80, 1280),
                "small": (16, 64, 64), "shallow": (2048, 2048, 16), "vocabulary": (64, 256000, 256)}
for shape, sizes in OTHER_SHAPES.items():
    for turn in ("nt", "nn", "tn"):
        kernel(f"shapes/f32/{shape}_{turn}", ["matmul", "f32", turn, *sizes], "f32_gflops")
    kernel(f"shapes/bf16/{shape}", ["linear", "bf16", *sizes], "bf16_gflops")
for heads, width, context in ((32, 64, 64), (16, 80, 256), (3, 128, 777), (4, 64, 8192)):
    kernel(f"shapes/attention/{heads}x{width}_{context}", ["attention", heads, width, context], unit="ms", less_is_better=True)
for stored in ("bf16", "q8_0", "q4_0"):
    for prompt in (2, 16, 61, 2048):
        JOBS[f"shapes/prefill/135m/{stored}/{prompt}"] = Job(
            lambda home, stored=stored, prompt=prompt: bench(
                home, home.model(f"smollm2-{stored}.gguf"), "-p", str(prompt), "-n", "0", part="prefill"),
            lambda home, stored=stored, prompt=prompt: llama(
                home, f"smollm2-{stored}.gguf", "-p", str(prompt), "-n", "0", read=lambda found: found[0]["avg_ts"]),
            "tok/s", rounds=3)

PARAMETERS = 124_439_808
JOBS["optimiser/124m"] = Job(
    lambda home: Server("formwork", home.turns(), f"adamw {PARAMETERS}"),
    lambda home: Roofline(home, "triad_gb_s"), "GB/s", ceiling=lambda found: found["ours"] / found["triad_gb_s"])
kernel("optimiser/124m_torch", ["adamw", PARAMETERS], "triad_gb_s", unit="GB/s")


# All threads against one: both sides are ours.
def threads(name, side):
    JOBS[f"threads/{name}"] = Job(
        lambda home: side(home, home.threads), lambda home: renamed(side(home, 1)), "tok/s", rounds=3)


def renamed(side):
    side.name = "formwork, 1 thread"
    return side


for stored in ("bf16", "q8_0"):
    for part, words in (("prefill", ["-p", "512", "-n", "0"]), ("decode", ["-p", "0", "-n", "128"])):
        threads(f"{part}/135m/{stored}", lambda home, count, stored=stored, part=part, words=words: bench(
            home, home.model(f"smollm2-{stored}.gguf"), *words, part=part, threads=count))
for precision in ("f32", "bf16"):
    threads(f"train/gpt2-124m/{precision}", lambda home, count, precision=precision: step(
        home, "gpt2-124m", precision, lambda found: found["tok_s"], threads=count))
