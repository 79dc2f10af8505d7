"""What is known of a vocabulary: which of its ids are ordinary tokens, and which one masks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graftwork.errors import RunError
from graftwork_train.data.shards import TokenShards
from graftwork_train.data.tokenizer import FILE, MASKS


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Of one tokenizer, in a model of V entries.

    Attributes:
        ordinary_V: Whether an id is of a token that stands for text: not special, and not spare.
        mask: Id of the mask token, if the tokenizer has one.
        spare: The lowest id that no token has, if there is one.
    """

    ordinary_V: npt.NDArray[np.bool_]
    mask: int | None
    spare: int | None

    @classmethod
    def of(cls, text: TokenShards) -> Vocabulary:
        """That of tokens; where they come without a tokenizer, all ids but eos are ordinary."""
        path = text.folder / FILE
        ordinary_V = np.ones(text.vocab, dtype=np.bool_)
        if not path.is_file():
            ordinary_V[text.eos] = False
            return cls(ordinary_V, None, None)
        found: dict[str, Any] = json.loads(path.read_bytes())
        added = found.get("added_tokens", [])
        special = {token["id"] for token in added if token["special"]} | {text.eos}
        known = _ids(found["model"].get("vocab", {})) | {token["id"] for token in added}
        for number in range(text.vocab):
            ordinary_V[number] = number in known and number not in special
        named = {token["content"]: int(token["id"]) for token in added}
        mask = next((named[name] for name in MASKS if name in named), None)
        spare = next((number for number in range(text.vocab) if number not in known), None)
        return cls(ordinary_V, mask, spare)

    def mask_id(self) -> int:
        """The mask token's id; without one, a spare id's, which no text has.

        Raises:
            RunError: there is neither.
        """
        found = self.spare if self.mask is None else self.mask
        if found is None:
            raise RunError(
                "the tokenizer has no token for what is masked, and its vocabulary no entry to "
                "spare",
                "Give it a mask token: 'mask: true' where it is trained, or a file's [MASK]; or a "
                "'vocab' larger by one.",
            )
        return found


def _ids(vocab: Any) -> set[int]:  # noqa: ANN401 - names with ids, or a list by id
    return set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
