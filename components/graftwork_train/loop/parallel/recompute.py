"""Activation checkpointing: blocks calculate again in the backward pass what they did not keep.

Chen et al. 2016, arXiv:1604.06174. `full` keeps a block's input alone; `selective` also keeps the
results of attention and of matrix products, which cost the most to make, as Korthikanti et al.
2022, arXiv:2205.05198, section 5, do for other parts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.utils import checkpoint

from graftwork_train.nn.rows import ATTEND_ROWS

_KEPT = (
    "mm", "addmm", "bmm", "baddbmm", "_grouped_mm", "_scaled_mm",
    "_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)  # fmt: skip


def recompute(block: nn.Module, kind: Literal["none", "full", "selective"]) -> None:
    """Make a block calculate again what `kind` does not keep."""
    if kind == "none":
        return
    forward: Callable[..., Any] = block.forward
    chosen: dict[str, Any] = {}
    if kind == "selective":
        chosen["context_fn"] = functools.partial(
            checkpoint.create_selective_checkpoint_contexts, _operators()
        )

    @functools.wraps(forward)
    def again(*arguments: Any) -> Any:  # noqa: ANN401 - whatever the block takes and gives
        # No block draws random numbers, so that no generator has to be set back.
        return checkpoint.checkpoint(
            forward, *arguments, use_reentrant=False, preserve_rng_state=False, **chosen
        )

    # Hooks on the block, such as FSDP's, stay outside.
    block.forward = again


def _operators() -> list[Any]:
    """Those of `_KEPT` that this version of torch has, and attention of our own."""
    found = [getattr(torch.ops.aten, name, None) for name in _KEPT]
    kept = [operator.default for operator in found if operator is not None]
    return [*kept, ATTEND_ROWS]
