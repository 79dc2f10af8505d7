"""Text into tokens: corpora, tokenizers, packing and the shards that training reads."""
