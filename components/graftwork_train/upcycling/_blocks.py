"""Feed-forward blocks and experts of checkpoints, whatever their families call them.

Shapes: D width, F inner size, E experts. A matrix is `gate` or `up` (F, D), or `down` (D, F).
Families keep each expert's matrices apart; graftwork's own format stacks those of a layer.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork.spec.family import family
from graftwork.spec.model import Architecture
from graftwork_train.layout import shared_expert
from graftwork_train.layout_own import OWN, own_architecture, own_config
from graftwork_train.nn.hf import architecture_of, hf_config
from graftwork_train.nn.hf.mixtral import EXPERTS as MIXTRAL
from graftwork_train.nn.hf.olmoe import EXPERTS as OLMOE
from graftwork_train.nn.hf.qwen2_moe import EXPERTS as QWEN2_MOE
from graftwork_train.nn.hf.qwen3_moe import EXPERTS as QWEN3_MOE
from graftwork_train.state import State
from graftwork_train.tensorfile import FLOATS, SIZES, Made, Stored, Tensor

Matrix = Literal["gate", "up", "down"]
Values = NDArray[Any]
Draw = Callable[[int, int, Matrix], Tensor]
"""From a layer, an expert's number and a matrix, the tensor."""

_FAMILIES = {
    "mixtral": MIXTRAL, "olmoe": OLMOE, "qwen3_moe": QWEN3_MOE, "qwen2_moe": QWEN2_MOE,
}  # fmt: skip
_BLOCK = re.compile(r"model\.layers\.\d+\.(mlp|block_sparse_moe)\..+")
# What a config says besides the architecture.
_KEPT = ("bos_token_id", "eos_token_id", "pad_token_id", "initializer_range", "dtype")
_LIKENED, _PART = 8, 2**16


class Shapes(Protocol):
    """A word that says what it makes of an architecture."""

    def target(self, source: Architecture) -> Architecture:
        """The architecture afterwards, or a ValueError."""


class Routers(Protocol):
    """A word that says how routers are drawn."""

    @property
    def router(self) -> Literal["normal", "uniform"]:
        """Their distribution."""

    @property
    def router_std(self) -> float:
        """Its standard deviation."""


