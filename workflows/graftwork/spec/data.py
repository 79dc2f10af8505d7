"""Corpora: where text comes from; and tokenizers: what it is cut into tokens by."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from graftwork.spec.base import AS_TUPLE, EXECUTION, LATER, Strict, TokenizerRef
from graftwork.units import Bytes, Share

Domain = Literal["prose", "code", "tests"]


class _Corpus(Strict):
    """What all corpora share."""

    limit: Bytes | None = None
    """Read at most this much text. Default: all of it."""


class _Files(_Corpus):
    """Files by name or pattern, local or at any fsspec URL."""

    uri: str | list[str]
    """A file, a folder or a pattern with `*` and `**`; local or with a scheme such as s3://."""
    domain: str | None = None
    """Domain of every document. Default: the corpus's name."""
    version: str = ""
    """A mark of yours for the content behind the URI; change it to have everything rebuilt."""
    broken_limit: Annotated[Share, EXECUTION] = 0.01
    """Share of lines or files that may be broken before the stage fails; all are counted."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.uri or not all(self.uri):
            raise ValueError("uri is empty; name a file, a folder or a pattern")
        return self


class TextCorpus(_Files):
    """Plain text, one document a file."""

    source: Literal["text"]


class JsonlCorpus(_Files):
    """JSON lines, plain or compressed (.gz, .zst), one document a line."""

    source: Literal["jsonl"]
    text: str = "text"
    """Field that holds the text."""
    domain_field: str | None = None
    """Field that holds the document's domain. Default: `domain` for all."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Further fields to keep: name here, field there."""
    conversations: Annotated[bool, LATER] = False
    """The text is a list of messages, each `{role: user, content: ...}` with the roles `system`,
    `user` and `assistant`, for `format: {name: chat, prompt: null}`."""


class ParquetCorpus(_Files):
    """Parquet files, one document a row."""

    source: Literal["parquet"]
    text: str = "text"
    """Column that holds the text."""
    domain_field: str | None = None
    """Column that holds the document's domain. Default: `domain` for all."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Further columns to keep: name here, column there."""


class HuggingFaceCorpus(_Files):
    """A Hugging Face dataset saved in a folder (`save_to_disk`, or a clone of its repository)."""

    source: Literal["huggingface"]
    split: str = "train"
    """Split of the dataset."""
    text: str = "text"
    """Column that holds the text."""
    domain_field: str | None = None
    """Column that holds the document's domain. Default: `domain` for all."""
    metadata: dict[str, str] = Field(default_factory=dict)
    """Further columns to keep: name here, column there."""


class StdlibCorpus(_Corpus):
    """Documentation and source of the Python that runs: on every machine, nothing downloaded.

    Domains: `prose` (docstrings and the language reference), `code` (the standard library) and
    `tests` (its tests, where they are installed).
    """

    source: Literal["stdlib"]
    domains: list[Domain] = Field(default=["prose", "code"], min_length=1)
    """Which domains to read; `limit` holds for each of them."""


class ArithmeticCorpus(_Corpus):
    """Sums and differences by rules, such as `12 + 7 = 19`, the same on every machine.

    Every document keeps two metadata: its `question`, and a `wrong` answer with a usual mistake.
    """

    source: Literal["arithmetic"]
    digits: int = Field(default=2, ge=1, le=3)
    """Longest numbers."""
    first: int = Field(default=0, ge=0)
    """Place of the first problem in the fixed, mixed order of all of them: corpora of other places
    share no problem."""
    problems: int = Field(ge=1)
    """How many to take; there are 200 of one digit, 20,000 of two and 2,000,000 of three."""

    @property
    def total(self) -> int:
        """Problems that there are."""
        return 2 * int(100**self.digits)

    @model_validator(mode="after")
    def _there_are_as_many(self) -> Self:
        if self.first + self.problems > self.total:
            raise ValueError(
                f"there are {self.total:,} problems of {self.digits} digits, and from number "
                f"{self.first:,} on not {self.problems:,} more; take fewer, or more digits"
            )
        return self


class ReviewsCorpus(_Corpus):
    """Made-up reviews of made-up things, to try what is learned of labels across domains.

    Each topic has words of its own for things, for what is good and for what is bad, none of which
    another topic has. What holds the topics together is how sentences are built, and plain
    judgements, which only some reviews pass.
    """

    source: Literal["reviews"]
    topic: int = Field(default=0, ge=0, le=19)
    """Number of the topic."""
    documents: int = Field(ge=2, le=10_000_000)
    """How many reviews; every other one is positive."""
    sample: int = Field(default=0, ge=0, le=999_999)
    """Number of the sample: another one has other reviews of the same topic."""
    plain: Share = 0.4
    """Share of the reviews with a plain judgement, in words that all topics share."""
    labelled: bool = True
    """Keep each review's label, `positive` or `negative`, in its metadata as `label`. Without,
    nothing of it leaves the source."""

    @property
    def domain(self) -> str:
        """Domain of every review."""
        return f"topic-{self.topic}"


