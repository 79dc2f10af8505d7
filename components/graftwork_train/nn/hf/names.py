"""Names of tensors: the model's own, and those of each family's files.

Files hold each expert's matrices apart; here the two that experts begin with are stacked in
`gate_up`, and all experts in one tensor. Weights, moments and masks are translated alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from graftwork.spec.family import family
from graftwork.spec.model import Architecture
from graftwork_train.layout import shared_expert
from graftwork_train.nn.hf import bert, mixtral, olmoe, qwen2_moe, qwen3_moe
from graftwork_train.nn.hf.files import Tensors

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
        elif kind in _EXPERTS:
            found |= _split(name, tensor, _EXPERTS[kind])
        else:
            found[name] = tensor
    return found


def idle_on_disk(architecture: Architecture) -> Tensors:
    """What the family's files must hold and the model does not have: zeros that have no effect."""
    if family(architecture) != "qwen2_moe":
        return {}
    return {
        f"model.layers.{layer}.mlp.{name}": torch.zeros(shape)
        for layer in range(architecture.layers)
        if architecture.has_experts(layer)
        for name, shape in shared_expert(architecture.width).items()
    }


def from_disk(tensors: Mapping[str, Tensor], architecture: Architecture) -> Tensors:
    """The reverse of `to_disk`; tensors that are not there are not missed, and idle ones left out.

    Raises:
        KeyError: of a layer's experts some matrices are there and some are missing.
        RuntimeError: they are of different shapes.
    """
    kind = family(architecture)
    if kind == "bert":
        return {bert.to_ours(name): tensor for name, tensor in tensors.items()}
    if kind in _EXPERTS:
        return _stack(tensors, architecture, _EXPERTS[kind])
    return dict(tensors)


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
