"""A ladder of tiny language models over bytes: one training run, looked at after ever more steps.

Where PreSelect's spec names no models, these stand in for its six: they differ in how long they
have been trained, which is an order of quality that needs no benchmark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from graftwork.spec.model import Architecture
from graftwork_train.data.index import Ids
from graftwork_train.nn import Decoder

EOS = 256
VOCAB = 320
CONTEXT = 128
BATCH = 16
# The first rung has learned the bytes' frequencies, which every text but the strangest has in
# common; what comes after that is where texts differ.
FIRST_STEPS, LAST_STEPS = 64, 320
ARCHITECTURE = Architecture(layers=1, width=64, heads=4)
PEAK = 3e-3


def rungs(count: int) -> list[int]:
    """Optimizer steps after which the run is looked at, evenly on a logarithmic scale."""
    return [round(steps) for steps in np.geomspace(FIRST_STEPS, LAST_STEPS, count)]


def taught(count: int) -> int:
    """Positions that a run of so many rungs learns from."""
    return rungs(count)[-1] * BATCH * CONTEXT


def climb(
    documents: Sequence[Ids], count: int, seed: int, progress: Callable[[int], None]
) -> Iterator[Decoder]:
    """Train on the documents' bytes, and give the model at each rung, from the worst to the best.

    The model is the same object every time: use it before the next one is asked for.

    Args:
        documents: Bytes, int64 (n,) each.
        count: Rungs.
        seed: Of the weights and of the batches.
        progress: Called with the steps done.
    """
    stream = np.concatenate([np.append(ids, EOS) for ids in documents])
    # A short corpus is repeated until it holds a sequence.
    stream = np.resize(stream, max(len(stream), CONTEXT + 2))
    generator = np.random.default_rng(seed)
    model = Decoder(ARCHITECTURE, VOCAB, CONTEXT, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.95))
    done = 0
    for steps in rungs(count):
        model.train()
        while done < steps:
            starts = generator.integers(0, len(stream) - CONTEXT, BATCH)
            rows = np.stack([stream[start : start + CONTEXT + 1] for start in starts])
            _step(model, optimizer, torch.from_numpy(rows))
            done += 1
            progress(done)
        yield model


def _step(model: Decoder, optimizer: torch.optim.Optimizer, rows: torch.Tensor) -> None:
    hidden = model(rows[:, :-1]).hidden_BTD
    loss = F.cross_entropy(model.logits(hidden).flatten(0, 1), rows[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
