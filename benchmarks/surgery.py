"""Stack and upcycle a bf16 checkpoint of 1.1B parameters, against a plain copy and mergekit.

    python benchmarks/surgery.py [--layers 22] [--turns 3] [--only disk|step|s3] [--method NAME]

`disk`: the surgery alone, a process that reads a folder and writes another, with the files flushed
to the disk. `process_seconds` has the start of Python and all imports in it, `seconds` has not;
`times_a_copy` is the median of the ratios to copying a folder of the result's bytes, which takes
turns with it. mergekit does the same (`passthrough`, `mergekit-moe` with random gates) where
MERGEKIT names the folder of its commands, such as `/path/to/venv/bin`; else a line says that it is
not there. Memory is the peak of the resident set, files mapped into it included.

`step`: the same as whole steps of a workflow, by `python -m graftwork_train.run`: with digests
verified and taken, the probe of the function before and after, and the commit.

`s3`: with the storage in a bucket and nothing of it in a cache, against downloading the source's
bytes and uploading the result's by boto3, digests taken of neither. `times_a_copy` is what
fetching, surgery and committing take, digests included; `whole_step` is a step, with the probe of
the function before and after, too. The server is a `minio` on PATH or at $MINIO, else moto's, which
is itself the bottleneck of both and gets a model of one block.

Needs 11 GB of disk, with minio 22, all cleaned up, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import boto3
import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from surgeon import EXPERTS, FACTOR, flush
from tokenizers import Tokenizer, models

from graftwork.planned import plan_files
from graftwork_train.layout import layout
from graftwork_train.state import State
from graftwork_train.tensorfile import Made

Figures = dict[str, float | str]
METHODS = {
    "g_stack": f"grow: {{from: small, method: {{name: g_stack, factor: {FACTOR}}}}}",
    "sparse_upcycling": "upcycle: {from: small, method: {name: sparse_upcycling, "
    f"experts: {EXPERTS}, top_k: 1, every: 1}}}}",
}
# What performs a step: as in a container, and with its seconds told.
CONTAINER = ("-m", "graftwork_train.run")
TIMED = str(Path(__file__).with_name("surgeon.py"))
KEY = "benchmark-only"
PORT = 19733
# Numbers that weights are made of.
DRAWN = 2**20 + 7
# Seconds between two looks at a process.
LOOK = 0.02
ABSENT = "not measured: mergekit is not here; set MERGEKIT to the folder of its commands"


@dataclass(frozen=True)
class Sizes:
    """A Llama; the whole one is TinyLlama's."""

    layers: int
    width: int = 2048
    hidden: int = 5632
    heads: int = 32
    kv_heads: int = 4
    vocab: int = 32000
    context: int = 2048

    def config(self) -> dict[str, object]:
        """As Hugging Face writes it."""
        return {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16",
            "vocab_size": self.vocab, "hidden_size": self.width, "rms_norm_eps": 1e-5,
            "intermediate_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "hidden_act": "silu", "max_position_embeddings": self.context, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip

    def words(self) -> str:
        """As a spec writes it."""
        return (
            f"{{layers: {self.layers}, width: {self.width}, heads: {self.heads}, "
            f"kv_heads: {self.kv_heads}, ffn: {self.hidden}}}"
        )


def generate(folder: Path, sizes: Sizes) -> State:
    """Write a checkpoint whose weights, of ordinary size, are a lot of drawn numbers repeated."""
    folder.mkdir()
    lot = np.random.default_rng(0).standard_normal(DRAWN, np.float32) * np.float32(0.02)

    def draw(shape):
        if len(shape) == 1:
            return lambda: np.ones(shape, np.float32)
        return lambda: np.resize(lot, shape)

    config = sizes.config()
    tensors = {name: Made("BF16", shape, draw(shape)) for name, shape in layout(config).items()}
    State(config, tensors).write(folder)
    # mergekit wants a tokenizer; what it knows does not matter.
    words = {"<unk>": 0, "<s>": 1, "</s>": 2}
    Tokenizer(models.WordLevel(words, unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    flush(folder)
    return State.open(folder)


@dataclass(frozen=True)
class Run:
    """What a command printed, how long it took, and its peak memory."""

    output: str
    seconds: float
    peak: int


def measured(command: Sequence[str], log: Path) -> Run:
    """Run a command; what it prints goes to a file that is shown where it fails."""
    began = time.perf_counter()
    with log.open("w") as file:
        identity = os.posix_spawn(
            command[0],
            list(command),
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, file.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, file.fileno(), 2),
            ],
        )
        peak = 0
        while not (ended := os.waitpid(identity, os.WNOHANG))[0]:
            peak = max(peak, resident(identity))
            time.sleep(LOOK)
    seconds = time.perf_counter() - began
    if ended[1]:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return Run(log.read_text(), seconds, peak)


def resident(identity: int) -> int:
    """Bytes of a process's largest resident set so far, which the kernel keeps; 0 once it is over.

    What `wait4` says would not do: it counts the memory of the process that a new one is made from.
    """
    try:
        text = Path(f"/proc/{identity}/status").read_text()
    except ProcessLookupError:
        return 0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(line.split()[1]) * 1024


def copied(source: Path, target: Path) -> float:
    """Seconds that a plain copy of a folder takes, flushed."""
    target.mkdir()
    began = time.perf_counter()
    for path in source.iterdir():
        shutil.copyfile(path, target / path.name)
    flush(target)
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


class Disk:
    """Surgery, copies and mergekit in one folder."""

    def __init__(self, root: Path, turns: int) -> None:
        self.root, self.turns = root, turns
        self.result, self.log = root / "result", root / "log.txt"

    def all(self, methods: Sequence[str]) -> dict[str, dict[str, Figures] | str]:
        """Figures of every method."""
        found: dict[str, dict[str, Figures] | str] = {}
        tools = mergekit()
        for method in methods:
            figures = {"ours": self.ours(method)}
            print(f"{method}: {figures}", file=sys.stderr, flush=True)
            if tools:
                figures["mergekit"] = self.theirs(method, tools)
                theirs, ours = figures["mergekit"], figures["ours"]
                figures["ours"]["times_as_fast_as_mergekit"] = round(
                    float(theirs["process_seconds"]) / float(ours["process_seconds"]), 2
                )
                figures["ours"]["memory_of_mergekit"] = round(
                    float(ours["peak_megabytes"]) / float(theirs["peak_megabytes"]), 3
                )
            found[method] = figures
        if not tools:
            found["mergekit"] = ABSENT
        return found

    def ours(self, method: str) -> Figures:
        """Surgery and copy in turn."""
        script = str(Path(__file__).with_name("surgeon.py"))
        command = [sys.executable, "-W", "ignore", script, method]
        whole, alone, ratios, peaks, size = [], [], [], [], 0
        for _ in range(self.turns):
            self.result.mkdir()
            run = measured([*command, str(self.root / "small"), str(self.result)], self.log)
            told = json.loads(run.output.splitlines()[-1])
            copy = copied(self.result, self.root / "copy")
            shutil.rmtree(self.result)
            whole.append(run.seconds)
            alone.append(told["seconds"])
            ratios.append(told["seconds"] / copy)
            peaks.append(run.peak)
            size = told["bytes"]
        return {
            "gigabytes": round(size / 1e9, 3),
            "process_seconds": round(median(whole), 2),
            "seconds": round(median(alone), 2),
            "times_a_copy": round(median(ratios), 2),
            "peak_megabytes": round(max(peaks) / 1e6, 1),
        }

    def theirs(self, method: str, tools: Path) -> Figures:
        """mergekit, once."""
        source, config = self.root / "small", self.root / "mergekit.yaml"
        layers = State.open(source).config["num_hidden_layers"]
        part = {"sources": [{"model": str(source), "layer_range": [0, layers]}]}
        stack = {"merge_method": "passthrough", "dtype": "bfloat16", "slices": [part] * FACTOR}
        experts = {
            "base_model": str(source), "gate_mode": "random", "dtype": "bfloat16",
            "architecture": "mixtral", "experts_per_token": 1,
            "experts": [{"source_model": str(source)}] * EXPERTS,
        }  # fmt: skip
        stacked = method == "g_stack"
        config.write_text(json.dumps(stack if stacked else experts))
        command = [str(tools / ("mergekit-yaml" if stacked else "mergekit-moe"))]
        command += [str(config), str(self.result)]
        command += ["--no-copy-tokenizer"] if stacked else []
        began = time.perf_counter()
        run = measured(command, self.log)
        flush(self.result)
        seconds = time.perf_counter() - began
        shutil.rmtree(self.result)
        return {
            "process_seconds": round(seconds, 2),
            "peak_megabytes": round(run.peak / 1e6, 1),
        }


def mergekit() -> Path | None:
    """The folder of mergekit's commands, if it is named and they are there."""
    folder = Path(os.environ.get("MERGEKIT", "/nowhere"))
    return folder if (folder / "mergekit-yaml").is_file() else None


class Steps:
    """Whole steps of a workflow on one model, its storage in a folder or a bucket."""

    def __init__(self, root: Path, sizes: Sizes, storage: str) -> None:
        self.root = root
        self.spec = root / "spec.yaml"
        stages = "".join(f"  large{n}: {{{text}}}\n" for n, text in enumerate(METHODS.values()))
        self.spec.write_text(
            f"metadata: {{name: bench}}\nstorage: {storage}\nstages:\n"
            f"  small: {{pretrained: {{uri: {root / 'small'}, model: {sizes.words()}, "
            f"vocab: {sizes.vocab}, context: {sizes.context}}}}}\n{stages}"
        )
        self.plan = plan_files([self.spec])

    def run(self, name: str, program: Sequence[str] = CONTAINER) -> Run:
        """One step, as a container runs it, or by another program."""
        path = self.root / f"{name}.json"
        path.write_text(self.plan[name].step.dumps())
        command = [sys.executable, "-W", "ignore", *program, str(path)]
        return measured(command, self.root / "log.txt")

    def uri(self, name: str) -> str:
        """Where a step's artifact lies."""
        return self.plan[name].step.uri


def on_disk(root: Path, sizes: Sizes) -> dict[str, Figures]:
    """Whole steps with the storage in a folder, each once, against a copy of the result."""
    steps = Steps(root, sizes, f"{{root: {root / 'runs'}}}")
    steps.run("small")
    shutil.rmtree(root / "small")
    found: dict[str, Figures] = {}
    for number, method in enumerate(METHODS):
        run = steps.run(f"large{number}")
        result = Path(steps.uri(f"large{number}"))
        copy = copied(result, root / "copy")
        record = json.loads((result / "record.json").read_text())
        found[method] = {
            "process_seconds": round(run.seconds, 2),
            "copy_seconds": round(copy, 2),
            "stage_seconds": round(record["wall_seconds"], 2),
            "peak_megabytes": round(run.peak / 1e6, 1),
        }
        shutil.rmtree(result)
    return found


def in_a_bucket(root: Path, sizes: Sizes, turns: int) -> dict[str, Figures]:
    """Whole steps with the storage in a bucket, against boto3's transfers of the same bytes."""
    bucket = f"bench-{uuid.uuid4().hex[:8]}"
    with server(root) as (endpoint, kind):
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=bucket)
        storage = f"{{root: 's3://{bucket}/runs', endpoint: '{endpoint}', region: us-east-1}}"
        steps = Steps(root, sizes, storage)
        steps.run("small")
        found: dict[str, Figures] = {}
        for number, method in enumerate(METHODS):
            rows = [_turn(steps, f"large{number}", client, bucket, root) for _ in range(turns)]
            process, ours, whole, copy = (median(column) for column in zip(*rows, strict=True))
            found[method] = {
                "server": kind,
                "process_seconds": round(process, 2),
                "seconds": round(ours, 2),
                "whole_step_seconds": round(whole, 2),
                "plain_copy_seconds": round(copy, 2),
                "times_a_copy": round(median(t.ours / t.copy for t in rows), 2),
                "whole_step": round(median(t.whole / t.copy for t in rows), 2),
            }
        client.close()
    return found


