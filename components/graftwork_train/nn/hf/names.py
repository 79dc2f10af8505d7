"""Names of tensors: the model's own, and those of each family's files.

Files hold each expert's matrices apart; here the two that experts begin with are stacked in
`gate_up`, and all experts in one tensor. Weights, moments and masks are translated alike; what a
Qwen2-MoE's constant gate halves is doubled in the files, moments like weights, and masks are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.family import family
from graftwork.spec.model import Architecture
from graftwork_train.layout import shared_expert
from graftwork_train.nn.hf import bert, mixtral, olmoe, qwen2_moe, qwen3_moe
from graftwork_train.nn.hf.files import Tensors

# A shared expert, in our names and in Qwen2-MoE's.
_OURS, _THEIRS = ".mlp.shared.", ".mlp.shared_expert."
_EXPERTS = {
    "mixtral": mixtral.EXPERTS,
    "olmoe": olmoe.EXPERTS,
    "qwen3_moe": qwen3_moe.EXPERTS,
    "qwen2_moe": qwen2_moe.EXPERTS,
}


def to_disk(tensors: Mapping[str, Tensor], architecture: Architecture) -> Tensors:
    """Rename and split tensors that are shaped as the model's parameters, to the files' names.

    A tied head is left out. The results are views where that is possible.
    """
    kind = family(architecture)
    found: Tensors = {}
    for name, tensor in tensors.items():
        if name == "lm_head.weight" and architecture.tie_embeddings:
            continue
        if kind == "bert":
            found[bert.to_theirs(name)] = tensor
        elif kind == "qwen2_moe" and _OURS in name:
            found[name.replace(_OURS, _THEIRS)] = _times(name, tensor, 2.0)
        elif kind in _EXPERTS:
            found |= _split(name, tensor, _EXPERTS[kind])
        else:
            found[name] = tensor
    return found


def idle_on_disk(architecture: Architecture) -> Tensors:
    """What the family's files must hold and the model does not have: zeros."""
    if family(architecture) != "qwen2_moe" or architecture.experts is None:
        return {}
    names = {
        f"model.layers.{layer}.mlp.{name}": shape
        for layer in range(architecture.layers)
        if architecture.has_experts(layer)
        for name, shape in shared_expert(architecture.width).items()
    }
    has = architecture.experts.shared > 0
    return {n: torch.zeros(shape) for n, shape in names.items() if not (has and _THEIRS in n)}


def from_disk(tensors: Mapping[str, Tensor], architecture: Architecture) -> Tensors:
    """The reverse of `to_disk`; tensors that are not there are not missed, and idle ones left out.

    Raises:
        KeyError: of a layer's experts some matrices are there and some are missing.
        RuntimeError: they are of different shapes.
        RunError: a shared expert's gate is not constant.
    """
    kind = family(architecture)
    if kind == "bert":
        return {bert.to_ours(name): tensor for name, tensor in tensors.items()}
    if kind in _EXPERTS:
        return _stack(tensors, architecture, _EXPERTS[kind])
    return dict(tensors)


def _times(name: str, tensor: Tensor, factor: float) -> Tensor:
    """The tensor, times the factor where the gate halves it."""
    halved = name.endswith("down_proj.weight") and tensor.is_floating_point()
    return tensor * factor if halved else tensor


def _check_constant(name: str, tensor: Tensor) -> None:
    if tensor.count_nonzero():
        raise RunError(
            f"{name} is not zero, so that the shared expert has a gate, which graftwork's models "
            f"lack",
            "Give a checkpoint whose shared experts have none, or were not trained elsewhere.",
        )


def _split(name: str, tensor: Tensor, names: mixtral.ExpertNames) -> Tensors:
    layer, inside, last = name.rpartition(".mlp.")
    module = f"{layer}.{names.module}"
    if not inside:
        return {name: tensor}
    if last not in names.parts:
        return {f"{module}.{last}": tensor}
    parts = names.parts[last]
    pieces = tensor.chunk(len(parts), dim=1)
    return {
        f"{module}.experts.{expert}.{part}.weight": weight
        for part, piece in zip(parts, pieces, strict=True)
        for expert, weight in enumerate(piece.unbind(0))
    }


def _stack(
    tensors: Mapping[str, Tensor], architecture: Architecture, names: mixtral.ExpertNames
) -> Tensors:
    if architecture.experts is None:
        raise AssertionError("a family with experts has them")
    inside = re.compile(rf"(.+)\.{names.module}\.(experts\.\d+\.)?(.+)")
    found: Tensors = {}
    layers: dict[str, None] = {}
    for name, tensor in tensors.items():
        match = inside.fullmatch(name)
        if match is None:
            found[name] = tensor
        elif match[2]:
            layers[match[1]] = None
        elif not match[3].startswith("shared_expert"):
            found[f"{match[1]}.mlp.{match[3]}"] = tensor
        elif architecture.experts.shared and match[3].startswith("shared_expert."):
            found[name.replace(_THEIRS, _OURS)] = _times(name, tensor, 0.5)
        elif architecture.experts.shared:
            _check_constant(name, tensor)
    for layer in layers:
        for stack, parts in names.parts.items():
            pieces = [
                torch.stack(
                    [
                        tensors[f"{layer}.{names.module}.experts.{expert}.{part}.weight"]
                        for expert in range(architecture.experts.count)
                    ]
                )
                for part in parts
            ]
            found[f"{layer}.mlp.{stack}"] = torch.cat(pieces, dim=1)
    return found
