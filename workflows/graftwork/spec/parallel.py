"""The word for how one training is divided among workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftwork.spec.base import Strict


class Parallel(Strict):
    """How weights and work are divided among the workers of a pool.

    The workers are `tensor` times as many as share the batch; `expert` lies inside of those.
    """

    data: Literal["ddp", "fsdp"] = "ddp"
    """`ddp`: every worker holds all weights. `fsdp`: weights, gradients and moments are divided
    among the workers that share the batch."""
    tensor: int = Field(default=1, ge=1, le=64)
    """Workers that divide every block's matrices by heads and inner sizes; they see the same
    sequences. Keep them on one machine."""
    expert: int = Field(default=1, ge=1, le=4096)
    """Workers that divide the experts of every layer; tokens are sent to where theirs are."""

    def sharers(self, workers: int) -> int:
        """Workers that share the batch."""
        return workers // self.tensor