class Turn(NamedTuple):
    """Seconds of a step's process, surgery alone, the step in it, and the plain transfers."""

    process: float
    ours: float
    whole: float
    copy: float


def _turn(steps: Steps, name: str, client: object, bucket: str, root: Path) -> Turn:
    """All ways, once; the step's artifact goes."""
    # What a turn before has fetched would not be fetched again.
    os.environ["GRAFTWORK_CACHE"] = str(root / "cache")
    told = []
    for way in ("alone", "step"):
        run = steps.run(name, (TIMED, way))
        told.append(json.loads(run.output.splitlines()[-1])["seconds"])
        shutil.rmtree(root / "cache")
        empty_bin(root)
    keys = {stage: steps.uri(stage).split(f"{bucket}/")[1] for stage in ("small", name)}
    weights = root / "plain.bin"
    began = time.perf_counter()
    client.download_file(bucket, f"{keys['small']}/model.safetensors", str(weights))
    plain = time.perf_counter() - began
    client.download_file(bucket, f"{keys[name]}/model.safetensors", str(weights))
    began = time.perf_counter()
    client.upload_file(str(weights), bucket, "plain.bin")
    plain += time.perf_counter() - began
    weights.unlink()
    for found in client.list_objects_v2(Bucket=bucket, Prefix=keys[name])["Contents"]:
        client.delete_object(Bucket=bucket, Key=found["Key"])
    empty_bin(root)
    return Turn(run.seconds, *told, plain)


