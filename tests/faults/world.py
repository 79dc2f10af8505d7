"""A tiny workflow whose stages the faults meet: its inputs, and runs of its steps."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer
from tests.faults import verify
from tests.faults.cells import EVERY, S3, SAVE, STEPS, UPLOAD, Cell
from tests.faults.inject import VARIABLE, Order, write
from tests.faults.proxy import Proxy

from graftwork.artifact import Record
from graftwork.local import processes, ray_head
from graftwork.planned import plan_files
from graftwork.spawn import Forked
from graftwork.spec.resources import Pool, Storage
from graftwork.step import Step
from graftwork.store import Store
from graftwork.store.files import files_for
from graftwork.store.lease import Lease

REPOSITORY = Path(__file__).parents[2]
SPEC = f"""\
metadata: {{name: faults}}
seed: 17
storage: {{root: ROOT}}
corpora: {{web: {{source: text, uri: CORPUS, broken_limit: 100%}}}}
defaults:
  training:
    batch: 4 sequences
    budget: {STEPS} steps
    checkpoint_every: {EVERY}
    log_every: 4
    schedule: {{name: cosine, peak: 0.01, warmup: 2 steps}}
stages:
  tokens: {{prepare: {{from: web, tokenizer: {{name: bytes}}, context: 16, held_out: 5%}}}}
  train: {{train: {{data: tokens, model: MODEL}}}}
  continue: {{continue: {{from: train, data: tokens}}}}
  sparsify: {{sparsify: {{data: tokens, model: MODEL, method: {{name: spdf, sparsity: 50%}}}}}}
  densify: {{densify: {{from: sparsify, data: tokens}}}}
  experts: {{upcycle: {{from: train, method: {{name: sparse_upcycling, experts: 4, top_k: 2}}}}}}
  upcycled: {{continue: {{from: experts, data: tokens}}}}
  stacked: {{grow: {{from: train, method: {{name: g_stack, factor: 2}}}}}}
  grown: {{continue: {{from: stacked, data: tokens}}}}
