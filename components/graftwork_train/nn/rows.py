"""Attention on CPUs, some rows of the table of scores at a time.

torch's own kernel there works on small tiles, one after the other. Here the rows of all sequences
and heads are one batched matrix product, the query heads that share keys side by side in it, and
causal rows end where nothing is seen any more. As in FlashAttention (Dao et al. 2022,
arXiv:2205.14135, section 3.1), the backward pass calculates the rows again, so that memory grows
with T and not with its square. `benchmarks/attention.py` compares both: where this is the faster
one is in `faster`. With bf16, scores are rounded to bf16 before the softmax is taken in fp32.

Shapes: B sequences, T tokens of each, H query heads, K key and value heads, C size of a head;
N = B K, G = H / K, R rows, S tokens that they see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Rows of one head at once: with the heads that share keys, as many as make a product large and
# leave its results in the processor's cache. Numbers of four bytes fill it sooner.
_ROWS, _ROWS_SHARED, _ROWS_SHARED_FP32 = 128, 64, 48
# Heads that share keys from which on this is faster in fp32, too.
_MANY = 3


def faster(q_BHTC: Tensor, k_BKTC: Tensor, dtype: torch.dtype) -> bool:
    """Whether this is faster than torch's own kernel, with inputs of this type."""
    group = q_BHTC.shape[1] // k_BKTC.shape[1]
    return q_BHTC.device.type == "cpu" and (dtype == torch.bfloat16 or group >= _MANY)


# torch keeps compiled code on disk by operators' names: another layout of results, another name.
@torch.library.custom_op("graftwork::attend_rows_v2", mutates_args=())
def attend_rows(
    q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, mask: Tensor | None, causal: bool
) -> Tensor:
    """Attention of every query to the keys that it sees, (B, H, T, C).

    Args:
        q_BHTC: Queries.
        k_BKTC: Keys.
        v_BKTC: Values, of one type with queries and keys.
        mask: Added to the scores, (1 or B, 1 or H, T, T); None for nothing.
        causal: Whether a token sees only itself and what is before it; a mask must say so, too.
    """
    table = _Table(q_BHTC, k_BKTC, mask, causal)
    v_NTC = _together(v_BKTC)
    y_BHTC = _side_by_side(q_BHTC)
    q_BKGTC, y_BKGTC = table.grouped(q_BHTC), table.grouped(y_BHTC)
    for begin, end, seen in table:
        q_NRC = table.rows(q_BKGTC, begin, end)
        y_NRC = table.chances(q_NRC, begin, seen) @ v_NTC[:, :seen]
        table.put(y_BKGTC, begin, y_NRC)
    return y_BHTC


