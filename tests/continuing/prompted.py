"""What tests of prompts need: a tokenizer with a mask, tokens, documents and a small encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from graftwork.spec.data import ReviewsCorpus
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import documents
from graftwork_train.data.documents import Document
from graftwork_train.data.shards import ShardWriter
from graftwork_train.data.tokenizer import EOS, Encoder
from graftwork_train.data.written import DocumentsWriter
from graftwork_train.nn.hf import Saved, save_model
from graftwork_train.nn.transformer import Decoder

CONTEXT, VOCAB, MASK = 64, 640, 1
SHAPE = Architecture(layers=1, width=32, heads=2, ffn=64, kind="encoder")
WORDS = {"positive": "good", "negative": "bad"}


def reviews(count: int, **words: object) -> list[Document]:
    """Made-up reviews."""
    corpus = ReviewsCorpus.model_validate({"source": "reviews", "documents": count, **words})
    return [item for item in documents(corpus, "r", Storage()) if isinstance(item, Document)]


@cache
def encoder() -> Encoder:
    """A tokenizer to which most words of two topics are one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[EOS, "[MASK]"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    texts = [one.text for topic in (0, 1) for one in reviews(300, topic=topic)]
    tokenizer.train_from_iterator([*texts, *["It was good . It was bad ."] * 20], trainer)
    return Encoder(tokenizer.to_str(), VOCAB, tokenizer.get_vocab()[EOS], EOS)


def write_tokens(folder: Path, found: Sequence[Document]) -> Path:
    """Tokens of documents, a row each, a tenth of them held out."""
    folder.mkdir()
    writer = ShardWriter(folder, VOCAB, encoder().eos, CONTEXT, "best_fit")
    rows = [np.append(ids, encoder().eos) for ids in encoder().each([d.text for d in found])]
    cut = len(rows) // 10
    writer.add_rows("held_out", "all", rows[:cut], cut)
    writer.add_rows("train", "all", rows[cut:], len(rows) - cut)
    writer.close()
    encoder().save(folder, CONTEXT)
    return folder


def write_documents(folder: Path, found: Sequence[Document]) -> Path:
    """An artifact of documents."""
    folder.mkdir()
    writer = DocumentsWriter(folder)
    writer.add(found)
    writer.close()
    return folder


def save_encoder(folder: Path, kind: str = "encoder", seed: int = 0) -> Path:
    """An untrained model with the tokenizer beside it."""
    folder.mkdir()
    shape = SHAPE.model_copy(update={"kind": kind})
    save_model(Decoder(shape, VOCAB, CONTEXT, seed=seed), folder, CONTEXT, Saved({}, encoder().eos))
    encoder().save(folder, CONTEXT)
    return folder
