"""A model that is asked by a prompt: scores of the labels' words, in the label's place.

An encoder is given a mask there and sees what is on both sides; a decoder is given what is before.

Shapes: B documents, T tokens of the longest, D width, C labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from graftwork.artifact import Plain
from graftwork.errors import RunError
from graftwork.spec.prompts import Prompt
from graftwork_train.data.documents import Document
from graftwork_train.data.prompts import Asked, Prompter
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.nn import Decoder

PROMPT = "prompt.json"
# Documents that are looked at together when nothing is learned.
AT_ONCE = 64


class Card(Plain):
    """What lies beside a model that was tuned by a prompt."""

    prompt: Prompt
    context: int
    blank: int


class Seen(NamedTuple):
    """What a model makes of documents: features in the label's place, and scores of the words."""

    features_BD: Tensor
    scores_BC: Tensor


def look(model: Decoder, prompter: Prompter, asked: Sequence[Asked]) -> Seen:
    """Put documents to a model; gradients flow if they are on."""
    device = next(model.parameters()).device
    tokens_BT, documents_BT = padded(asked, prompter.encoder.eos)
    before = int(model.architecture.kind == "decoder")
    at_B = torch.tensor([one.at - before for one in asked], device=device)
    alone = bool((documents_BT == 0).all())
    hidden_BTD = model(tokens_BT.to(device), None if alone else documents_BT.to(device)).hidden_BTD
    features_BD = hidden_BTD[torch.arange(len(asked), device=device), at_B]
    scores_BC = model.logits(features_BD)[:, list(prompter.words_C)]
    return Seen(features_BD, scores_BC)


def padded(asked: Sequence[Asked], eos: int) -> tuple[Tensor, Tensor]:
    """Tokens, int64 (B, T), and 0 for each, -1 on padding, int32 (B, T)."""
    longest = max(len(one.ids) for one in asked)
    tokens_BT = np.full((len(asked), longest), eos, dtype=np.int64)
    documents_BT = np.full((len(asked), longest), -1, dtype=np.int32)
    for row, one in enumerate(asked):
        tokens_BT[row, : len(one.ids)] = one.ids
        documents_BT[row, : len(one.ids)] = 0
    return torch.from_numpy(tokens_BT), torch.from_numpy(documents_BT)


@torch.no_grad()
def told(model: Decoder, prompter: Prompter, documents: Sequence[Document]) -> Iterator[int]:
    """The number of the label that the model finds likeliest, for every document."""
    for first in range(0, len(documents), AT_ONCE):
        asked = prompter.ask(documents[first : first + AT_ONCE])
        yield from look(model, prompter, asked).scores_BC.argmax(1).tolist()


def save_prompt(folder: Path, prompter: Prompter) -> None:
    """Write beside a model what it is asked by."""
    card = Card(prompt=prompter.prompt, context=prompter.context, blank=prompter.blank)
    (folder / PROMPT).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_prompter(folder: Path) -> Prompter:
    """What the model in a folder is asked by.

    Raises:
        RunError: the model was not tuned by a prompt.
    """
    try:
        card = Card.model_validate_json((folder / PROMPT).read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(
            f"{folder}: the model was not tuned by a prompt: {PROMPT} cannot be read",
            "Name a stage that goes on by 'method: {name: prompt_tuning}'.",
        ) from error
    return Prompter.of(card.prompt, load_encoder(folder), card.context, card.blank)
