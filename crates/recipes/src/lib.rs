//! What needs several parts at once: a folder loaded as a model with its tokenizer