class Fraction(NamedTuple):
    """A part of a matrix along its inner size: from `begin`, `length` units."""

    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class Surgery:
    """A model and what is to become of it."""

    state: State
    before: Architecture
    after: Architecture

    @property
    def layers(self) -> list[int]:
        """Blocks that have experts before or after."""
        shape = self.after if self.after.experts else self.before
        return [layer for layer in range(shape.layers) if shape.has_experts(layer)]

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Those of a feed-forward block."""
        return ("gate", "up", "down") if self.before.gated else ("up", "down")

    def dense(self, layer: int, matrix: Matrix) -> Tensor:
        """A matrix of a dense block."""
        return self.state.tensors[f"model.layers.{layer}.mlp.{matrix}_proj.weight"]


def begin(method: Shapes, state: State) -> Surgery:
    """What the method makes of the model.

    Raises:
        RunError: it cannot take the model, or the model is of no known family.
    """
    own = state.config.get("model_type") == OWN
    before = own_architecture(state.config) if own else architecture_of(state.config)
    try:
        after = method.target(before)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise RunError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from None
    return Surgery(state, before, after)


def check_floats(surgery: Surgery) -> None:
    """Refuse weights that cannot be calculated with, before anything is written.

    Raises:
        RunError: naming the first of another type.
    """
    for name, tensor in surgery.state.tensors.items():
        if _BLOCK.fullmatch(name) and tensor.dtype not in FLOATS:
            raise RunError(
                f"{name} is stored as {tensor.dtype}, and the method calculates with it",
                "Save the model in fp32, bf16 or fp16 first.",
            )


def generator(seed: int, *where: object) -> np.random.Generator:
    """A source of random numbers for one place, whatever the order of writing."""
    digest = hashlib.sha256(":".join(map(str, (seed, *where))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def draw_router(word: Routers, seed: int, layer: int, shape: tuple[int, int]) -> Values:
    """A router's weights, fp32 (E, D).

    Uniform ones are those of the code of Drop-Upcycling: (U[0, 1) - 1/2)·std·sqrt(12).
    """
    rng = generator(seed, f"model.layers.{layer}.router")
    std = np.float32(word.router_std)
    if word.router == "normal":
        return rng.standard_normal(shape, dtype=np.float32) * std
    return (rng.random(shape, dtype=np.float32) - np.float32(0.5)) * std * np.float32(12**0.5)


def routers(word: Routers, surgery: Surgery, seed: int) -> Callable[[int], Tensor]:
    """Fresh routers by layer."""
    if surgery.after.experts is None:
        raise AssertionError("dense models have no routers")
    shape = (surgery.after.experts.count, surgery.after.width)

    def of(layer: int) -> Tensor:
        dtype = surgery.dense(layer, "up").dtype
        return Made(dtype, shape, partial(draw_router, word, seed, layer, shape))

    return of


def cut(tensor: Tensor, matrix: Matrix, part: Fraction) -> Tensor:
    """A part of a matrix along its inner size; of what lies in a file, rows are only pointed at."""
    begin, length = part
    rows = matrix != "down"
    if not rows:
        shape = (tensor.shape[0], length)
        return Made(tensor.dtype, shape, lambda: tensor.values()[:, begin : begin + length])
    shape = (length, tensor.shape[1])
    if isinstance(tensor, Stored):
        skipped = begin * tensor.shape[1] * SIZES[tensor.dtype]
        return Stored(tensor.dtype, shape, tensor.path, tensor.offset + skipped)
    return Made(tensor.dtype, shape, lambda: tensor.values()[begin : begin + length])


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """A tensor times a factor."""
    if factor == 1:
        return tensor
    return Made(tensor.dtype, tensor.shape, lambda: _times(tensor.values(), factor))


def _times(values: Values, factor: float) -> Values:
    product: Values = values * values.dtype.type(factor)
    return product


def joined(tensors: list[Tensor], axis: int) -> Tensor:
    """Tensors side by side."""
    shape = list(tensors[0].shape)
    shape[axis] = sum(tensor.shape[axis] for tensor in tensors)
    return Made(
        tensors[0].dtype,
        tuple(shape),
        lambda: np.concatenate([tensor.values() for tensor in tensors], axis=axis),
    )


def to_experts(
    surgery: Surgery, expert: Draw, router: Callable[[int], Tensor], shared: Draw | None = None
) -> State:
    """The mixture: what is no feed-forward block is taken as it is.

    Args:
        surgery: What is done.
        expert: The matrices of each expert.
        router: The router of each layer, (E, D).
        shared: The matrices of each shared expert.
    """
    mixed = {f"model.layers.{layer}.mlp." for layer in surgery.layers}
    old = surgery.state.tensors
    tensors = {n: t for n, t in old.items() if f"{n.split('.mlp.')[0]}.mlp." not in mixed}
    for layer in surgery.layers:
        for name, tensor in _mixture(surgery, layer, expert, shared):
            tensors[f"model.layers.{layer}.{name}"] = tensor
        kind = family(surgery.after)
        module = _FAMILIES[kind].module if kind in _FAMILIES else "mlp"
        tensors[f"model.layers.{layer}.{module}.gate.weight"] = gate = router(layer)
        if kind == "qwen2_moe":
            for name, shape in shared_expert(surgery.after.width).items():
                zeros = Made(gate.dtype, shape, partial(np.zeros, shape, np.float32))
                tensors.setdefault(f"model.layers.{layer}.{module}.{name}", zeros)
    return State(_config(surgery), tensors)


def _mixture(
    surgery: Surgery, layer: int, expert: Draw, shared: Draw | None
) -> Iterator[tuple[str, Tensor]]:
    experts = surgery.after.experts
    if experts is None:
        raise AssertionError("a mixture has experts")
    kind = family(surgery.after)
    numbers = range(experts.count)
    if shared is not None and experts.shared:
        for matrix in surgery.matrices:
            several = [shared(layer, number, matrix) for number in range(experts.shared)]
            block = joined(several, axis=1 if matrix == "down" else 0)
            name, factor = _shared_name(kind, matrix)
            yield name, scaled(block, factor)
    if kind in _FAMILIES:
        for matrix in surgery.matrices:
            for number in numbers:
                yield _split_name(kind, number, matrix), expert(layer, number, matrix)
        return
    first = tuple(matrix for matrix in surgery.matrices if matrix != "down")
    parts = [[expert(layer, number, matrix) for matrix in first] for number in numbers]
    yield "mlp.gate_up" if surgery.after.gated else "mlp.up", _stacked(parts)
    yield "mlp.down", _stacked([[expert(layer, number, "down")] for number in numbers])
    if experts.bias_rate:
        yield "mlp.bias", Made("F32", (experts.count,), partial(np.zeros, experts.count, "f4"))
    if experts.adaptive:
        yield "mlp.balance", Made("F32", (1,), partial(np.full, 1, experts.balance, "f4"))


def _shared_name(kind: str | None, matrix: Matrix) -> tuple[str, float]:
    """Name of a shared expert's matrix, and by what it is multiplied there (`nn/hf/qwen2_moe`)."""
    if kind is None:
        return f"mlp.shared.{matrix}_proj.weight", 1.0
    return f"mlp.shared_expert.{matrix}_proj.weight", 2.0 if matrix == "down" else 1.0


