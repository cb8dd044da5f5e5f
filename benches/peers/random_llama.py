"""A GGUF file of a LLaMA with random weights, for timing: random_llama.py CONFIG.json OUT.gguf

CONFIG is one of configs/; weights are f16, as a converter would write them before quantising."""
import json, sys

import gguf
import numpy

config = json.load(open(sys.argv[1]))
each, dim, vocab = config["blocks"]["each"], config["dim"], config["vocab"]
attn, hidden, layers = each["attn"], each["ffn"]["hidden"], config["blocks"]["layers"]
width = dim // attn["heads"]
out = gguf.GGUFWriter(sys.argv[2], "llama")
out.add_name(config["name"])
out.add_context_length(config["context"])
out.add_embedding_length(dim)
out.add_block_count(layers)
out.add_feed_forward_length(hidden)
out.add_head_count(attn["heads"])
out.add_head_count_kv(attn["kv_heads"])
out.add_layer_norm_rms_eps(config["norm"]["eps"])
out.add_rope_dimension_count(width)
out.add_rope_freq_base(attn["position"]["theta"])
out.add_vocab_size(vocab)
special, letters = [b"<unk>", b"<s>", b"</s>"], [b"<0x%02X>" % byte for byte in range(256)]
words = special + letters
words += [b"word%d" % i for i in range(vocab - len(words))]
kinds = [2, 3, 3] + [6] * len(letters)
out.add_tokenizer_model("llama")
out.add_token_list(words)
out.add_token_scores([0.0] * vocab)
out.add_token_types(kinds + [1] * (vocab - len(kinds)))
out.add_bos_token_id(1)
out.add_eos_token_id(2)

random = numpy.random.default_rng(1)
gain = numpy.ones(dim, numpy.float32)


def matrix(rows, cols):
    return (random.standard_normal((rows, cols), numpy.float32) * 0.02).astype(numpy.float16)


out.add_tensor("token_embd.weight", matrix(vocab, dim))
for layer in range(layers):
    shapes = {
        "attn_q": (attn["heads"] * width, dim), "attn_k": (attn["kv_heads"] * width, dim),
        "attn_v": (attn["kv_heads"] * width, dim), "attn_output": (dim, attn["heads"] * width),
        "ffn_gate": (hidden, dim), "ffn_up": (hidden, dim), "ffn_down": (dim, hidden),
    }
    for name in ("attn_norm", "ffn_norm"):
        out.add_tensor(f"blk.{layer}.{name}.weight", gain)
    for name, shape in shapes.items():
        out.add_tensor(f"blk.{layer}.{name}.weight", matrix(*shape))
out.add_tensor("output_norm.weight", gain)
out.write_header_to_file()
out.write_kv_data_to_file()
out.write_tensors_to_file()
out.close()
