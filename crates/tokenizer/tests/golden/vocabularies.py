"""Small vocabularies, and the ids that llama.cpp gives for texts in them: vocabularies.json.

    python vocabularies.py LLAMA_TOKENS        the program built from llama_tokens.cpp

Needs gguf, tokenizers and sentencepiece. The byte-level vocabulary is asked once for each pre-tokenizer.
"""

import io
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = Path(__file__).parent

TEXTS = [
    "",
    " ",
    "Hello, world! I'm HE'S we'll they'RE don't",
    "  two before, two after  ",
    "a\tb\r\n\n\nc \n d  \r\n",
    "na\u00efve cafe\u0301 \u00fcber stra\u00dfe \u0391\u03b8\u03ae\u03bd\u03b1 \u041f\u0440\u0438\u0432\u0435\u0442",
    "\u6f22\u5b57\u304b\u306a\u4ea4\u3058\u308a\u6587\u3001\ud55c\uad6d\uc5b4\u3002",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u0645\u0631\u062d\u0628\u0627\u060c",
    "\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea!",
    "1 22 333 4444 55555 \uff12\uff10 \u00bd\u2167 3.14",
    "camelCaseHTTPServer foo_bar(x)/y//\n/z\n",
    "x=1; a<b>c^d~e|f`g $5+ \u20ac9 \u2014\u201cq\u201d",
    "\u00a0nb\u2003em\u3000wide \u0085nel \u2028ls",
    "\ufeff\x00\x7f\x1c\U0010ffff\ue000",
    "\u2581 is no \u2581space\u2581",
    "<s> </s> <|end|>  <unk> xx yy<|end|>\n<0x0A>",
    "the cat the cat  the   cat",
    "aaaaaaaaaaaaa bbbbbbb ababababab",
    "\u01c5\u02b0\u00aa\u00ba K \u017f 'S '\u017f",
    "a.b,c!d?e;f:g(h)i[j]k{l}m\"n'o",
]
RULES = [
    "default", "gpt-2", "llama-bpe", "smollm", "qwen2", "dbrx", "gpt-4o", "tekken", "falcon", "deepseek-llm",
    "deepseek-coder", "deepseek-v3", "qwen35", "poro-chat", "viking", "glm4", "granite-embed-multi-97m", "seed-coder",
    "ufakzeka", "minicpm5",
]  # fmt: skip
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)


def byte_level():
    """Pieces over any bytes, merged across words, so that each rule gives other ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text[i:] for text in TEXTS if "<" not in text for i in range(0, len(text), 3)], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [(piece, NORMAL) for piece in sorted(model["vocab"], key=model["vocab"].get)]
    tokens += [("<s>", CONTROL), ("</s>", CONTROL), ("<|end|>", CONTROL), ("<unk>", UNKNOWN), ("xx ", USER)]
    names = [token for token, _ in tokens]
    return {
        "model": "gpt2",
        "tokens": names,
        "types": [kind for _, kind in tokens],
        "scores": [],
        "merges": [" ".join(pair) for pair in model["merges"]],
        "bos": names.index("<s>"),
        "eos": names.index("</s>"),
        "unk": names.index("<unk>"),
    }


def sentences():
    """A model that SentencePiece trained, and a user-defined token."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in TEXTS if "\x00" not in text and "<" not in text] * 3),
        model_writer=written,
        model_type="bpe",
        vocab_size=480,
        byte_fallback=True,
        character_coverage=0.98,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    tokens = []
    for i in range(model.vocab_size()):
        kind = NORMAL
        if model.is_unknown(i):
            kind = UNKNOWN
        elif model.is_control(i):
            kind = CONTROL
        elif model.is_byte(i):
            kind = BYTE
        tokens.append((model.id_to_piece(i), kind, model.get_score(i)))
    tokens += [("<|end|>", CONTROL, 0.0), ("xx ", USER, 0.0), ("[PAD]", UNUSED, 0.0)]
    names = [token for token, _, _ in tokens]
    return {
        "model": "llama",
        "tokens": names,
        "types": [kind for _, kind, _ in tokens],
        "scores": [score for _, _, score in tokens],
        "merges": [],
        "bos": names.index("<s>"),
        "eos": names.index("</s>"),
        "unk": names.index("<unk>"),
    }


def write(vocabulary, path):
    writer = gguf.GGUFWriter(path, "llama")
    for key in ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"]:
        writer.add_uint32(f"llama.{key}", 2)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model(vocabulary["model"])
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary["tokens"])
    writer.add_token_types(vocabulary["types"])
    if vocabulary["scores"]:
        writer.add_token_scores(vocabulary["scores"])
    if vocabulary["model"] == "gpt2":
        writer.add_token_merges(vocabulary["merges"])
    writer.add_bos_token_id(vocabulary["bos"])
    writer.add_eos_token_id(vocabulary["eos"])
    writer.add_unk_token_id(vocabulary["unk"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ask(program, path, pre, parse):
    run = subprocess.run(
        [program, path, pre, parse], input="\x1e".join(TEXTS).encode(), capture_output=True, check=True
    )
    lines = run.stdout.split(b"\n", len(TEXTS))
    ids = [[int(id) for id in line.split()] for line in lines[:-1]]
    texts = [text.decode(errors="replace") for text in lines[-1].split(b"\x1e")[:-1]]
    assert len(ids) == len(texts) == len(TEXTS)
    return ids, texts


def main():
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for vocabulary, rules in [(byte_level(), RULES), (sentences(), ["-"])]:
            path = str(Path(folder) / "vocabulary.gguf")
            write(vocabulary, path)
            asked = []
            for pre in rules:
                plain, decoded = ask(sys.argv[1], path, pre, "0")
                marked, _ = ask(sys.argv[1], path, pre, "1")
                asked.append({"pre": pre, "text": plain, "tokens": marked})
            # Only SentencePiece texts: byte-level ones lose their spaces before signs there.
            if vocabulary["model"] == "llama":
                asked[0]["decoded"] = decoded
            cases.append({"vocabulary": vocabulary, "rules": asked})
    made_with = {name: version(name) for name in ["gguf", "tokenizers", "sentencepiece"]}
    golden = {"made with": made_with, "texts": TEXTS, "cases": cases}
    text = json.dumps(golden, separators=(",", ":")).replace('{"pre"', '\n{"pre"').replace('"cases"', '\n"cases"')
    (HERE / "vocabularies.json").write_text(text + "\n")


main()