def _split_name(kind: str, number: int, matrix: Matrix) -> str:
    names = _FAMILIES[kind]
    called = dict(zip(("gate", "up"), names.parts["gate_up"], strict=True))
    called["down"] = names.parts["down"][0]
    return f"{names.module}.experts.{number}.{called[matrix]}.weight"


def _stacked(parts: list[list[Tensor]]) -> Tensor:
    """(E, rows, columns): of each expert, its matrices one below the other."""
    rows, columns = sum(tensor.shape[0] for tensor in parts[0]), parts[0][0].shape[1]

    def make() -> Values:
        return np.stack([np.concatenate([t.values() for t in several]) for several in parts])

    return Made(parts[0][0].dtype, (len(parts), rows, columns), make)


def to_dense(surgery: Surgery, block: Callable[[int, Matrix], Tensor]) -> State:
    """The dense model: what is no block of experts is taken as it is."""
    old = surgery.state.tensors
    tensors = {name: tensor for name, tensor in old.items() if not _BLOCK.fullmatch(name)}
    for layer in surgery.layers:
        for matrix in surgery.matrices:
            tensors[f"model.layers.{layer}.mlp.{matrix}_proj.weight"] = block(layer, matrix)
    return State(_config(surgery), tensors)


def expert_of(
    state: State, architecture: Architecture, layer: int, number: int, matrix: Matrix
) -> Tensor:
    """A matrix of an expert of a mixture."""
    kind = _kind(state, architecture)
    prefix = f"model.layers.{layer}."
    if kind in _FAMILIES:
        return state.tensors[prefix + _split_name(kind, number, matrix)]
    down, gated = matrix == "down", architecture.gated
    stack = state.tensors[prefix + f"mlp.{'down' if down else 'gate_up' if gated else 'up'}"]
    rows = architecture.width if down else architecture.expert_hidden
    offset = rows if matrix == "up" and gated else 0
    shape = (rows, stack.shape[2])
    if isinstance(stack, Stored):
        skipped = (number * stack.shape[1] + offset) * stack.shape[2] * SIZES[stack.dtype]
        return Stored(stack.dtype, shape, stack.path, stack.offset + skipped)
    return Made(stack.dtype, shape, lambda: stack.values()[number, offset : offset + rows])


def shared_of(state: State, architecture: Architecture, layer: int, matrix: Matrix) -> Tensor:
    """A matrix of a mixture's shared experts."""
    name, factor = _shared_name(_kind(state, architecture), matrix)
    return scaled(state.tensors[f"model.layers.{layer}.{name}"], 1 / factor)


def _kind(state: State, architecture: Architecture) -> str | None:
    """The family that a checkpoint is of; None for our own format, whatever could hold it today."""
    return None if state.config.get("model_type") == OWN else family(architecture)


def router_of(state: State, architecture: Architecture, layer: int) -> Values:
    """A layer's router, (E, D)."""
    kind = _kind(state, architecture)
    module = _FAMILIES[kind].module if kind in _FAMILIES else "mlp"
    return state.tensors[f"model.layers.{layer}.{module}.gate.weight"].values()


def similarity(state: State, architecture: Architecture) -> float:
    """Mean cosine of the experts of the first layer that has some, pair by pair; 1 for copies.

    At most 8 experts are looked at. Skywork-MoE (arXiv:2406.06563) watches it fall in training.
    """
    experts = architecture.experts
    if experts is None:
        raise AssertionError("dense models have no experts")
    number = min(experts.count, _LIKENED)
    products = np.zeros((number, number))
    for matrix in ("gate", "up", "down") if architecture.gated else ("up", "down"):
        rows = [
            expert_of(state, architecture, experts.every - 1, index, matrix).values().ravel()
            for index in range(number)
        ]
        # In parts, which stay in a processor's cache.
        for at in range(0, rows[0].size, _PART):
            some = np.stack([row[at : at + _PART] for row in rows]).astype("f8")
            products += some @ some.T
    norms = np.sqrt(np.diag(products))
    cosines = products / np.outer(norms, norms)
    return float((cosines.sum() - number) / (number * (number - 1)))


def _config(surgery: Surgery) -> dict[str, Any]:
    """`config.json` of the result, or what stands for it in our own format."""
    old, after = surgery.state.config, surgery.after
    vocab, context = int(old["vocab_size"]), int(old.get("max_position_embeddings", 2048))
    if family(after) is None:
        return own_config(after, vocab, context)
    kept = {key: old[key] for key in _KEPT if key in old}
    if "torch_dtype" in old:
        kept.setdefault("dtype", old["torch_dtype"])
    return hf_config(after, vocab, context) | kept


def root(scale: float, matrices: int) -> float:
    """The factor that, on so many matrices, makes up `scale`."""
    return math.pow(scale, 1 / matrices)
