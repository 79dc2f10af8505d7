"""Where a token stands: rotary tables with their scalings, ALiBi's slopes, places in documents.

Shapes: T positions, C size of a head, H heads, B sequences.

Rotary positions turn the pair (c, c + C/2) of a head, as Hugging Face's Llama does, so that
weights are interchangeable. Rotary and ALiBi positions run on from document to document inside a
sequence: scores depend on their differences only, and no two documents see each other. Learned
positions begin anew with each document.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graftwork.spec.model import Architecture
from graftwork.spec.rope import Dynamic, Linear, Llama3, Yarn


def rotary_tables(
    architecture: Architecture, positions: int, context: int | None = None
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles, fp32, each (positions, head_size / 2).

    Args:
        architecture: With its base and scaling.
        positions: How many.
        context: Longest sequence of training, beyond which `dynamic` scaling begins. Default:
            as many as `positions`.
    """
    frequencies_C, scale = _frequencies(architecture, positions, context or positions)
    angles_TC = torch.outer(torch.arange(positions).float(), frequencies_C)
    return angles_TC.cos() * scale, angles_TC.sin() * scale


def rotate(x_BHTC: Tensor, cos_TC: Tensor, sin_TC: Tensor) -> Tensor:
    """Turn queries or keys by their positions' angles."""
    first, second = x_BHTC.chunk(2, dim=-1)
    turned = (first * cos_TC - second * sin_TC, second * cos_TC + first * sin_TC)
    return torch.cat(turned, dim=-1)


def alibi_slopes(heads: int) -> Tensor:
    """How steeply each head's scores fall with distance, (H,).

    Press et al. 2022, arXiv:2108.12409, section 3: a geometric sequence from 2^(-8/H). Where H is
    no power of two, the slopes of the next smaller power come first, then every other slope of
    the next larger one, as in the authors' code.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    slopes += [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]
    return torch.tensor(slopes)


def places(documents_BT: Tensor) -> Tensor:
    """Each token's place inside its document, from 0; (B, T), int64."""
    index_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    begins_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    begins_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return index_T - (index_T * begins_BT).cummax(dim=1).values


def _frequencies(architecture: Architecture, length: int, context: int) -> tuple[Tensor, float]:
    """Frequencies (C/2,), and what queries and keys are multiplied with."""
    size, theta, scaling = (
        architecture.head_size,
        architecture.rope_theta,
        architecture.rope_scaling,
    )
    if isinstance(scaling, Dynamic):
        # Bigger bases for longer sequences, as in Hugging Face's "dynamic": at the context, 1.
        stretch = scaling.factor * max(length, context) / context - (scaling.factor - 1)
        theta *= stretch ** (size / max(1, size - 2))
    frequencies_C = 1.0 / theta ** (torch.arange(0, size, 2).float() / size)
    if isinstance(scaling, Linear):
        return frequencies_C / scaling.factor, 1.0
    if isinstance(scaling, Llama3):
        return _llama3(frequencies_C, scaling), 1.0
    if isinstance(scaling, Yarn):
        given = scaling.attention_factor
        attention = 0.1 * math.log(scaling.factor) + 1.0 if given is None else given
        return _yarn(frequencies_C, scaling, size, theta), attention
    return frequencies_C, 1.0


def _llama3(frequencies_C: Tensor, scaling: Llama3) -> Tensor:
    """Between the two bounds the share of the kept frequency rises linearly with its turns."""
    turns_C = scaling.original * frequencies_C / (2 * math.pi)
    low, high = scaling.low_frequency, scaling.high_frequency
    kept_C = ((turns_C - low) / (high - low)).clamp(0, 1)
    return frequencies_C * (kept_C + (1 - kept_C) / scaling.factor)


def _yarn(frequencies_C: Tensor, scaling: Yarn, size: int, theta: float) -> Tensor:
    """Peng et al. 2023, arXiv:2309.00071, section 3.2, with whole numbers as the ramp's ends."""

    def bound(turns: float) -> float:
        return size * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(bound(scaling.beta_fast)), 0)
    high = float(min(math.ceil(bound(scaling.beta_slow)), size - 1))
    if low == high:
        high += 0.001
    index_C = torch.arange(size // 2).float()
    divided_C = ((index_C - low) / (high - low)).clamp(0, 1)
    return frequencies_C * (1 - divided_C) + frequencies_C / scaling.factor * divided_C
