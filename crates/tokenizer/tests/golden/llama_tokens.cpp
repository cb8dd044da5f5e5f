// Ids and texts as llama.cpp makes them, for vocabularies.py.
//
//     llama_tokens FILE PRE PARSE < texts        texts are separated by the byte 1e; a line of ids for each
//
// PRE replaces the pre-tokenizer the file names ("-" keeps it); PARSE is 1 where special tokens in a text are tokens,
// and then the template stands around it. After the lines of ids the texts of those ids follow, separated by 1e, without
// special tokens. Build it against llama.h and the libraries llama, ggml, ggml-cpu and ggml-base.

#include "llama.h"

#include <cstdio>
#include <cstring>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

int main(int argc, char ** argv) {
    if (argc != 4) {
        return 2;
    }
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model_kv_override overrides[2];
    memset(overrides, 0, sizeof overrides);
    overrides[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
    strcpy(overrides[0].key, "tokenizer.ggml.pre");
    strncpy(overrides[0].val_str, argv[2], sizeof overrides[0].val_str - 1);
    auto params = llama_model_default_params();
    params.vocab_only = true;
    if (strcmp(argv[2], "-") != 0) {
        params.kv_overrides = overrides;
    }
    const auto * model = llama_model_load_from_file(argv[1], params);
    if (model == nullptr) {
        return 1;
    }
    const auto * vocab = llama_model_get_vocab(model);
    const bool parse = argv[3][0] == '1';
    std::string all((std::istreambuf_iterator<char>(std::cin)), {});
    std::string decoded;
    for (size_t begin = 0; begin <= all.size();) {
        const size_t end = std::min(all.find('\x1e', begin), all.size());
        std::vector<llama_token> ids(4 * (end - begin) + 16);
        const int count = llama_tokenize(vocab, all.data() + begin, end - begin, ids.data(), ids.size(), parse, parse);
        for (int i = 0; i < count; ++i) {
            printf(i > 0 ? " %d" : "%d", ids[i]);
        }
        printf("\n");
        std::string text(1 << 16, '\0');
        const int length = llama_detokenize(vocab, ids.data(), count, text.data(), text.size(), false, false);
        decoded += text.substr(0, length) + '\x1e';
        begin = end + 1;
    }
    fwrite(decoded.data(), 1, decoded.size(), stdout);
}
