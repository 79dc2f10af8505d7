"""A trained model as an artifact: its folder, its curve, its summary, its numbers."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from graftwork.units import format_number, format_seconds
from graftwork_train.job import CURVE, SUMMARY, Job, Outcome
from graftwork_train.loop.plan import Plan, Start
from graftwork_train.loop.worker import Trained
from graftwork_train.nn import Decoder, save_model
from graftwork_train.nn.hf import Saved, Tensors, from_disk, load_tensors, save_tensors, to_disk

OPTIMIZER = "optimizer.safetensors"
# Written by `prepare` beside the tokens; they make the folder loadable by AutoTokenizer.
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def write_artifact(job: Job, plan: Plan, model: Decoder, trained: Trained, start: Start) -> Outcome:
    """Write everything into `job.out`; returns what the record is to say."""
    data = job.step.one("data").fingerprint
    loader = plan.loader()
    shards = loader.new.shards
    consumed = loader.new.cursor(plan.steps * (plan.batch - plan.replayed))
    streams = {f"{data}/{name}" if name else data: count for name, count in consumed.items()}
    cursor = {**start.cursor, **streams}
    save_model(model, job.out, model.context, Saved(cursor, shards.eos))
    save_state(job.out / OPTIMIZER, trained.state, model)
    for name, tensors in trained.files.items():
        save_tensors(job.out / name, tensors)
    for name in TOKENIZER:
        if (shards.folder / name).is_file():
            shutil.copyfile(shards.folder / name, job.out / name)
    lines = [json.dumps(point) for point in trained.curve]
    (job.out / CURVE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    measured = metrics(plan, model, trained)
    notes = _notes(trained)
    summary = {"tables": [_table(plan, measured, trained.seconds)], "notes": notes}
    (job.out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    tokens = plan.steps * plan.tokens_per_step
    return Outcome(
        metrics=measured,
        tokens=tokens,
        flops=plan.flops(plan.steps),
        workers=plan.workers,
        notes=tuple(notes),
    )


def metrics(plan: Plan, model: Decoder, trained: Trained) -> dict[str, float]:
    """`loss` and `loss/<domain>` on held-out text, `train_loss` over the last tenth, and so on."""
    points = [point for point in trained.curve if "loss" in point]
    begin = [point["held_out_loss"] for point in trained.curve if "held_out_loss" in point][:1]
    last = points[-max(1, len(points) // 10) :]
    losses = [point["loss"] for point in last if math.isfinite(point["loss"])]
    tokens = plan.steps * plan.tokens_per_step
    return {
        **(trained.held_out.metrics() if trained.held_out else {}),
        **({"start_loss": begin[0]} if begin else {}),
        "train_loss": fmean(losses) if losses else math.nan,
        "parameters": float(model.parameter_count()),
        "tokens_per_second": tokens / trained.seconds if trained.seconds else 0.0,
        "steps": float(plan.steps),
        **trained.measures,
        **_wrong(trained.counts),
    }


def _wrong(counts: Mapping[str, int]) -> dict[str, float]:
    """What went wrong and was got over, as metrics; nothing where nothing did."""
    names = {"not_finite": "bad_steps/not_finite", "spike": "bad_steps/spike"}
    return {names.get(name, name): float(count) for name, count in counts.items() if count}


def save_state(path: Path, state: Mapping[str, Tensor], model: Decoder) -> None:
    """Write an optimizer's tensors: `<slot>.<the weight's name on disk>`, scalars by their slot."""
    saved: Tensors = {}
    for slot, tensors in _slots(state, model).items():
        if slot:
            named = to_disk(tensors, model.architecture)
            saved |= {f"{slot}.{name}": tensor for name, tensor in named.items()}
        else:
            saved |= tensors
    save_tensors(path, saved)


def load_state(path: Path, model: Decoder) -> Tensors:
    """Read what `save_state` wrote.

    Raises:
        CorruptArtifactError: the file cannot be read.
        KeyError: a tensor of an expert is missing.
    """
    slots: dict[str, Tensors] = {}
    for key, tensor in load_tensors(path).items():
        slot, _, name = key.partition(".")
        slots.setdefault(slot if name else "", {})[name or slot] = tensor
    state = slots.pop("", {})
    for slot, tensors in slots.items():
        named = from_disk(tensors, model.architecture)
        state |= {f"{slot}.{name}": tensor for name, tensor in named.items()}
    return state


def _slots(state: Mapping[str, Tensor], model: Decoder) -> dict[str, Tensors]:
    slots: dict[str, Tensors] = {}
    for key, tensor in state.items():
        slot, _, name = key.partition(".")
        slots.setdefault(slot if name else "", {})[name or slot] = tensor
    return slots


def _notes(trained: Trained) -> list[str]:
    notes = list(trained.notes)
    if trained.held_out is None:
        notes.append("Nothing is held out, so there is no loss on unseen text.")
    return notes


def _table(plan: Plan, measured: Mapping[str, float], seconds: float) -> dict[str, Any]:
    tokens = plan.steps * plan.tokens_per_step
    rows = [
        ["steps", f"{plan.steps}"],
        ["tokens", format_number(tokens)],
        ["batch", f"{plan.batch} sequences of {plan.context} tokens"],
        ["training FLOPs", format_number(plan.flops(plan.steps))],
        ["training time", format_seconds(seconds)],
        ["tokens per second", format_number(measured["tokens_per_second"])],
        ["training loss, end", f"{measured['train_loss']:.4f}"],
    ]
    if "loss" in measured:
        told = f"{measured['loss']:.4f} (perplexity {math.exp(min(measured['loss'], 700)):.4g})"
        rows.append(["held-out loss", told])
    rows += [
        [f"held-out loss, {name.removeprefix('loss/')}", f"{value:.4f}"]
        for name, value in measured.items()
        if name.startswith("loss/")
    ]
    return {"title": "Training", "columns": ["", ""], "rows": rows}
