"""Losses of a model on every row of tokens, kept in the step's workspace once they are known.

Whoever resumes the step reads them there: another machine's arithmetic may differ in the last bit,
and rows must not change their order for that. Shapes: N rows of all domains, one after another.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from graftwork.errors import RunError
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job
from graftwork_train.loop.loader import collate
from graftwork_train.loop.order import Integers
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.loss import IGNORE

Losses = npt.NDArray[np.float64]

# Logits of a vocabulary of 100,000 then take 0.8 GB.
_TOKENS = 2048


def places(shards: TokenShards) -> tuple[Integers, Integers]:
    """Domain, as a position in `shards.domains("train")`, and row of every row."""
    counts = [shards.sequences("train", name) for name in shards.domains("train")]
    domains_N = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    rows_N = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    return domains_N, rows_N


def scorer(job: Job, role: str, shards: TokenShards) -> Decoder:
    """The model of an input, to score these tokens.

    Raises:
        RunError: it does not know them, or takes shorter sequences only.
    """
    model = load_model(job.artifact(role).path)
    if model.vocab != shards.vocab or model.context < shards.context:
        raise RunError(
            f"{role}: the model has a vocabulary of {model.vocab} and takes {model.context} "
            f"tokens, the data has {shards.vocab} and {shards.context}",
            "Name a model of the same tokenizer that takes sequences of this length.",
        )
    return model


@torch.no_grad()
def row_losses(
    job: Job, model: Decoder, shards: TokenShards, *, document_mask: bool, name: str
) -> Losses:
    """Mean loss of each row's predicted tokens, in nats; infinite where it has none."""

    def make() -> Losses:
        torch.set_num_threads(job.step.pool.cpus_per_worker)
        gpu = job.step.pool.gpus_per_worker > 0 and torch.cuda.is_available()
        device = torch.device("cuda" if gpu else "cpu")
        model.to(device).eval()
        every = [
            (domain, row)
            for domain in shards.domains("train")
            for row in range(shards.sequences("train", domain))
        ]
        size, parts = max(1, _TOKENS // shards.context), []
        for first in range(0, len(every), size):
            parts.append(_losses(model, shards, every[first : first + size], document_mask))
            job.progress(min(first + size, len(every)), len(every), "sequences scored")
        model.cpu()
        return np.concatenate(parts)

    return kept(job, name, make)


def _losses(
    model: Decoder, shards: TokenShards, rows: list[tuple[str, int]], document_mask: bool
) -> Losses:
    batch = collate([shards.read("train", *row) for row in rows], document_mask=document_mask)
    device = next(model.parameters()).device
    documents_BT = None if batch.documents_BT is None else batch.documents_BT.to(device)
    labels_BT = batch.labels_BT.to(device)
    logits = model.logits(model(batch.tokens_BT.to(device), documents_BT).hidden_BTD)
    each = F.cross_entropy(
        logits.float().flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORE, reduction="none"
    )
    sums_B = each.view(labels_BT.shape).double().sum(1).cpu().numpy()
    counts_B = (labels_BT != IGNORE).sum(1).cpu().numpy()
    return np.where(counts_B > 0, sums_B / np.maximum(1, counts_B), np.inf)


def kept(job: Job, name: str, make: Callable[[], Losses]) -> Losses:
    """What an earlier attempt at the step has made, or what `make` makes, for the next one."""
    workspace = job.shared()
    files, path = workspace.files(), workspace.path(f"{name}.npy")
    found = files.read(path)
    if found is not None:
        read: Losses = np.load(io.BytesIO(found), allow_pickle=False)
        return read
    made = make()
    written = io.BytesIO()
    np.save(written, made, allow_pickle=False)
    files.write(path, written.getvalue())
    return made
