"""One worker of a gang that a test drives: trains what it is sent, over gloo on the loopback.

Started as a script with its rank, the number of workers and a port. Cases and results are pickled
through its standard streams, from and to the test that started it.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any

import torch
import torch.distributed as dist

from graftwork.errors import GraftworkError
from graftwork_train.loop.constraint import free
from graftwork_train.loop.masks import Masks
from graftwork_train.loop.place import Place
from graftwork_train.loop.worker import Worker
from graftwork_train.nn import Decoder


def model_of(case: dict[str, Any]) -> Decoder:
    """The model that all layouts begin with.

    Its routers are sure of themselves: where two experts are as good, the last digit decides.
    """
    model = Decoder(case["architecture"], case["vocab"], case["plan"].context, seed=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                parameter *= 50
    return model


def train(case: dict[str, Any], place: Place) -> Any:
    """Train one case to its end, or until a step at which it is asked to stop."""
    plan, masks, stop_at = case["plan"], case.get("masks"), case.get("stop_at")
    model = model_of(case)
    constrain = (lambda model, steps: Masks(model, masks)) if masks else free
    constrain = case.get("constrain", constrain)
    worker = Worker(plan, model, constrain, case.get("state"), place)
    first = worker.step
    if stop_at is not None:
        worker.stop.made = lambda: worker.step >= stop_at  # type: ignore[method-assign]
    trained = worker.run()
    held = sum(p.numel() for p in worker.network.parameters.values())
    kept = sum(t.numel() for t in worker.optimizer.state().values())
    return {"trained": trained, "first": first, "held": held, "kept": kept}


def main(rank: int, workers: int, port: int) -> None:
    """Serve cases until the test closes the stream."""
    answers = os.fdopen(os.dup(1), "wb")
    # Whatever prints must not get between the answers.
    os.dup2(2, 1)
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers
    )
    while True:
        try:
            case = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = train(case, Place(rank, workers))
        except GraftworkError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
