"""Tokenizers: bytes, characters or byte-level BPE of the stage's documents, or a file.

Each is saved as `tokenizer.json` and `tokenizer_config.json`, so that transformers' AutoTokenizer
reads it and gives the same ids. Text never turns into a special token, whatever it spells, but
into the signs that a word names under `tokens`.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from graftwork import store
from graftwork.errors import RunError
from graftwork.spec.data import (
    ByteTokenizer,
    TokenizerFile,
    TokenizerFrom,
    TrainedBpe,
    TrainedCharacters,
)
from graftwork.spec.resources import Storage
from graftwork_train.data.index import Ids, read_index
from graftwork_train.data.sample import sample_texts
from graftwork_train.data.stream import Stream

EOS = "<|endoftext|>"
UNKNOWN = "<|unknown|>"
FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
# How well-known tokenizers call what stands for a masked token, and the end of a document, in the
# order they are looked for.
MASK = "[MASK]"
MASKS = (MASK, "<mask>", "<|mask|>")
_ENDS = (EOS, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]")


@dataclass(frozen=True, slots=True)
class Encoder:
    """A tokenizer that can be sent to another process.

    Attributes:
        text: The tokenizer as JSON.
        vocab: Entries of the models' vocabulary; every id is below it.
        eos: Id of the token that ends a document.
        eos_token: That token's name.
        plain: One token a byte, its value the id.
    """

    text: str
    vocab: int
    eos: int
    eos_token: str
    plain: bool = False

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ids]:
        """Token ids of the texts, end to end, each closed by eos.

        Returns:
            ids: int64 (total,).
            lengths: int64 (texts,), eos included.
        """
        if self.plain:
            return _encode_bytes(texts, self.eos)
        encodings = _load(self.text).encode_batch_fast(list(texts), add_special_tokens=False)
        flat = array("I")
        for encoding in encodings:
            flat.fromlist(encoding.ids)
            flat.append(self.eos)
        lengths = np.array([len(encoding) + 1 for encoding in encodings], np.int64)
        return np.frombuffer(flat, np.uintc).astype(np.int64), lengths

    def each(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of every text for itself, without eos: int64 (n,) each."""
        ids, lengths = self.encode(texts)
        return [one[:-1] for one in np.split(ids, np.cumsum(lengths)[:-1])]

    def save(self, folder: Path, context: int) -> None:
        """Write the files that AutoTokenizer reads."""
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.eos_token,
            "pad_token": self.eos_token,
            "model_max_length": context,
            "clean_up_tokenization_spaces": False,
        }
        mask = next((name for name in MASKS if name in _added(self.text)), None)
        if mask is not None:
            config["mask_token"] = mask
        (folder / FILE).write_text(self.text + "\n", encoding="utf-8")
        text = json.dumps(config, indent=1) + "\n"
        (folder / CONFIG).write_text(text, encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Makings:
    """What tokenizers are made from.

    Attributes:
        stream: The stage's documents, which a trained one learns from.
        storage: Where files lie.
        prepared: Folder of the tokens or the model whose tokenizer is taken over.
        vocab: Entries of that model's vocabulary; None where it is no model.
    """

    stream: Stream
    storage: Storage
    prepared: Path | None = None
    vocab: int | None = None


@singledispatch
def build(word: object, makings: Makings) -> Encoder:
    """The tokenizer that the word names.

    Raises:
        RunError: it cannot be read, or has more entries than the word's vocabulary.
    """
    raise TypeError(f"no tokenizer for {type(word).__name__}")


@build.register
def build_bytes(word: ByteTokenizer, makings: Makings) -> Encoder:
    """One token a byte: ids 0 to 255 are the bytes' values, 256 ends a document."""
    plain = Encoder(_byte_level().to_str(), word.size, 256, EOS, plain=True)
    return with_tokens(plain, word.tokens)


@build.register
def build_bpe(word: TrainedBpe, makings: Makings) -> Encoder:
    """Byte-level BPE, trained on a sample spread over the domains; the same for the same text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=word.vocab - len(word.tokens),
        special_tokens=[EOS, MASK] if word.mask else [EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sample_texts(makings.stream, word.sample), trainer)
    trained = Encoder(tokenizer.to_str(), word.vocab, tokenizer.get_vocab()[EOS], EOS)
    return with_tokens(trained, word.tokens)


@build.register
def build_characters(word: TrainedCharacters, makings: Makings) -> Encoder:
    """A token a character; a character without one is unknown, and decodes to that token's name."""
    counts: Counter[str] = Counter()
    for text in sample_texts(makings.stream, word.sample):
        counts.update(text)
    ordered = sorted(counts, key=lambda sign: (-counts[sign], sign))
    known = [EOS, UNKNOWN, *ordered[: word.vocab - 2 - len(word.tokens)]]
    vocabulary = {sign: number for number, sign in enumerate(known)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([EOS, UNKNOWN])
    return with_tokens(Encoder(tokenizer.to_str(), word.vocab, 0, EOS), word.tokens)


def with_tokens(encoder: Encoder, tokens: Sequence[str]) -> Encoder:
    """The tokenizer with signs that are one token each; those that it has already stay as they are.

    Raises:
        RunError: the models' vocabulary has no room for them.
    """
    tokenizer = Tokenizer.from_str(encoder.text)
    known = tokenizer.get_vocab(with_added_tokens=True)
    new = [sign for sign in tokens if sign not in known]
    if not new:
        return encoder
    largest = max(known.values()) + len(new)
    if largest >= encoder.vocab:
        raise RunError(
            f"{len(new)} tokens such as {new[0]!r} are to be added to a tokenizer of "
            f"{max(known.values()) + 1} entries, and the models' vocabulary has {encoder.vocab}",
            f"Make a vocabulary of {largest + 1} or more, or take a tokenizer that has them.",
        )
    tokenizer.add_tokens([AddedToken(sign, normalized=False) for sign in new])
    return replace(encoder, text=tokenizer.to_str(), plain=False)


@build.register
def read_tokenizer(word: TokenizerFile, makings: Makings) -> Encoder:
    """A `tokenizer.json`; one without an end token gets one, if the vocabulary has room."""
    with store.open_file(word.file, "rb", makings.storage) as file:
        data = file.read()
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception as error:  # the library raises bare Exceptions
        raise RunError(
            f"{word.file} is not a tokenizer: {error}",
            "Give a tokenizer.json of the Hugging Face tokenizers library.",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    known = tokenizer.get_vocab(with_added_tokens=True)
    end = next((name for name in _ENDS if name in known), EOS)
    tokenizer.add_special_tokens([end])
    known = tokenizer.get_vocab(with_added_tokens=True)
    largest = max(known.values())
    if largest >= word.vocab:
        raise RunError(
            f"{word.file} has ids up to {largest}, but 'vocab' is {word.vocab}",
            f"Set the tokenizer's 'vocab' to {largest + 1} or more.",
        )
    return with_tokens(Encoder(tokenizer.to_str(), word.vocab, known[end], end), word.tokens)


@build.register
def take_over(word: TokenizerFrom, makings: Makings) -> Encoder:
    """The tokenizer of an earlier prepare stage or a model, with its vocabulary and end token."""
    if makings.prepared is None:
        raise AssertionError("the step has no tokens to take the tokenizer from")
    if makings.vocab is not None:
        return with_tokens(_of_model(makings.prepared, makings.vocab), word.tokens)
    index = read_index(makings.prepared, str(makings.prepared))
    text = (makings.prepared / FILE).read_text(encoding="utf-8").rstrip("\n")
    name = Tokenizer.from_str(text).id_to_token(index.eos) or EOS
    taken = Encoder(text, index.vocab, index.eos, name, text == _byte_level().to_str())
    return with_tokens(taken, word.tokens)


def _of_model(folder: Path, vocab: int) -> Encoder:
    """The tokenizer beside a model; the vocabulary is the model's, which may have spare entries."""
    encoder = load_encoder(folder)
    if encoder.vocab > vocab:
        raise RunError(
            f"{folder}: the tokenizer has ids up to {encoder.vocab - 1}, and the model an "
            f"embedding of {vocab}",
            "Give the model the tokenizer that it was trained with.",
        )
    return replace(encoder, vocab=vocab)


def load_encoder(folder: Path) -> Encoder:
    """The tokenizer that lies beside a model.

    Raises:
        RunError: there is none, or it names no token that ends a document.
    """
    try:
        text = (folder / FILE).read_text(encoding="utf-8").rstrip("\n")
        config = json.loads((folder / CONFIG).read_bytes())
        name = config["eos_token"]
        name = name["content"] if isinstance(name, dict) else name
        known = Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
        eos = known[name]
    except Exception as error:  # the library raises bare Exceptions
        raise RunError(
            f"{folder}: the model's tokenizer cannot be read: {error!r}",
            f"The folder needs {FILE}, and {CONFIG} with 'eos_token'.",
        ) from error
    return Encoder(text, max(known.values()) + 1, eos, name, text == _byte_level().to_str())


def _added(text: str) -> set[str]:
    """Names of a tokenizer's special tokens."""
    found = json.loads(text).get("added_tokens", [])
    return {token["content"] for token in found if token["special"]}


@lru_cache(maxsize=2)
def _load(text: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _encode_bytes(texts: Sequence[str], eos: int) -> tuple[Ids, Ids]:
    data = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, data), np.int64, len(data)) + 1
    # The zero byte after each text is room for eos; a text itself never holds one.
    ids = np.frombuffer(b"\0".join([*data, b""]), np.uint8).astype(np.int64)
    ids[np.cumsum(lengths) - 1] = eos
    return ids, lengths


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=_byte_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    return tokenizer


def _byte_vocabulary() -> dict[str, int]:
    """Byte-level BPE's printable stand-ins for the bytes, by the bytes' values.

    Printable Latin-1 characters stand for themselves, the others, in order, for 256 and on.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    stand_ins = iter(range(256, 512))
    return {chr(b if b in printable else next(stand_ins)): b for b in range(256)}
