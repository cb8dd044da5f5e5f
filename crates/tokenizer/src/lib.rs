//! Tokenizers: tokenizer.json, byte-level BPE training, bytes and characters