def empty_bin(root: Path) -> None:
    """Delete what the server has deleted: it would keep it for minutes and fill the disk."""
    for path in (root / "minio" / ".minio.sys" / "tmp" / ".trash").glob("*"):
        shutil.rmtree(path, ignore_errors=True)


def minio() -> str | None:
    """The server's binary, where there is one."""
    return os.environ.get("MINIO") or shutil.which("minio")


@contextlib.contextmanager
def server(root: Path) -> Iterator[tuple[str, str]]:
    """An S3 server on loopback: minio's, or moto's where there is none."""
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": KEY}
    settings = {"MINIO_ROOT_USER": KEY, "MINIO_ROOT_PASSWORD": KEY, "MINIO_BROWSER": "off"}
    binary = minio()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server"]
    command += ["-H", "127.0.0.1", "-p", str(PORT)]
    if binary:
        address = f"127.0.0.1:{PORT}"
        command = [binary, "server", "--quiet", "--address", address, str(root / "minio")]
    process = subprocess.Popen(
        command,
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{PORT}")
        yield f"http://127.0.0.1:{PORT}", "minio" if binary else "moto"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(endpoint: str) -> None:
    for attempt in range(60):
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        try:
            client.list_buckets()
            return
        except (BotoCoreError, ClientError):  # it is not up yet
            if attempt == 59:
                raise
            time.sleep(0.5)
        finally:
            client.close()


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=22, help="blocks of the model on disk")
    parser.add_argument("--s3-layers", type=int, help="blocks of the one in a bucket; moto's: 1")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", help="for the files; default: the system's temporary one")
    parser.add_argument("--method", action="append", choices=tuple(METHODS), help="on disk; all")
    parser.add_argument("--only", choices=("disk", "step", "s3"))
    arguments = parser.parse_args()
    wanted = [arguments.only] if arguments.only else ["disk", "step", "s3"]
    results: dict[str, object] = {"turns": arguments.turns}
    with tempfile.TemporaryDirectory(prefix="graftwork-", dir=arguments.folder) as name:
        root, sizes = Path(name), Sizes(arguments.layers)
        if "disk" in wanted or "step" in wanted:
            state = generate(root / "small", sizes)
            results["parameters"], results["bytes"] = state.parameters, state.bytes
        if "disk" in wanted:
            results["disk"] = Disk(root, arguments.turns).all(arguments.method or tuple(METHODS))
        if "step" in wanted:
            results["step"] = on_disk(root, sizes)
            shutil.rmtree(root / "runs")
        shutil.rmtree(root / "small", ignore_errors=True)
        if "s3" in wanted:
            small = Sizes(arguments.s3_layers or (arguments.layers if minio() else 1))
            results["s3_bytes"] = generate(root / "small", small).bytes
            results["s3"] = in_a_bucket(root, small, arguments.turns)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
