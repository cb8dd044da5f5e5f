"""Writes generation.json: what transformers' generate() makes of each setting, on a model that is a table.

    pip install torch==2.15.0 transformers==5.23.0
    python generation.py

The logits after token i are row i of `table`, whatever came before, so that nothing but the settings is compared.
Settings are named as in this project; `published` below says what transformers calls them. For each case: the tokens
that greedy generation adds to each row of a left-padded batch, and the scores of the first step as they come out of all
of transformers' processors (null is minus infinity).
"""

import json
import math
from pathlib import Path

import torch
import transformers
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

VOCAB = 11
PAD = 4  # an ordinary token: what is penalised under padding would be seen
PROMPTS = [[3, 1, 4, 1, 5], [9, 2]]


class BigramConfig(PretrainedConfig):
    model_type = "bigram"
    vocab_size = VOCAB


class Bigram(PreTrainedModel, GenerationMixin):
    config_class = BigramConfig

    def __init__(self, config, table):
        super().__init__(config)
        self.table = torch.nn.Parameter(table)

    def forward(self, input_ids, attention_mask=None, **_):
        return CausalLMOutput(logits=self.table[input_ids])

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **_):
        return {"input_ids": input_ids}


def published(settings):
    names = {"no_repeat_ngram": "no_repeat_ngram_size", "ban": "suppress_tokens", "ban_first": "begin_suppress_tokens",
             "ban_phrases": "bad_words_ids", "end": "eos_token_id", "max_tokens": "max_new_tokens",
             "min_tokens": "min_new_tokens"}
    theirs = {names.get(name, name): value for name, value in settings.items()}
    if theirs["temperature"] == 0:
        del theirs["temperature"]
        return GenerationConfig(do_sample=False, pad_token_id=PAD, use_cache=False, **theirs)
    theirs.setdefault("top_k", 0)  # 50 unless told otherwise
    return GenerationConfig(do_sample=True, pad_token_id=PAD, use_cache=False, **theirs)


def generate(model, settings, prompts):
    """The tokens that are added to each prompt of a left-padded batch, and the scores of the first step."""
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    torch.manual_seed(1)
    out = model.generate(ids, attention_mask=mask, generation_config=published(settings),
                         output_scores=True, return_dict_in_generate=True)
    end = settings.get("end", [])
    texts = []
    for row in out.sequences[:, width:].tolist():
        stop = next((i + 1 for i, token in enumerate(row) if token in end), len(row))
        texts.append(row[:stop])
    return texts, [[None if x == -math.inf else x for x in row] for row in out.scores[0].tolist()]


def case(model, settings):
    settings = {"temperature": 0, "max_tokens": 12, **settings}
    # transformers takes padding for text when it looks for n-grams, though not when it penalises tokens.
    batches = [[p] for p in PROMPTS] if "no_repeat_ngram" in settings else [PROMPTS]
    done = [generate(model, settings, prompts) for prompts in batches]
    texts, scores = (sum(parts, []) for parts in zip(*done))
    return {"settings": settings, "scores": scores, **({"texts": texts} if settings["temperature"] == 0 else {})}


def main():
    torch.manual_seed(5)
    table = (torch.randn(VOCAB, VOCAB) * 2 - 4 * torch.eye(VOCAB)).round(decimals=3)  # a token seldom follows itself
    model = Bigram(BigramConfig(), table).eval()
    sampled = {"temperature": 0.7}
    cases = [case(model, settings) for settings in [
        {},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.7},
        {"repetition_penalty": 2.5, "max_tokens": 30},
        {"no_repeat_ngram": 1, "max_tokens": 6},
        {"no_repeat_ngram": 2, "max_tokens": 30},
        {"no_repeat_ngram": 3, "max_tokens": 30},
        {"no_repeat_ngram": 3, "repetition_penalty": 1.1, "max_tokens": 30},
        {"ban": [5, 8]},
        {"ban_first": [3, 9]},
        {"ban_phrases": [[7], [9, 2, 9], [3, 1, 5, 3, 1], [1, 5, 0]]},
        {"end": [7, 8]},
        {"end": [1, 8], "min_tokens": 5},
        {"end": [0], "min_tokens": 9, "ban": [4], "ban_first": [3], "repetition_penalty": 1.2, "no_repeat_ngram": 2,
         "ban_phrases": [[5, 10]]},
        sampled,
        {**sampled, "top_k": 4},
        {**sampled, "top_p": 0.8},
        {**sampled, "min_p": 0.15},
        {**sampled, "top_k": 5, "top_p": 0.9, "min_p": 0.2},
        {"temperature": 1.0, "top_p": 0.6, "repetition_penalty": 1.5},
        {"temperature": 1.9, "top_k": 7, "top_p": 0.95, "min_p": 0.05, "ban": [3], "end": [6], "min_tokens": 2},
    ]]
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    head = json.dumps({"made_by": "generation.py", "versions": versions, "prompts": PROMPTS, "table": table.tolist()})
    text = ",\n".join(json.dumps(one) for one in cases)
    Path(__file__).with_suffix(".json").write_text(f'{head[:-1]}, "cases": [\n{text}\n]}}\n')


if __name__ == "__main__":
    main()