@torch.library.custom_op("graftwork::attend_rows_v2_backward", mutates_args=())
def _backward(
    grad_BHTC: Tensor,
    q_BHTC: Tensor,
    k_BKTC: Tensor,
    v_BKTC: Tensor,
    mask: Tensor | None,
    causal: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values."""
    table = _Table(q_BHTC, k_BKTC, mask, causal)
    v_NTC = _together(v_BKTC)
    dq_BHTC = _side_by_side(q_BHTC)
    q_BKGTC, grad_BKGTC, dq_BKGTC = map(table.grouped, (q_BHTC, grad_BHTC, dq_BHTC))
    dk_NTC, dv_NTC = torch.zeros_like(table.k_NTC), torch.zeros_like(v_NTC)
    memory = table.memory()
    for begin, end, seen in table:
        q_NRC, grad_NRC = (table.rows(x, begin, end) for x in (q_BKGTC, grad_BKGTC))
        chances_NRS = table.chances(q_NRC, begin, seen)
        # Not by `baddbmm_`, which takes one sequence after the other, each on all cores.
        dv_NTC[:, :seen] += chances_NRS.mT @ grad_NRC
        scores_NRS = _part(memory, chances_NRS.shape)
        torch.bmm(grad_NRC, v_NTC[:, :seen].mT, out=scores_NRS)
        torch.ops.aten._softmax_backward_data.out(
            scores_NRS, chances_NRS, -1, chances_NRS.dtype, grad_input=scores_NRS
        )
        table.put(dq_BKGTC, begin, scores_NRS @ table.k_NTC[:, :seen])
        dk_NTC[:, :seen] += scores_NRS.mT @ q_NRC
    dk_NTC *= table.scale
    return dq_BHTC, dk_NTC.view(k_BKTC.shape), dv_NTC.view(v_BKTC.shape)


class _Table:
    """The softmax of the scores, some rows at a time."""

    def __init__(self, q_BHTC: Tensor, k_BKTC: Tensor, mask: Tensor | None, causal: bool) -> None:
        sequences, heads, self._length, size = q_BHTC.shape
        shared = k_BKTC.shape[1]
        self.scale = size**-0.5
        self._grouped = (sequences, shared, heads // shared)
        # Scaled once, in place of the scores; there are no more keys than queries.
        self.k_NTC: Tensor = _together(k_BKTC) * self.scale
        self._causal, self._mask = causal, mask
        if mask is not None:
            alike = mask.shape[1] == 1
            self._mask = mask[:, :, None] if alike else mask.unflatten(1, self._grouped[1:])
        shared_rows = _ROWS_SHARED_FP32 if q_BHTC.dtype == torch.float32 else _ROWS_SHARED
        self._step = min(_ROWS if heads == shared else shared_rows, self._length)
        ahead = torch.full((self._step, self._step), -torch.inf, dtype=q_BHTC.dtype)
        self._ahead_RR = ahead.triu_(1)
        self._memory = self.memory()

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """The first of the rows at a time, the end of them, and how many tokens they see."""
        for begin in range(0, self._length, self._step):
            end = min(begin + self._step, self._length)
            yield begin, end, end if self._causal else self._length

    def memory(self) -> Tensor:
        """Room for one table of rows."""
        return self.k_NTC.new_empty(math.prod((*self._grouped, self._step, self._length)))

    def grouped(self, x_BHTC: Tensor) -> Tensor:
        """The same with the heads that share keys side by side, (B, K, G, T, C)."""
        x_BKGTC: Tensor = x_BHTC.unflatten(1, self._grouped[1:])
        return x_BKGTC

    def rows(self, x_BKGTC: Tensor, begin: int, end: int) -> Tensor:
        """Some rows of what `grouped` gave, (N, G R, C)."""
        shape = (len(self.k_NTC), -1, x_BKGTC.shape[-1])
        x_NRC: Tensor = x_BKGTC[..., begin:end, :].reshape(shape)
        return x_NRC

    def put(self, all_BKGTC: Tensor, begin: int, x_NRC: Tensor) -> None:
        """Write what some rows gave, (N, G R, C), to where they stand among all."""
        x_BKGRC = x_NRC.view(*self._grouped, -1, x_NRC.shape[-1])
        all_BKGTC[..., begin : begin + x_BKGRC.shape[-2], :] = x_BKGRC

    def chances(self, q_NRC: Tensor, begin: int, seen: int) -> Tensor:
        """Softmax of some rows' queries, (N, G R, S), until the next ones are asked for."""
        scores_NRS = _part(self._memory, (*q_NRC.shape[:2], seen))
        torch.bmm(q_NRC, self.k_NTC[:, :seen].mT, out=scores_NRS)
        table = scores_NRS.view(*self._grouped, -1, seen)
        rows = table.shape[-2]
        if self._mask is not None:
            table += self._mask[..., begin : begin + rows, :seen]
        elif self._causal:
            table[..., begin:] += self._ahead_RR[:rows, :rows]
        torch.softmax(scores_NRS, -1, out=scores_NRS)
        return scores_NRS


def _together(x_BKTC: Tensor) -> Tensor:
    """(B, K, T, C) to (N, T, C), whose slices are multiplied without a copy."""
    return x_BKTC.contiguous().flatten(0, 1)


def _side_by_side(x_BHTC: Tensor) -> Tensor:
    """Memory of this shape with a token's heads side by side, as projections take and give them."""
    return x_BHTC.new_empty(x_BHTC.transpose(1, 2).shape).transpose(1, 2)


def _part(memory: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The beginning of some memory; that of new results would have to be cleared first."""
    return memory[: math.prod(shape)].view(shape)


@attend_rows.register_fake
def _(q_BHTC: Tensor, *_: object) -> Tensor:
    return _side_by_side(q_BHTC)


@_backward.register_fake
def _(
    _: Tensor, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor, *__: object
) -> tuple[Tensor, Tensor, Tensor]:
    return _side_by_side(q_BHTC), k_BKTC.new_empty(k_BKTC.shape), v_BKTC.new_empty(v_BKTC.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401 - torch's
    *tensors, ctx.causal = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, grad_BHTC: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's
    return *_backward(grad_BHTC, *ctx.saved_tensors, ctx.causal), None, None


torch.library.register_autograd(attend_rows, _gradients, setup_context=_keep)

ATTEND_ROWS = torch.ops.graftwork.attend_rows_v2.default
"""What torch's dispatcher knows it as."""