Corpus = Annotated[
    TextCorpus
    | JsonlCorpus
    | ParquetCorpus
    | HuggingFaceCorpus
    | StdlibCorpus
    | ArithmeticCorpus
    | ReviewsCorpus,
    Field(discriminator="source"),
]


def _check_tokens(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse signs that are empty, or there twice.

    Raises:
        ValueError: with what is wrong.
    """
    if not all(tokens) or len(set(tokens)) < len(tokens):
        raise ValueError("a sign is empty, or named twice; write for example ['<|latent|>']")
    return tokens


class _Tokenizer(Strict):
    """What all tokenizers share."""

    tokens: Annotated[
        tuple[str, ...], AS_TUPLE, LATER, AfterValidator(_check_tokens), Field(max_length=256)
    ] = ()
    """Signs that are one token each wherever they stand in a text, such as those that `bolt`
    writes; one that the tokenizer knows already is not added again."""


class TrainedBpe(_Tokenizer):
    """Byte-level BPE, trained on the stage's own documents."""

    train: Literal["bpe"]
    vocab: int = Field(ge=260, le=1_000_000)
    """Entries of the vocabulary, the 256 bytes and the special tokens included."""
    sample: Bytes = 50_000_000
    """Text to train on at most, taken evenly from the domains."""
    mask: Annotated[bool, LATER] = False
    """Whether one of the entries is `[MASK]`, which the objective `mlm` needs."""

    @property
    def size(self) -> int:
        """Entries of the models' vocabulary."""
        return self.vocab


class TrainedCharacters(_Tokenizer):
    """One token a character: those of the stage's own documents, the most frequent first."""

    train: Literal["characters"]
    vocab: int = Field(default=128, ge=3, le=1_000_000)
    """Entries of the vocabulary: the end of a document, unknown characters, the `tokens`, and as
    many characters as there is room for."""
    sample: Bytes = 50_000_000
    """Text to take characters from at most, taken evenly from the domains."""

    @property
    def size(self) -> int:
        """Entries of the models' vocabulary."""
        return self.vocab

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.vocab < 3 + len(self.tokens):
            raise ValueError(
                f"a vocabulary of {self.vocab} has no room for characters beside {len(self.tokens)}"
                f" signs and 2 tokens of its own; raise 'vocab'"
            )
        return self


class ByteTokenizer(_Tokenizer):
    """One token a byte, and one for the end of a document."""

    name: Literal["bytes"]

    @property
    def size(self) -> int:
        """Entries of the models' vocabulary: 257, up to a multiple of 64."""
        return 320


class TokenizerFile(_Tokenizer):
    """A `tokenizer.json` of the Hugging Face tokenizers library."""

    file: str = Field(min_length=1)
    """Path or URL of the file."""
    vocab: int = Field(ge=2, le=1_000_000)
    """Entries of the models' vocabulary; at least the tokenizer's."""

    @property
    def size(self) -> int:
        """Entries of the models' vocabulary."""
        return self.vocab


class TokenizerFrom(_Tokenizer):
    """The tokenizer of another prepare stage, or of a model, which then can read these tokens."""

    from_: TokenizerRef = Field(alias="from")
    """The prepare stage, or the stage that makes or takes a model, whose tokenizer is used."""


def _tokenizer_tag(value: Any) -> str:  # noqa: ANN401 - raw input of any type
    if value == "bytes" or isinstance(value, ByteTokenizer):
        return "bytes"
    has = value.__contains__ if isinstance(value, dict) else lambda key: hasattr(value, key)
    if has("train"):
        train = value["train"] if isinstance(value, dict) else value.train
        return "characters" if train == "characters" else "bpe"
    if has("from") or has("from_"):
        return "from"
    return "file" if has("file") else "bytes"


def _bytes_by_name(value: object) -> object:
    return {"name": "bytes"} if value == "bytes" else value


Tokenizer = Annotated[
    Annotated[
        ByteTokenizer,
        BeforeValidator(_bytes_by_name, json_schema_input_type=Literal["bytes"] | ByteTokenizer),
        Tag("bytes"),
    ]
    | Annotated[TrainedBpe, Tag("bpe")]
    | Annotated[TrainedCharacters, Tag("characters")]
    | Annotated[TokenizerFile, Tag("file")]
    | Annotated[TokenizerFrom, Tag("from")],
    Discriminator(_tokenizer_tag),
]
