"""A model's scores on a fixed short text, one block in memory at a time.

Surgery uses it to see what it did to the function: the same tokens through the model before and
after. Calculated in fp64, so that a difference is the surgery's and not the rounding's; weights
stay as they are stored, and are widened a few rows at a time, which a processor's cache holds.

Shapes: B sequences, T tokens of each, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork_train.nn.attention import look
from graftwork_train.nn.hf import from_disk
from graftwork_train.nn.layers import Linear, activate, make_norm
from graftwork_train.nn.moe import MixtureOfExperts
from graftwork_train.nn.positions import rotary_tables
from graftwork_train.nn.transformer import Block, Transform
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Stored, size

# Ordinary prose and code, as the models of this project are trained on.
TEXT = """The first thing to do with a new tool is to try it on something small. Take a list of
numbers, add them up, and see whether the sum is what you expect. If it is not, look at each step
in turn: what went in, what came out, and which of the two surprised you.

def average(values):
    \"\"\"Return the mean of a list of numbers.\"\"\"
    if not values:
        raise ValueError("the list is empty")
    return sum(values) / len(values)
"""
LENGTH = 64
# What keeps a function within rounding: the contract of methods that promise `exact`.
EXACT = 1e-5
# Rows of a matrix that are widened to fp64 at once.
_ROWS = 256
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
}  # fmt: skip
EMBEDDING, HEAD, BIAS = "model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"


def probe_tokens(folder: Path, vocab: int, context: int) -> Tensor:
    """Ids of the fixed text by the tokenizer in `folder`, (1, T); without one, random but fixed."""
    length = min(LENGTH, context)
    if (folder / "tokenizer.json").is_file():
        ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT).ids[:length]
        # A tokenizer that knows none of this text says nothing about the model.
        if len(ids) > 1:
            return torch.tensor([ids])
    return torch.randint(vocab, (1, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(state: State, architecture: Architecture, tokens_BT: Tensor) -> Tensor:
    """The model's scores, fp64 (B, T, V)."""
    outside = _Outside(state, architecture)
    x_BTD = outside.embed(tokens_BT)
    rope = architecture.positions == "rope"
    tables = rotary_tables(architecture, tokens_BT.shape[1]) if rope else None
    doubled = (tables[0].double(), tables[1].double()) if tables else None
    sight = look(architecture, doubled, None, x_BTD)
    for block in _blocks(state, architecture):
        x_BTD = block(x_BTD, sight)[0]
    return outside.head(x_BTD)


def mean_loss(logits_BTV: Tensor, tokens_BT: Tensor, kind: str = "decoder") -> float:
    """Mean loss in nats of the next token; with an encoder, which sees it, of the token itself."""
    ahead = 1 if kind == "decoder" else 0
    predicted = logits_BTV[:, : logits_BTV.shape[1] - ahead].flatten(0, 1)
    return float(F.cross_entropy(predicted, tokens_BT[:, ahead:].flatten()))


