"""In the processes of a step: one fault, once, at an exact instant; and a log of the samples.

The order is a file named by a variable that only these tests set. Methods of the engine are
wrapped in this process alone, so production code holds no hook for tests.
"""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tests.faults.cells import MET, SAVE, UPLOAD

from graftwork.store.files import LocalFiles, local_path
from graftwork.store.remote import RemoteFiles
from graftwork_train import run
from graftwork_train.loop import ray
from graftwork_train.loop.marker import MARKER
from graftwork_train.loop.step import Engine, Place
from graftwork_train.loop.worker import Worker

VARIABLE = "FAULT_ORDER"
# Seconds that one thread waits for another, or for the proxy.
LIMIT = 60.0


@dataclass(frozen=True)
class Order:
    """What is to happen.

    Attributes:
        fault, moment: Of the cell; no fault only keeps the log.
        step: At which the fault comes.
        point: Of a save: `begin`, `half`, `table`, `marker` or `done`.
        rank: The worker that it comes to.
        workers: How many there are.
        folder: For the log, and the mark that it has happened.
        control: Address of the proxy.
        shard: File of tokens to truncate.
        amount: Bytes, or seconds, as the fault has it.
        driver: Process of the step, as its workers must know it.
    """

    fault: str = ""
    moment: str = ""
    step: int = 0
    point: str = ""
    rank: int = 0
    workers: int = 1
    folder: str = ""
    control: str = ""
    shard: str = ""
    amount: int = 0
    driver: int = 0


def main(arguments: list[str] | None = None) -> int:
    """As `graftwork_train.run.main`, with the order's fault."""
    order = Order(**json.loads(Path(os.environ[VARIABLE]).read_text()))
    order = replace(order, driver=os.getpid())
    if order.workers == 1:
        Injector(order).arm()
    else:
        original = ray.run
        ray.run = lambda work, **options: original(Carried(work, order), **options)
    return run.main(arguments)


@dataclass
class Carried:
    """The work of Ray Train's workers, which brings the fault into their processes."""

    work: Callable[[Place], Any]
    order: Order

    def __call__(self, place: Place) -> Any:
        Injector(self.order).arm()
        return self.work(place)


