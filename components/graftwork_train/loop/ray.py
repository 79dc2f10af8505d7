"""Ray Train, and nothing else of Ray: the only module here that imports it.

One worker on the machine at hand is Ray Train's local mode: the same loop in the step's own
process, without a cluster. More workers are processes of a Ray that is up (`RAY_ADDRESS`), or of
one that is started here and stopped again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
    get_context,
)
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from graftwork import progress
from graftwork.errors import GraftworkError, RunError
from graftwork_train.connection import connected
from graftwork_train.loop.step import Place

T = TypeVar("T")

_LOGGERS = ("ray", "ray.train", "ray.train.v2")


def run(
    work: Callable[[Place], T],
    *,
    workers: int,
    fewest: int | None = None,
    cores: int,
    gpu: bool,
    results: Path,
    restarts: int = 0,
) -> T:
    """Run `work` on every worker, and give back what the first one returns.

    Args:
        work: Called once in each worker with its place; what it refers to is sent there. After a
            lost worker it is called in a new group of them.
        workers: How many.
        fewest: With how many training begins and goes on, where no more can be had.
        cores: CPU cores of each.
        gpu: Whether each gets a GPU.
        results: Folder that Ray may write into.
        restarts: How often a group that lost a worker is replaced. What a worker raised for the
            user ends the training at once.

    Raises:
        GraftworkError: a worker raised it.
        RunError: a worker died, once too often.
    """
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    if workers == 1 and _here(os.environ.get("RAY_ADDRESS", "")):
        return _fit(work, ScalingConfig(num_workers=0), gpu=gpu, results=results, restarts=0)
    resources = {"CPU": cores, "GPU": 1} if gpu else {"CPU": cores}
    number = workers if fewest in (None, workers) else (fewest, workers)
    scaling = ScalingConfig(
        num_workers=number,  # type: ignore[arg-type] # Ray names an older class
        use_gpu=gpu,
        resources_per_worker=resources,
    )
    with connected(workers * cores):
        return _fit(work, scaling, gpu=gpu, results=results, restarts=restarts)


def _here(address: str) -> bool:
    """Whether one worker may as well be this process: there is no Ray, or it is on this machine."""
    return not address or address.split(":")[0] in ("local", "localhost", "127.0.0.1")


class _OursAreFinal(UserCallback):
    """Ends a training whose worker raised something for the user; Ray would try again."""

    def after_exception(
        self, run_context: object, worker_exceptions: Mapping[int, Exception]
    ) -> None:
        """Ray's controller takes what is raised here as the training's end."""
        ours = _ours(worker_exceptions)
        if ours is not None:
            raise ours


def _fit(
    work: Callable[[Place], T], scaling: ScalingConfig, *, gpu: bool, results: Path, restarts: int
) -> T:
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
        run_config=RunConfig(
            storage_path=str(results),
            name="train",
            failure_config=FailureConfig(max_failures=restarts),
            callbacks=[_OursAreFinal()],  # type: ignore[list-item] # Ray names an older class
        ),
        # Host numbers are summed over gloo, so that no GPU is waited for.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
    )
    try:
        returned: T = trainer.fit().return_value  # type: ignore[attr-defined] # v2 has it
    except TrainingFailedError as error:
        raise _cause(error) from error
    return returned


def _ours(failures: Mapping[int, BaseException]) -> GraftworkError | None:
    """What a worker raised for the user, of the first one that did."""
    for rank in sorted(failures):
        cause: BaseException | None = failures[rank]
        while cause is not None:
            if isinstance(cause, GraftworkError):
                return cause
            cause = cause.__cause__
    return None


def _cause(error: TrainingFailedError) -> Exception:
    """What a worker raised for the user; else that one died, with what Ray knows of it."""
    failures: Mapping[int, BaseException] = {0: error}
    if isinstance(error, WorkerGroupError):
        failures = error.worker_failures
    elif isinstance(error, ControllerError):
        failures = {0: error.controller_failure}
    ours = _ours(failures)
    if ours is not None:
        return ours
    first = min(failures)
    lines = str(failures[first]).strip().splitlines() or ["no reason known"]
    return RunError(
        f"worker {first} failed: {lines[-1]}",
        "Run again to go on from the last checkpoint. A worker that is killed over and over "
        "needs more memory.",
    )
