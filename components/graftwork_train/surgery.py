"""What the stages share that rebuild a checkpoint without training it: `grow` and `upcycle`."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graftwork.errors import RunError
from graftwork.spec.base import Contract
from graftwork.spec.model import Architecture
from graftwork.units import format_number
from graftwork_train.job import Job
from graftwork_train.nn.hf import GRAFTWORK, ModelCard, load_card
from graftwork_train.probe import EXACT, logits, mean_loss, probe_tokens
from graftwork_train.sparsity import FORMS
from graftwork_train.state import State
from graftwork_train.summary import extend_summary

# Files that belong to a model whatever its size; optimizer states and masks do not.
COMPANIONS = (
    "tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt", "generation_config.json",
    "chat_template*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Patient:
    """A model before surgery."""

    folder: Path
    state: State
    card: ModelCard


def open_patient(folder: Path, verb: str, *, own: bool = False) -> Patient:
    """Open a model that is to be rebuilt; `own` takes models in graftwork's own format, too.

    Raises:
        RunError: it is no whole checkpoint, a sparse one, or of integers.
    """
    if any((folder / name).is_file() for name in FORMS):
        raise RunError(
            f"{folder} is a sparse model, and its masks or factors fit no other weights",
            f"Put a densify stage before it, and {verb} what that makes.",
        )
    state = State.open(folder, own=own)
    # Before hours of writing: what surgery did to the function could not be told.
    state.check_numbers(str(folder))
    return Patient(folder, state, load_card(folder))


@dataclass(frozen=True, slots=True)
class Change:
    """What surgery did to a model's function, on a fixed text."""

    difference: float
    loss_before: float
    loss_after: float
    seconds: float


def write_result(job: Job, before: Patient, after: State, target: Architecture) -> ModelCard:
    """Write the model, the files that belong to it, and its card; the data cursor is kept.

    There is no `optimizer.safetensors`: what trains the model on begins with fresh moments.

    Raises:
        RunError: the tensors are not those of the target.
        OSError: the disk is full or not writable.
    """
    card = before.card.model_copy(update={"architecture": target})
    after.write(job.out, follow=job.follow)
    for pattern in COMPANIONS:
        for path in sorted(before.folder.glob(pattern)):
            shutil.copyfile(path, job.out / path.name)
    text = json.dumps(card.model_dump(mode="json"), indent=2)
    (job.out / GRAFTWORK).write_text(text + "\n", encoding="utf-8")
    return card


def check_function(job: Job, before: Patient, card: ModelCard, contract: Contract | None) -> Change:
    """Send a fixed text through the model before and after, as they lie on disk.

    Raises:
        RunError: the method promises to keep the function and has not, or the model's scores are
            no numbers to begin with.
    """
    began = time.perf_counter()
    tokens = probe_tokens(before.folder, card.vocab, card.context)
    old = logits(before.state, before.card.architecture, tokens)
    new = logits(State.open(job.out, own=True), card.architecture, tokens)
    change = Change(
        difference=float((new - old).abs().max()),
        loss_before=mean_loss(old, tokens, card.architecture.kind),
        loss_after=mean_loss(new, tokens, card.architecture.kind),
        seconds=time.perf_counter() - began,
    )
    if not (math.isfinite(change.loss_before) and math.isfinite(change.loss_after)):
        raise RunError(
            f"{before.folder} gives scores that are not finite",
            "Its weights are damaged, or its training diverged; take others, or train it again "
            "with a lower learning rate.",
        )
    if contract == "exact" and not change.difference <= EXACT:
        raise RunError(
            f"the model's scores changed by up to {change.difference:.3g}, and the method promises "
            f"to keep them within {EXACT:g}",
            "This is a fault of graftwork or a damaged model; please report it with the spec.",
        )
    return change


def metrics(before: Patient, after: State, change: Change) -> dict[str, float]:
    """Scalars that every surgery reports."""
    return {
        "parameters": after.parameters,
        "parameters_before": before.state.parameters,
        "max_logit_difference": change.difference,
        "probe_loss_before": change.loss_before,
        "probe_loss": change.loss_after,
        "probe_seconds": change.seconds,
    }


def write_summary(
    job: Job,
    sides: tuple[ModelCard, ModelCard],
    change: Change,
    notes: tuple[str, ...],
    tables: tuple[Mapping[str, Any], ...] = (),
) -> None:
    """Tables and notes for the report: the model before and after."""
    old, new = sides
    rows = [
        ["blocks", old.architecture.layers, new.architecture.layers],
        ["experts in a block", _experts(old), _experts(new)],
        ["parameters", *(format_number(c.architecture.parameters(c.vocab)) for c in sides)],
        ["training FLOPs a token", *(format_number(_flops(c)) for c in sides)],
        ["loss on a fixed short text", change.loss_before, change.loss_after],
    ]
    table = {"title": "Before and after", "columns": ["", "before", "after"], "rows": rows}
    extend_summary(job.out, tables=(table, *tables), notes=notes)


def _experts(card: ModelCard) -> int | str:
    return card.architecture.experts.count if card.architecture.experts else "–"


def _flops(card: ModelCard) -> float:
    return card.architecture.flops_per_token(card.vocab, card.context)
