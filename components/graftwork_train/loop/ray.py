"""Ray Train, and nothing else of Ray: the only module here that imports it.

One worker on the machine at hand is Ray Train's local mode: the same loop in the step's own
process, without a cluster. More workers are processes of a Ray that is up (`RAY_ADDRESS`), or of
one that is started here and stopped again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from ray.train import RunConfig, ScalingConfig, WorkerGroupError, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from graftwork import progress
from graftwork.errors import GraftworkError, RunError
from graftwork_train.connection import connected
from graftwork_train.loop.step import Place

T = TypeVar("T")

_LOGGERS = ("ray", "ray.train", "ray.train.v2")


def run(work: Callable[[Place], T], *, workers: int, cores: int, gpu: bool, results: Path) -> T:
    """Run `work` on every worker, and give back what the first one returns.

    Args:
        work: Called once in each worker with its place; what it refers to is sent there.
        workers: How many.
        cores: CPU cores of each.
        gpu: Whether each gets a GPU.
        results: Folder that Ray may write into.

    Raises:
        GraftworkError: a worker raised it.
        RunError: a worker died.
    """
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if workers == 1 and _here(os.environ.get("RAY_ADDRESS", "")):
        return _fit(work, ScalingConfig(num_workers=0), gpu=gpu, results=results)
    resources = {"CPU": cores, "GPU": 1} if gpu else {"CPU": cores}
    scaling = ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=resources)
    with connected(workers * cores):
        return _fit(work, scaling, gpu=gpu, results=results)


def _here(address: str) -> bool:
    """Whether one worker may as well be this process: there is no Ray, or it is on this machine."""
    return not address or address.split(":")[0] in ("local", "localhost", "127.0.0.1")


def _fit(work: Callable[[Place], T], scaling: ScalingConfig, *, gpu: bool, results: Path) -> T:
    watched = os.environ.get(progress.VARIABLE)

    def loop() -> T | None:
        if watched:
            os.environ[progress.VARIABLE] = watched
        context = get_context()
        device = get_device() if gpu else torch.device("cpu")
        place = Place(context.get_world_rank(), context.get_world_size(), device)
        result = work(place)
        return result if place.rank == 0 else None

    trainer = TorchTrainer(
        loop,  # type: ignore[arg-type] # Ray Train v2 hands its result on
        scaling_config=scaling,
        run_config=RunConfig(storage_path=str(results), name="train"),
        # Host numbers are summed over gloo, so that no GPU is waited for.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
    )
    try:
        returned: T = trainer.fit().return_value  # type: ignore[attr-defined] # v2 has it
    except WorkerGroupError as error:
        raise _cause(error) from error
    return returned


def _cause(error: WorkerGroupError) -> Exception:
    """What a worker raised for the user; else that one died, with what Ray knows of it."""
    failures = [error.worker_failures[rank] for rank in sorted(error.worker_failures)]
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, GraftworkError):
                return cause
            cause = cause.__cause__
    lines = str(failures[0]).strip().splitlines() or ["no reason known"]
    return RunError(
        f"worker {min(error.worker_failures)} failed: {lines[-1]}",
        "Run again to go on from the last checkpoint. A worker that is killed over and over "
        "needs more memory.",
    )
