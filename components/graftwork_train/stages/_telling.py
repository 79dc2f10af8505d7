"""`evaluate` with classes: how many held-out sequences a model, or a committee, tells rightly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from graftwork.artifact import Record
from graftwork.errors import RunError
from graftwork.spec.stages import Evaluate
from graftwork_train.committees import combine
from graftwork_train.continuing._telling import Told, load_head, measures, tell
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import SUMMARY, Job, Outcome
from graftwork_train.nn import Decoder, load_model

MEMBERS = "committee.members"


def tell_classes(body: Evaluate, job: Job, shards: TokenShards, device: torch.device) -> Outcome:
    """Judge the model of `from`, with the committee if there is one; writes `summary.json`.

    Raises:
        RunError: models and data do not fit together, nothing is held out, or two members are one
            and the same model.
    """
    names = (body.from_, *(body.committee.members if body.committee else ()))
    roles = ["from", *(f"{MEMBERS}.{number}" for number in range(len(names) - 1))]
    notes = _shared(names, [job.artifact(role).record for role in roles])
    answers: list[Told] = []
    parameters = 0
    for number, role in enumerate(roles):
        job.progress(number, len(roles), "models")
        folder = job.artifact(role).path
        model = load_model(folder)
        check_fits(model, shards)
        answers.append(_answers(model.to(device).eval(), folder, body, shards))
        parameters += model.parameter_count()
    alone = [measures(told) for told in answers]
    found = alone[0]
    if body.committee is not None:
        _check_alike(names, answers)
        scores_MNC = torch.stack([told.scores_NC for told in answers])
        together = combine(body.committee, scores_MNC).float()
        found = measures(replace(answers[0], scores_NC=together))
        found["accuracy_members"] = sum(one["accuracy"] for one in alone) / len(alone)
    rows: list[list[object]] = [
        [name, one["accuracy"], one["class_loss"]] for name, one in zip(names, alone, strict=True)
    ]
    if body.committee is not None:
        rows.append(["the committee", found["accuracy"], found["class_loss"]])
    _write(job.out, len(answers[0].labels_N), rows)
    return Outcome(metrics={**found, "parameters": float(parameters)}, notes=notes)


def _shared(names: Sequence[str], records: Sequence[Record]) -> tuple[str, ...]:
    """What trainings members have in common: a committee's differ from pre-training on."""
    known: dict[str, str] = {}
    for name, record in zip(names, records, strict=True):
        if record.fingerprint in known:
            raise RunError(
                f"{name!r} and {known[record.fingerprint]!r} are one and the same model",
                "Give the stages that make them another 'draw' each.",
            )
        known[record.fingerprint] = name
    trained = [{key: a.stage for key, a in r.lineage.items() if a.flops} for r in records]
    common = {stage for key, stage in trained[0].items() if all(key in t for t in trained)}
    if len(records) == 1 or not common:
        return ()
    return (f"All members come from {', '.join(sorted(common))}; they differ only after it.",)


def check_fits(model: Decoder, shards: TokenShards) -> None:
    """Refuse a model that cannot read the tokens.

    Raises:
        RunError: its vocabulary is another one, or its sequences are shorter.
    """
    if model.vocab != shards.vocab:
        raise RunError(
            f"the tokens are of a vocabulary of {shards.vocab}, the model has {model.vocab}",
            "Evaluate on data that was prepared with the model's own tokenizer.",
        )
    if model.context < shards.context:
        raise RunError(
            f"sequences have {shards.context} tokens, the model was made for {model.context}",
            f"Prepare the data with a context of at most {model.context}.",
        )


def _answers(model: Decoder, folder: Path, body: Evaluate, shards: TokenShards) -> Told:
    head, classes = load_head(folder)
    device = next(model.parameters()).device
    head = replace(head, weight_KD=head.weight_KD.to(device), bias_K=head.bias_K.to(device))
    return tell(model, head, classes, shards, body.sequences)


def _check_alike(names: Sequence[str], answers: Sequence[Told]) -> None:
    for name, told in zip(names, answers, strict=True):
        if told.classes != answers[0].classes:
            raise RunError(
                f"{name!r} has learned {', '.join(told.classes)}, and {names[0]!r} "
                f"{', '.join(answers[0].classes)}",
                "Teach all members of a committee the same classes, on one stage's data.",
            )


def _write(out: Path, sequences: int, rows: list[list[object]]) -> None:
    table = {
        "title": f"On {sequences:,} held-out sequences",
        "columns": ["model", "accuracy", "loss, nats per sequence"],
        "rows": rows,
    }
    text = json.dumps({"tables": [table]}, indent=2, allow_nan=False, ensure_ascii=False)
    (out / SUMMARY).write_text(text + "\n", encoding="utf-8")
