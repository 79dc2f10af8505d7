"""A model's scores on a fixed short text, one block in memory at a time.

Surgery uses it to see what it did to the function: the same tokens through the model before and
after. Calculated in fp64, so that a difference is the surgery's and not the rounding's.

Shapes: B sequences, T tokens of each, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from graftwork.spec.model import Architecture
from graftwork_train.nn.attention import look
from graftwork_train.nn.hf import from_disk
from graftwork_train.nn.layers import make_norm
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
LENGTH = 128
# What keeps a function within rounding: the contract of methods that promise `exact`.
EXACT = 1e-5
# Rows of the head that are widened to fp64 at once; few of them stay in a processor's cache.
_ROWS = 512
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
        weight_VD = self._values(HEAD if HEAD in self._names else EMBEDDING)
        parts = [x_BTD @ rows.double().T for rows in weight_VD.split(_ROWS)]
        scores_BTV = torch.cat(parts, dim=-1)
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
        # Widened on the way into the block, whose memory serves all layers.
        block.load_state_dict({n.removeprefix("model.layers.0."): ours[n] for n in ours})
        yield block


def _alone(architecture: Architecture, *, mixed: bool) -> Block:
    """A block with or without experts, fp64."""
    experts = architecture.experts.model_copy(update={"every": 1}) if architecture.experts else None
    one = architecture.model_copy(update={"layers": 1, "experts": experts if mixed else None})
    return Block(one).double()


def _raw(tensor: Stored | Made) -> Tensor:
    """A tensor as it is stored, without a copy in a wider type."""
    if not isinstance(tensor, Stored) or not size(tensor):
        values = tensor.values()
        return torch.from_numpy(values if values.flags.writeable else values.copy())
    data = bytearray(size(tensor))
    with tensor.path.open("rb") as file:
        file.seek(tensor.offset)
        file.readinto(data)
    return torch.frombuffer(data, dtype=_TYPES[tensor.dtype]).reshape(tensor.shape)
