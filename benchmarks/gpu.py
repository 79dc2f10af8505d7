"""Speed and memory of training on one GPU; prints JSON, and takes less than nine minutes.

- Model FLOPs utilization in bf16 at 125M and 1B parameters, and at a few layers of an 8B model,
  with compiled blocks. FLOPs are those that the model needs (`Architecture.flops_per_token`: six a
  weight and token, and causal attention), the peak is the maker's for dense bf16.
- fp8 against bf16 at the 8B model's layers.
- A mixture of 8 experts, 2 a token, against a dense model of the same active parameters.
- Memory at its highest beside transformers' Llama of the same shape, both eager, in bf16 with
  fp32 weights and fused AdamW.

A step is the engine's: forward, backward, clipping, update. What is compared takes turns in one
process; figures are medians of the turns, each of a few steps that are waited for once.

    python benchmarks/gpu.py [--tiny]

`--tiny` runs all of it on a CPU at toy sizes, fp8 emulated: it shows that the code runs, no more.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from graftwork.spec.model import Architecture
from graftwork.spec.stages import Train
from graftwork_train.loop.constraint import Constraint
from graftwork_train.loop.loader import Batch
from graftwork_train.loop.parallel.network import Network
from graftwork_train.loop.peak import device_peak
from graftwork_train.loop.place import Place
from graftwork_train.loop.step import Engine
from graftwork_train.nn import Decoder
from graftwork_train.optimizers import build

RATE = 1e-4
Step = Callable[[], None]


@dataclass(frozen=True)
class Sizes:
    """What is measured, and how long; seconds are for everything."""

    vocab: int
    context: int
    turns: int
    steps: int
    seconds: float
    batches: dict[str, int]
    shapes: dict[str, dict[str, Any]]


_8B = {"width": 4096, "heads": 32, "kv_heads": 8, "ffn": 14336}
_SMALL = {"layers": 16, "width": 1024, "heads": 16, "kv_heads": 4}
LARGE = Sizes(
    vocab=32768, context=2048, turns=5, steps=4, seconds=520.0,
    batches={"125M": 32, "1B": 8, "8B layers": 8, "dense": 16, "experts": 16},
    shapes={
        "125M": {"layers": 12, "width": 768, "heads": 12, "ffn": 3072},
        "1B": {"layers": 16, "width": 2048, "heads": 32, "kv_heads": 8, "ffn": 8192},
        "8B layers": _8B | {"layers": 4},
        "dense": _SMALL | {"ffn": 4096},
        "experts": _SMALL | {"ffn": 4096, "experts": {"count": 8, "top_k": 2, "width": 2048}},
    },
)  # fmt: skip
_TOY = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2}
TINY = Sizes(
    vocab=96, context=32, turns=2, steps=1, seconds=520.0,
    batches=dict.fromkeys(LARGE.shapes, 2),
    shapes={
        name: _TOY | {"ffn": 96} for name in ("125M", "1B", "8B layers", "dense")
    } | {"experts": _TOY | {"experts": {"count": 8, "top_k": 2, "width": 48}}},
)  # fmt: skip


@dataclass
class Bench:
    """One run: what it measures on which device, and until when."""

    sizes: Sizes
    device: torch.device
    began: float = field(default_factory=time.perf_counter)

    @property
    def tiny(self) -> bool:
        """Whether this is a CPU's run."""
        return self.device.type == "cpu"

    @property
    def late(self) -> bool:
        """Whether what is left would take too long."""
        return time.perf_counter() - self.began > self.sizes.seconds

    def wait(self) -> None:
        """Until the device has done what it was asked to."""
        if not self.tiny:
            torch.cuda.synchronize()

    def batch(self, shape: str) -> Batch:
        """Random tokens."""
        size = self.sizes.batches[shape], self.sizes.context
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, self.sizes.vocab, size, generator=generator)
        return Batch(tokens, tokens.roll(-1, 1), None, tokens.numel())

    def ours(self, shape: str, precision: str = "bf16", *, compiled: bool = True) -> Step:
        """A step of the engine's, on a model with fresh weights."""
        fields = {
            "data": "t", "model": self.sizes.shapes[shape], "budget": "1 steps",
            "precision": "bf16" if self.tiny else precision,
            "compile": compiled and not self.tiny,
        }  # fmt: skip
        word = Train.model_validate(fields)
        place = Place(device=self.device)
        model = Decoder(word.model, self.sizes.vocab, self.sizes.context)
        if precision == "fp8" and self.tiny:
            _emulate(model)
        network = Network(model, word, place)
        optimizer = build(word.optimizer, network.parameters)
        batch = self.batch(shape)
        engine = Engine(network, optimizer, Constraint(), word, len(batch.tokens_BT), place)

        def step() -> None:
            engine.step(batch, batch.predicted, RATE)

        return step

    def theirs(self, shape: str) -> Step:
        """A step of transformers' Llama."""
        from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - needed here only

        ours = Architecture.model_validate(self.sizes.shapes[shape])
        config = LlamaConfig(
            vocab_size=self.sizes.vocab, hidden_size=ours.width, intermediate_size=ours.hidden,
            num_hidden_layers=ours.layers, num_attention_heads=ours.heads,
            num_key_value_heads=ours.key_value_heads, use_cache=False,
        )  # fmt: skip
        model = LlamaForCausalLM(config).to(self.device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
        tokens = self.batch(shape).tokens_BT.to(self.device)

        def step() -> None:
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        return step

    def speeds(self, steps: dict[str, Step], shape: str) -> dict[str, list[float]]:
        """Tokens per second of each, turn by turn; the order alternates."""
        tokens = self.sizes.batches[shape] * self.sizes.context * self.sizes.steps
        found: dict[str, list[float]] = {name: [] for name in steps}
        for step in steps.values():
            for _ in range(3):
                step()
        for turn in range(self.sizes.turns):
            for name in list(steps) if turn % 2 else list(steps)[::-1]:
                self.wait()
                began = time.perf_counter()
                for _ in range(self.sizes.steps):
                    steps[name]()
                self.wait()
                found[name].append(tokens / (time.perf_counter() - began))
        return found

    def told(self, speeds: list[float], shape: str) -> dict[str, float]:
        """Medians, and what they are of the device's peak."""
        model = Architecture.model_validate(self.sizes.shapes[shape])
        rate = statistics.median(speeds)
        found: dict[str, float] = {
            "parameters": model.parameters(self.sizes.vocab),
            "active_parameters": model.active_parameters(self.sizes.vocab),
            "tokens_per_second": round(rate),
            "slowest_turn": round(min(speeds)),
            "fastest_turn": round(max(speeds)),
        }
        peak = device_peak(Place(device=self.device))
        if peak is not None:
            flops = model.flops_per_token(self.sizes.vocab, self.sizes.context)
            found["mfu"] = round(rate * flops / peak, 4)
        return found

    def highest(self, make: Callable[[], Step]) -> int:
        """Bytes of the device's memory that three steps take at most; 0 on a CPU."""
        with _alone():
            if not self.tiny:
                torch.cuda.reset_peak_memory_stats()
            step = make()
            for _ in range(3):
                step()
            self.wait()
            return 0 if self.tiny else torch.cuda.max_memory_allocated()


def _emulate(model: Decoder) -> None:
    from graftwork_train.loop.parallel import fp8  # noqa: PLC0415 - torchao is needed here only

    fp8.convert(model, emulate=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Let go of what was there before, and of what is made here."""
    _clear()
    yield
    _clear()


def _clear() -> None:
    gc.collect()
    torch._dynamo.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def utilization(bench: Bench) -> dict[str, Any]:
    """MFU in bf16, by shape."""
    found = {}
    for shape in ("125M", "1B", "8B layers"):
        with _alone():
            speeds = bench.speeds({"bf16": bench.ours(shape)}, shape)
            found[shape] = bench.told(speeds["bf16"], shape)
    return found


def low_precision(bench: Bench) -> dict[str, Any]:
    """fp8 against bf16."""
    shape = "8B layers"
    with _alone():
        steps = {kind: bench.ours(shape, kind) for kind in ("bf16", "fp8")}
        speeds = bench.speeds(steps, shape)
    return {
        **{kind: bench.told(values, shape) for kind, values in speeds.items()},
        "ratio": _ratio(speeds["fp8"], speeds["bf16"]),
    }


def experts(bench: Bench) -> dict[str, Any]:
    """A mixture of experts against a dense model."""
    with _alone():
        steps = {shape: bench.ours(shape) for shape in ("dense", "experts")}
        speeds = bench.speeds(steps, "dense")
    return {
        **{shape: bench.told(values, shape) for shape, values in speeds.items()},
        "ratio": _ratio(speeds["experts"], speeds["dense"]),
    }


def memory(bench: Bench) -> dict[str, Any]:
    """Bytes beside transformers."""
    found = {}
    for shape in ("1B", "8B layers"):
        ours = bench.highest(partial(bench.ours, shape, compiled=False))
        theirs = bench.highest(partial(bench.theirs, shape))
        ratio = round(ours / theirs, 3) if theirs else None
        found[shape] = {"ours": ours, "transformers": theirs, "ratio": ratio}
    return found


def _ratio(one: list[float], other: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(one, other, strict=True)), 3)


PARTS = {
    "utilization": utilization,
    "fp8": low_precision,
    "experts": experts,
    "memory": memory,
}


def main() -> None:
    """Measure, part by part, until the time is up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="toy sizes on a CPU")
    tiny = parser.parse_args().tiny
    if not tiny and not torch.cuda.is_available():
        sys.exit(
            "This benchmark needs a GPU, and PyTorch finds none. Run it on a machine that has one, "
            "or with --tiny to try its code on a CPU."
        )
    bench = Bench(TINY if tiny else LARGE, torch.device("cpu" if tiny else "cuda"))
    results: dict[str, Any] = {}
    for name, part in PARTS.items():
        try:
            results[name] = "not measured: the time was up" if bench.late else part(bench)
        except (RuntimeError, ImportError) as error:
            # One part that fails, for want of memory or a package, must not cost the others.
            results[name] = f"not measured: it failed: {str(error).splitlines()[0]}"
        seconds = time.perf_counter() - bench.began
        print(f"{name}: done after {seconds:.0f} s", file=sys.stderr)
    device = "CPU, toy sizes" if tiny else torch.cuda.get_device_name()
    told = {"device": device, "torch": torch.__version__, "seconds": round(seconds), **results}
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