class _Outside:
    """What stands before and after the blocks, read where it is needed."""

    def __init__(self, state: State, architecture: Architecture) -> None:
        self._state, self._architecture = state, architecture
        names = [name for name in state.tensors if ".layers." not in name and ".layer." not in name]
        self._names: dict[str, str] = {}
        for name in names:
            (ours,) = from_disk({name: torch.empty(0)}, architecture)
            self._names[ours] = name

    def embed(self, tokens_BT: Tensor) -> Tensor:
        """(B, T) to (B, T, D)."""
        x_BTD = self._rows(EMBEDDING, tokens_BT)
        if self._architecture.token_types:
            x_BTD = x_BTD + self._rows("model.embed_types.weight", torch.zeros_like(tokens_BT))
        if self._architecture.positions == "learned":
            places_T = torch.arange(tokens_BT.shape[1])
            x_BTD = x_BTD + self._rows("model.embed_positions.weight", places_T)
        if self._architecture.norm_order == "post":
            x_BTD = self._norm()(x_BTD)
        return x_BTD

    def head(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) to (B, T, V)."""
        if self._architecture.norm_order == "pre":
            x_BTD = self._norm()(x_BTD)
        if self._architecture.kind == "encoder":
            x_BTD = self._load(Transform(self._architecture), "transform.")(x_BTD)
        scores_BTV = _product(x_BTD, self._values(HEAD if HEAD in self._names else EMBEDDING))
        return scores_BTV + self._values(BIAS).double() if BIAS in self._names else scores_BTV

    def _norm(self) -> nn.Module:
        return self._load(make_norm(self._architecture, self._architecture.width), "model.norm.")

    def _load(self, module: nn.Module, prefix: str) -> nn.Module:
        module = module.double()
        weights = {
            name: self._values(prefix + name).double() for name, _ in module.named_parameters()
        }
        module.load_state_dict(weights)
        return module

    def _rows(self, name: str, index: Tensor) -> Tensor:
        return self._values(name)[index].double()

    def _values(self, name: str) -> Tensor:
        return _raw(self._state.tensors[self._names[name]])


def _blocks(state: State, architecture: Architecture) -> Iterator[Block]:
    kinds = {
        mixed: _alone(architecture, mixed=mixed)
        for mixed in {architecture.has_experts(layer) for layer in range(architecture.layers)}
    }
    for layer in range(architecture.layers):
        block = kinds[architecture.has_experts(layer)]
        marks = (f".layers.{layer}.", f".layer.{layer}.")
        weights = {
            name.replace(mark, mark.replace(f".{layer}.", ".0.")): _raw(state.tensors[name])
            for name in state.tensors
            for mark in marks
            if mark in name
        }
        # One block alone might be of another family.
        ours = from_disk(weights, architecture)
        # Vectors are widened here, matrices where they are used.
        wide = {n: t.double() if t.ndim == 1 else t for n, t in ours.items()}
        block.load_state_dict(
            {n.removeprefix("model.layers.0."): wide[n] for n in wide}, assign=True
        )
        yield block


def _alone(architecture: Architecture, *, mixed: bool) -> Block:
    """A block with or without experts, whose matrices may be of any type."""
    experts = architecture.experts.model_copy(update={"every": 1}) if architecture.experts else None
    one = architecture.model_copy(update={"layers": 1, "experts": experts if mixed else None})
    block = Block(one)
    for module in [*block.modules()]:
        for name, child in module.named_children():
            if isinstance(child, Linear):
                setattr(module, name, _Widening(child))
    if isinstance(block.mlp, MixtureOfExperts):
        block.mlp.multiply = partial(_experts, block.mlp)
    return block


class _Widening(nn.Module):
    """A linear layer in the type of its input."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        y = _product(x, self.weight)
        return y if self.bias is None else y + self.bias


def _product(x: Tensor, weight_FD: Tensor) -> Tensor:
    """(..., D) to (..., F)."""
    parts = [x @ rows_FD.to(x.dtype).T for rows_FD in weight_FD.split(_ROWS)]
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def _experts(mixture: MixtureOfExperts, x: Tensor, tokens_E: Tensor | None) -> Tensor:
    """What experts make of their rows, as `MixtureOfExperts.multiply` has them."""
    first_EFD, down_EDF = mixture.first(), mixture.down
    groups = x.unbind(0) if tokens_E is None else x.split(tokens_E.tolist())
    made = [
        _product(activate(mixture.kind, _product(rows, first_FD)), down_DF)
        for rows, first_FD, down_DF in zip(groups, first_EFD, down_EDF, strict=True)
        if len(rows)
    ]
    return torch.stack(made) if tokens_E is None else torch.cat(made)


def _raw(tensor: Stored | Made) -> Tensor:
    """A tensor as it is stored, without a copy in a wider type."""
    if not isinstance(tensor, Stored) or not size(tensor):
        values = tensor.values()
        return torch.from_numpy(values if values.flags.writeable else values.copy())
    data = np.empty(size(tensor), np.uint8)
    with tensor.path.open("rb", buffering=0) as file:
        file.seek(tensor.offset)
        left = data.data
        while count := file.readinto(left):
            left = left[count:]
    if left:
        raise RunError(f"{tensor.path} ended inside a tensor", "Build the artifact again.")
    return torch.from_numpy(data).view(_TYPES[tensor.dtype]).reshape(tensor.shape)
