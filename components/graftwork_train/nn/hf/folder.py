"""A model's folder, written and read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from graftwork.artifact import Plain
from graftwork.errors import CorruptArtifactError
from graftwork.spec.family import family
from graftwork.spec.model import Architecture
from graftwork_train.nn.hf.config import architecture_of, hf_config
from graftwork_train.nn.hf.files import (
    CONFIG,
    GENERATION,
    GRAFTWORK,
    WEIGHTS,
    Tensors,
    load_tensors,
    save_tensors,
    weight_files,
    write_json,
)
from graftwork_train.nn.hf.names import from_disk, idle_on_disk, to_disk
from graftwork_train.nn.transformer import Decoder

# What checkpoints carry and no model of ours has: constants, BERT's other heads, tied copies.
_NOT_READ = re.compile(
    r".*rotary_emb\.inv_freq|.*\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*"
    r"|cls\.predictions\.decoder\..*"
)


class ModelCard(Plain):
    """`graftwork.json`: what Hugging Face's config has no place for."""

    architecture: Architecture
    vocab: int
    context: int
    cursor: dict[str, int] = Field(default_factory=dict)
    """Sequences of each tokens artifact that training has consumed, by its fingerprint."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What stands beside a model's weights; `eos` ends a document."""

    cursor: Mapping[str, int] = field(default_factory=dict)
    eos: int | None = None


def save_model(
    model: Decoder, folder: Path, context: int | None = None, saved: Saved | None = None
) -> None:
    """Write the model: as a Hugging Face folder, if a family can express it; `graftwork.json`.

    Args:
        model: The model, on any device.
        folder: Existing folder.
        context: Longest sequence it was trained on. Default: the model's.
        saved: What else to keep.
    """
    saved = saved or Saved()
    context = context or model.context
    weights = to_disk(dict(model.named_parameters()), model.architecture)
    save_tensors(folder / WEIGHTS, weights | idle_on_disk(model.architecture))
    if family(model.architecture) is not None:
        config = hf_config(model.architecture, model.vocab, context, saved.eos)
        write_json(folder / CONFIG, config)
        # Encoders write nothing, but a file of theirs does no harm and keeps folders alike.
        generation = {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        write_json(folder / GENERATION, generation | {"_from_model_config": True})
    card = ModelCard(
        architecture=model.architecture,
        vocab=model.vocab,
        context=context,
        cursor=dict(saved.cursor),
    )
    write_json(folder / GRAFTWORK, card.model_dump(mode="json"))


def load_card(folder: Path) -> ModelCard:
    """What the model in `folder` is; without `graftwork.json`, as `config.json` says.

    Raises:
        CorruptArtifactError: a file is missing or unreadable.
        RunError: as `architecture_of`.
    """
    try:
        if (folder / GRAFTWORK).is_file():
            return ModelCard.model_validate_json((folder / GRAFTWORK).read_bytes())
        config = json.loads((folder / CONFIG).read_bytes())
        architecture = architecture_of(config)
        return ModelCard(
            architecture=architecture,
            vocab=config["vocab_size"],
            context=config["max_position_embeddings"],
        )
    except (OSError, ValueError, KeyError) as error:
        raise CorruptArtifactError(str(folder), f"its config cannot be read: {error}") from error


def load_model(folder: Path) -> Decoder:
    """Read a model that graftwork or Hugging Face wrote, whole or in shards; weights become fp32.

    Raises:
        CorruptArtifactError: files or tensors are missing, unexpected, unreadable or of other
            shapes.
        RunError: as `architecture_of`.
    """
    card = load_card(folder)
    model = Decoder(card.architecture, card.vocab, card.context, seed=None)
    tensors: Tensors = {}
    for path in weight_files(folder):
        tensors.update(load_tensors(path))
    try:
        ours = from_disk(tensors, card.architecture)
    except (KeyError, RuntimeError) as error:
        raise CorruptArtifactError(str(folder), f"the weights lack {error}") from error
    fill(model, ours, str(folder))
    _refuse_foreign(model, ours, str(folder))
    return model


@torch.no_grad()
def fill(model: Decoder, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into the model's parameters of the same names.

    Raises:
        CorruptArtifactError: one is missing or of another shape.
    """
    for name, parameter in model.named_parameters():
        tensor = tensors.get(name)
        if tensor is None or tensor.shape != parameter.shape:
            found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise CorruptArtifactError(where, f"{name} {found}, not {tuple(parameter.shape)}")
        parameter.copy_(tensor)


def _refuse_foreign(model: Decoder, names: Iterable[str], where: str) -> None:
    """Weights that the config does not announce would be lost without a word."""
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    foreign = [name for name in names if name not in known and not _NOT_READ.fullmatch(name)]
    if foreign:
        told = ", ".join(sorted(foreign)[:3])
        raise CorruptArtifactError(where, f"it has weights that its config does not know: {told}")