class Injector:
    """Makes the fault happen in this process, if it has not happened yet in another one."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.folder = Path(order.folder)
        self.worker: Worker | None = None
        self.happened = threading.Event()
        self.poison = False
        # Whether it happened in another process.
        self.over = (self.folder / "fired").exists()

    def log(self, **fields: object) -> None:
        """A line of the log, in one write, so that processes may share it."""
        line = json.dumps({"pid": os.getpid(), **fields}) + "\n"
        handle = os.open(self.folder / "log.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, line.encode())
        os.close(handle)

    def arm(self) -> None:
        """Wrap what the fault is tied to."""
        self._watch_worker()
        self._wrap_step()
        if self.order.moment == SAVE:
            for kind in (LocalFiles, RemoteFiles):
                self._wrap_save(kind)

    def _watch_worker(self) -> None:
        begin, result = Worker.__init__, Worker._result

        def watched(worker: Worker, *arguments: Any) -> None:
            self.worker = worker
            begin(worker, *arguments)
            if worker.place.rank == 0:
                self.log(begin=worker.step)

        def ended(worker: Worker, *arguments: Any, **options: Any) -> Any:
            if worker.place.rank == 0:
                state = worker.batches.ledger.state(worker.step)
                self.log(ended=worker.step, digest=state["digest"], streams=state["streams"])
            return result(worker, *arguments, **options)

        Worker.__init__, Worker._result = watched, ended

    def _wrap_step(self) -> None:
        original = Engine.step

        def step(engine: Engine, batch: Any, predicted: int, rate: float, number: int) -> Any:
            self._before(number)
            if self.worker.place.rank == 0:
                self.log(step=number, batch=batch.digest.hex())
            if not self.poison:
                return original(engine, batch, predicted, rate, number)
            self.poison = False
            weight = next(iter(engine.network.parameters.values()))
            hook = weight.register_hook(lambda gradient: torch.full_like(gradient, torch.nan))
            try:
                return original(engine, batch, predicted, rate, number)
            finally:
                hook.remove()

        Engine.step = step

    def _before(self, number: int) -> None:
        order = self.order
        if not order.fault or order.step != number or order.rank != self.worker.place.rank:
            return
        if self.over:
            return
        if order.moment == SAVE:
            # Training stands here until the thread that saves has come to the point.
            self.happened.wait(LIMIT)
        elif order.moment == UPLOAD and not order.fault.startswith("s3"):
            self._ask("upload")  # it returns when half of a part has been sent
            self.fire()
            self._ask("release")
        elif order.moment != UPLOAD:  # of an upload the proxy does it all
            self.fire()

    def _wrap_save(self, kind: type) -> None:
        original, point = kind.save, self.order.point

        def save(files: Any, uri: str, data: memoryview) -> None:
            if f"step-{MET:010d}" not in uri or self.order.rank != self.worker.place.rank:
                return original(files, uri, data)
            name = uri.rpartition("/")[2]
            part, marker = name.endswith(".safetensors"), name == MARKER
            if part and point == "half" and files.local and not self.over:
                draft = local_path(uri)
                draft.parent.mkdir(parents=True, exist_ok=True)
                draft = draft.with_name(f"{draft.name}.{os.getpid()}.draft")
                draft.write_bytes(data[: len(data) // 2])
            before = {"begin": part, "half": part, "marker": marker}
            before["table"] = not part and not marker
            if before.get(point):
                self.fire()
            original(files, uri, data)
            if marker and point == "done":
                self.fire()

        kind.save = save

    def fire(self) -> None:
        """Let it happen, unless it has."""
        try:
            (self.folder / "fired").touch(exist_ok=False)
        except FileExistsError:
            self.happened.set()
            return
        self.log(fired=self.order.fault)
        family = "s3" if self.order.fault.startswith("s3") else self.order.fault
        getattr(self, "_" + family.replace("-", "_"))()
        self.happened.set()

    def _kill_worker(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _kill_driver(self) -> None:
        os.kill(self.order.driver, signal.SIGKILL)
        time.sleep(LIMIT)  # a worker stands here until Ray ends it; one alone is gone

    def _kill_raylet(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(LIMIT)

    def _sigterm(self) -> None:
        os.kill(self.order.driver, signal.SIGTERM)
        until = time.monotonic() + LIMIT
        while self.order.workers > 1 and not self.worker.stop.made() and time.monotonic() < until:
            time.sleep(0.01)

    def _s3(self) -> None:
        self._ask("arm")

    def _disk_full(self) -> None:
        # The kernel writes up to the limit and refuses the rest, as on a disk that is full.
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.order.amount, hard))

    def _nan_gradient(self) -> None:
        self.poison = True

    def _clock_jump(self) -> None:
        original, shift = time.time, self.order.amount
        time.time = lambda: original() + shift

    def _truncated_shard(self) -> None:
        files = self.worker.plan.workspace.files()
        data = files.read(self.order.shard)
        files.write(self.order.shard, data[: len(data) // 2])
        self._kill_worker()

    def _corrupt_checkpoint(self) -> None:
        files, root = (w := self.worker.plan.workspace).files(), w.path("checkpoints")
        names = sorted(files.sizes(root))
        newest = max(name for name in names if name.endswith(MARKER)).rpartition("/")[0]
        ending = ".json" if self.order.amount == 2 else ".safetensors"
        part = next(n for n in names if n.startswith(f"{newest}/part") and n.endswith(ending))
        data = bytearray(files.read(f"{root}/{part}"))
        if self.order.amount == 0:
            data[-1] ^= 1
        else:
            del data[len(data) // 2 :]
        files.write(f"{root}/{part}", bytes(data))
        self.log(harmed=newest)
        self._kill_worker()

    def _ask(self, what: str) -> None:
        place = urllib.parse.urlsplit(self.order.control)
        line = http.client.HTTPConnection(place.hostname, place.port, timeout=2 * LIMIT)
        line.request("GET", f"/_faults/{what}")
        answer = line.getresponse()
        line.close()
        if answer.status != 200:
            sys.exit(f"the proxy did not see what was expected: {what}")


def write(order: Order, path: Path) -> None:
    """Write the order for `main`."""
    path.write_text(json.dumps(asdict(order)))
