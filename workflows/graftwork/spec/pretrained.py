"""`pretrained`: a checkpoint that is there already, whoever trained it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from graftwork.spec.base import Product
from graftwork.spec.body import StageBody
from graftwork.spec.model import Architecture


class Pretrained(StageBody):
    """Take a checkpoint that is there already, of graftwork's making or not, to go on with.

    A plan is made before anything is read, so that the spec says what the model is; a checkpoint
    of another model is refused, and the words for it are printed.
    """

    kind: ClassVar[str] = "pretrained"
    product: ClassVar[Product] = "model"
    seeded: ClassVar[bool] = False

    uri: str = Field(min_length=1)
    """Folder of a Hugging Face checkpoint (`config.json` and safetensors, in one file or several),
    or of a model that graftwork made; local or with a scheme such as s3://."""
    version: str = ""
    """A mark of yours for the content behind the URI; change it to have it read again. Local files
    are told apart without it."""
    model: Architecture
    """The model that lies there."""
    vocab: int = Field(ge=2, le=1_000_000)
    """Entries of its vocabulary, `vocab_size` in its `config.json`."""
    context: int = Field(ge=16, le=16_777_216)
    """Longest sequence that it was made for, `max_position_embeddings` in its `config.json`."""


def described(architecture: Architecture) -> dict[str, Any]:
    """An architecture as plain data, its default sizes resolved, so that two can be compared."""
    return architecture.model_dump(mode="json") | {
        "head_dim": architecture.head_size,
        "kv_heads": architecture.key_value_heads,
        "ffn": architecture.hidden,
    }
