"""Fully sharded data parallel: PyTorch's FSDP2, block by block.

Rajbhandari et al. 2019, arXiv:1910.02054, stage 3. Workers that share the batch divide weights,
gradients and moments; a block's weights are gathered before it is calculated and let go after,
in bf16 where the arithmetic is. Gradients are summed in fp32. Experts that are divided already are
divided further among their replicas alone.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, ShardPlacementResult
from torch.distributed.tensor import DTensor, Shard

from graftwork_train.nn import Decoder


def shard(
    objective: nn.Module,
    model: Decoder,
    mesh: DeviceMesh,
    *,
    experts: Collection[nn.Parameter],
    low: bool,
) -> None:
    """Divide a model's parameters in place; afterwards they are DTensors.

    Args:
        objective: What is called; holds the model.
        model: Its model.
        mesh: Of `replica`, `expert` and `tensor`.
        experts: Parameters that are divided along `expert` already.
        low: Whether the blocks calculate in bf16. Their norms do not.
    """
    data = mesh["replica", "expert"]._flatten("data")
    apart = FSDPMeshInfo(mesh=mesh["replica"], shard_mesh_dim=0)
    chosen = {id(parameter) for parameter in experts}

    def place(parameter: nn.Parameter) -> ShardPlacementResult | None:
        return ShardPlacementResult(Shard(0), apart) if id(parameter) in chosen else None

    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if low else None,
        reduce_dtype=torch.float32,
        cast_forward_inputs=False,
        param_dtype_override_fn=lambda p: p.dtype if p.ndim == 1 else None,
    )
    # Biases that balance experts are not trained, and moved by all workers alike. Experts of which
    # there is one copy stay as they are; over gloo FSDP would divide their gradients twice.
    still = {parameter for parameter in model.parameters() if not parameter.requires_grad}
    still |= set(experts) if mesh["replica"].size() == 1 else set()
    for parameter in still:
        parameter.data = parameter.data.to(mesh.device_type)
    for block in model.model.layers:
        fully_shard(
            block, mesh=data, mp_policy=policy, shard_placement_fn=place, ignored_params=still
        )
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(objective, mesh=data, mp_policy=whole, ignored_params=still)
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            # The gradient is the mean over all that share the batch, also of what fewer of them
            # have in common; gloo has no mean of its own.
            module.set_force_sum_reduction_for_comms(mesh.device_type == "cpu")
            module.set_gradient_divide_factor(float(data.size()))


def local(tensor: Tensor) -> Tensor:
    """This worker's part of a parameter or gradient: the same memory, without a gradient."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def synchronise(objective: nn.Module, *, last: bool) -> None:
    """Whether gradients are exchanged after the backward pass that comes."""
    if not isinstance(objective, FSDPModule):
        raise AssertionError("the objective is not divided")
    objective.set_requires_gradient_sync(last)
    objective.set_is_last_backward(last)


def let_go(objective: nn.Module) -> None:
    """Give the gathered weights back after a forward pass that no backward pass follows."""
    for module in objective.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