"""
MODEL = "{layers: 2, width: 16, heads: 2, kv_heads: 1, ffn: 32}"
KINDS = ("prepare", "train", "continue", "sparsify", "densify", "upcycle", "grow")
BUCKET = "faults"
TRIES = 4
# Seconds for one try, before it counts as hanging.
ALONE, TOGETHER = 240, 480
CORRUPT_INPUT = 3


@dataclass
class Straight:
    """What an undisturbed run of a stage gave."""

    weights: dict[str, str]
    log: verify.Lines


@dataclass
class Ended:
    """What a cell gave: exit codes of its tries, in order, and all that is wrong."""

    codes: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    happened: bool = False
    output: str = ""


class Warm:
    """A warm process, whose forks do what the order says."""

    def __init__(self, path: Path, folder: Path, environment: dict[str, str]) -> None:
        self._path, self._environment = path, environment
        with (folder / "warm.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.faults.warm", str(path), *KINDS],
                cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.pid = self._process.pid

    def fork(self, path: Path, variables: dict[str, str]) -> Forked:
        """Start a try of the step in a file."""
        until, environment = time.monotonic() + ALONE, self._environment | variables
        while True:
            try:
                return Forked(str(self._path), path, Lease(None, bool), environment)
            except (FileNotFoundError, ConnectionRefusedError):  # it is about to listen
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def limit_of(workers: int) -> int:
    """Seconds for one try."""
    return ALONE if workers == 1 else TOGETHER


class World:
    """All that the cells of one session share, made once.

    Args:
        folder: For everything.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._short = Path(tempfile.mkdtemp(prefix="gw-", dir="/tmp"))
        self._mark = f"faults-{uuid.uuid4().hex}"
        self._straight: dict[tuple[str, int], Straight] = {}
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        host, port = self._server.get_host_and_port()
        self._server_url = f"http://{host}:{port}"
        self.proxy = Proxy(host, port)
        self.environment = self._environment()
        self._client = boto3.client(
            "s3", endpoint_url=self._server_url, region_name="us-east-1",
            aws_access_key_id="key", aws_secret_access_key="secret",
        )  # fmt: skip
        self._client.create_bucket(Bucket=BUCKET)
        self._warm = Warm(self._short / "warm", self.folder, self.environment)
        self._ray_warm: Warm | None = None
        self.inputs = self.folder / "inputs"
        self.steps = self._plan()
        try:
            for step in self.steps.values():
                self._make_input(step)
        except BaseException:
            self.close()
            raise

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "GRAFTWORK_CACHE": str(self.folder / "cache"),
            # As on a cluster.
            "GRAFTWORK_STORAGE_PATIENCE": "60",
            processes.VARIABLE: self._mark,
        }

    def _plan(self) -> dict[str, Step]:
        corpus = self.folder / "corpus"
        corpus.mkdir()
        for index in range(30):
            text = f"Document {index} asks whether it is nobler in the mind to suffer. " * 4
            (corpus / f"{index}.txt").write_text(text)
        text = SPEC.replace("ROOT", str(self.inputs)).replace("CORPUS", str(corpus))
        path = self.folder / "spec.yaml"
        path.write_text(text.replace("MODEL", MODEL))
        return {made.step.name: made.step for made in plan_files([path]).steps}

    def _make_input(self, step: Step) -> None:
        code, output, _ = self._run(step, Order(folder=str(self.folder)))
        assert code == 0, output

    def _run(self, step: Step, order: Order) -> tuple[int, str, bool]:
        """One try of a step: its exit code, its output, and whether it ended late."""
        folder = Path(order.folder)
        folder.mkdir(parents=True, exist_ok=True)
        write(order, folder / "order.json")
        (folder / "step.json").write_text(step.dumps())
        warm, limit = self._forks(order.workers), limit_of(order.workers)
        process = warm.fork(folder / "step.json", {VARIABLE: str(folder / "order.json")})
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 2**20)  # it is read at the end
        try:
            code, late = process.wait(limit), False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            code, late = process.wait(), True
        os.set_blocking(process.stdout.fileno(), False)
        output = (process.stdout.read() or b"").decode(errors="replace")
        process.stdout.close()
        return code, output, late

    def straight(self, stage: str, workers: int) -> Straight:
        """The undisturbed run, made once."""
        key = (stage, workers)
        if key not in self._straight:
            cell = Cell("", stage, "", workers)
            folder = self.folder / f"straight-{stage}-{workers}"
            step = self._place(cell, folder)
            order = Order(folder=str(folder), workers=workers)
            code, output, _ = self._run(step, order)
            assert code == 0, output
            record = Store(step.storage).read_record(step.uri)
            assert record is not None
            self._straight[key] = Straight(verify.weights(record), verify.read_log(folder))
        return self._straight[key]

    def _forks(self, workers: int) -> Warm:
        """The warm process for so many workers: several find a Ray that is up."""
        if workers == 1:
            return self._warm
        if self._ray_warm is None:
            session = Path(tempfile.mkdtemp(dir=self._short))
            log = self.folder / "ray.log"
            variables = ray_head.start(log, session / "ray", workers, self.environment)
            # Ray reads its token when it is imported, so this Ray has a warm process of its own.
            environment = self.environment | variables
            self._ray_warm = Warm(session / "warm", self.folder, environment)
        return self._ray_warm

    def _place(self, cell: Cell, folder: Path) -> Step:
        """The cell's step, its inputs put where the cell's storage is."""
        step = self.steps[cell.stage]
        root = f"s3://{BUCKET}/{cell.name}" if cell.remote else str(folder / "runs")
        storage = Storage(root=root)
        if cell.remote:
            storage = Storage(root=root, endpoint=self.proxy.url, region="us-east-1")
        pool = Pool(workers=cell.workers)
        placed = step.model_copy(update={"storage": storage, "pool": pool})
        for source in step.inputs:
            self._put(Path(step.input_uri(source)), placed.input_uri(source))
        return placed

    def _put(self, source: Path, uri: str) -> None:
        if not uri.startswith("s3://"):
            shutil.copytree(source, uri, dirs_exist_ok=True)
            return
        key = uri.removeprefix(f"s3://{BUCKET}/")
        for path in sorted(source.rglob("*")):
            if path.is_file():
                name = f"{key}/{path.relative_to(source).as_posix()}"
                self._client.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())

    def meet(self, cell: Cell) -> Ended:
        """Run the cell's step until it is made, the fault in its first try."""
        straight = self.straight(cell.stage, cell.workers)
        folder = self.folder / cell.name
        step = self._place(cell, folder)
        storage = step.storage.model_copy(
            update={"endpoint": self._server_url if cell.remote else None}
        )
        store = Store(storage)
        kind = cell.fault if cell.fault in S3 else ""
        self.proxy.reset(kind, uploads=cell.moment == UPLOAD)
        order = self._order(cell, folder, step)
        ended = Ended()
        while len(ended.codes) < TRIES and (not ended.codes or ended.codes[-1]):
            self._try(cell, step, order, storage, ended)
        ended.problems += self._judge(store.read_record(step.uri), folder, straight, ended)
        ended.happened = (folder / "fired").exists()
        if cell.fault in S3:
            ended.happened = self.proxy.hits > 0
        self._tidy(cell, folder)
        return ended

    def _order(self, cell: Cell, folder: Path, step: Step) -> Order:
        chance = cell.random()
        points = ["begin", "half", "table", "marker", "done"]
        alone = cell.workers == 1
        tokens = step.input_uri(step.one("data"))
        names = sorted(path.name for path in self._inputs_of(step).rglob("*.bin"))
        amounts = {
            "disk-full": [2**14, 2**15, 2**16],
            "clock-jump": [3600, -3600],
            "corrupt-checkpoint": [0, 1, 2],
        }
        return Order(
            fault=cell.fault, moment=cell.moment, step=cell.step,
            # With several workers only training itself leads to the marker.
            point=chance.choice(points if alone else points[:3]) if cell.moment == SAVE else "",
            rank=0 if alone else chance.choice([0, 1]),
            workers=cell.workers, folder=str(folder), control=self.proxy.url,
            shard=f"{tokens}/{next(n for n in names if 'train' in n)}",
            amount=chance.choice(amounts.get(cell.fault, [0])),
        )  # fmt: skip

    def _inputs_of(self, step: Step) -> Path:
        original = self.steps[step.name]
        return Path(original.input_uri(original.one("data")))

    def _try(self, cell: Cell, step: Step, order: Order, storage: Storage, ended: Ended) -> None:
        code, output, late = self._run(step, order)
        self.proxy.control("release")
        ended.codes.append(code)
        ended.output += output
        if late:
            ended.problems.append(f"try {len(ended.codes)} did not end in time")
        if cell.fault == "kill-raylet" and len(ended.codes) == 1:
            self._end_ray()
        harmed = [
            line["harmed"] for line in verify.read_log(Path(order.folder)) if "harmed" in line
        ]
        root = Store(storage).workspace(step.uri).path("checkpoints")
        ended.problems += verify.unreadable(files_for(root, storage), root, harmed)
        if code == CORRUPT_INPUT:  # another run builds the input anew
            self._place(cell, Path(order.folder))

    def _judge(
        self, record: Record | None, folder: Path, straight: Straight, ended: Ended
    ) -> list[str]:
        if record is None:
            return [f"it was not made in {len(ended.codes)} tries"]
        problems = verify.samples(verify.read_log(folder), straight.log)
        if verify.weights(record) != straight.weights:
            problems.append("the weights are not those of the undisturbed run")
        return problems

    def _tidy(self, cell: Cell, folder: Path) -> None:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        if cell.remote:
            files_for(f"s3://{BUCKET}", Storage(endpoint=self._server_url)).clear(
                f"s3://{BUCKET}/{cell.name}"
            )

    def _end_ray(self) -> None:
        """What is left of a Ray that has lost its raylet."""
        if self._ray_warm is not None:
            self._ray_warm.end()
            self._ray_warm = None
        for process in set(processes.marked(self._mark)) - {self._warm.pid}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def close(self) -> None:
        """End all processes."""
        self._end_ray()
        self._warm.end()
        processes.sweep(self._mark, grace=2.0)
        self.proxy.close()
        self._server.stop()
        shutil.rmtree(self._short, ignore_errors=True)


def row(cell: Cell, ended: Ended, seconds: float) -> dict[str, Any]:
    """A line of the report."""
    return {
        "fault": cell.fault, "stage": cell.stage, "moment": cell.moment, "workers": cell.workers,
        "storage": "s3" if cell.remote else "disk", "codes": ended.codes,
        "seconds": round(seconds, 1), "passed": not ended.problems and ended.happened,
        "problems": ended.problems,
    }  # fmt: skip
