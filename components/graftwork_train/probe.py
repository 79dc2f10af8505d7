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
from torch import Tensor

from graftwork.spec.model import Architecture
from graftwork_train.nn.attention import Sight
from graftwork_train.nn.hf import from_disk
from graftwork_train.nn.positions import rotary_tables
from graftwork_train.nn.transformer import Block
from graftwork_train.state import State

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
    embedding_VD = _read(state, "model.embed_tokens.weight")
    x_BTD = F.embedding(tokens_BT, embedding_VD)
    cos_TC, sin_TC = rotary_tables(architecture, tokens_BT.shape[1])
    sight = Sight(cos_TC.double(), sin_TC.double())
    for block in _blocks(state, architecture):
        x_BTD = block(x_BTD, sight)[0]
    norm_D = _read(state, "model.norm.weight")
    x_BTD = F.rms_norm(x_BTD, norm_D.shape, norm_D, architecture.norm_eps)
    tied = architecture.tie_embeddings
    head_VD = embedding_VD if tied else _read(state, "lm_head.weight")
    return x_BTD @ head_VD.T


def mean_loss(logits_BTV: Tensor, tokens_BT: Tensor) -> float:
    """Mean loss of the next token, in nats."""
    predicted = logits_BTV[:, :-1].flatten(0, 1)
    return float(F.cross_entropy(predicted, tokens_BT[:, 1:].flatten()))


def _read(state: State, name: str) -> Tensor:
    return torch.from_numpy(state.tensors[name].values().astype("f8"))


def _blocks(state: State, architecture: Architecture) -> Iterator[Block]:
    one = architecture.model_copy(update={"layers": 1})
    block = Block(one).double()
    for layer in range(architecture.layers):
        prefix = f"model.layers.{layer}."
        weights = {
            "model.layers.0." + name.removeprefix(prefix): _read(state, name)
            for name in state.tensors
            if name.startswith(prefix)
        }
        ours = from_disk(weights, one)
        block.load_state_dict({n.removeprefix("model.layers.0."): ours[n] for n in ours})
        yield block
