"""Many texts from a model at once, each token one pass over one position: keys and values are kept.

Prompts of one length go together, so that nothing is padded. What a prompt is continued with does
not depend on its neighbours, up to rounding: every text has draws of its own.

Shapes: B texts, T positions, V vocabulary, H query heads, K key and value heads, C size of a head.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork_train.nn.attention import Sight
from graftwork_train.nn.positions import alibi_slopes
from graftwork_train.nn.transformer import Decoder

AT_ONCE = 128


@dataclass(slots=True)
class Written:
    """What follows a prompt.

    Attributes:
        tokens: Ids, the end left out.
        end: Id of the end that it ends with; None where it was cut.
        nats: Log-probability of the tokens and of the end, by the distribution they were drawn
            from; at temperature 0 by the model's own.
        passed: Positions that the model went over, the prompt's included.
    """

    tokens: list[int] = field(default_factory=list)
    end: int | None = None
    nats: float = 0.0
    passed: int = 0

    @property
    def ended(self) -> bool:
        """Whether it ends with one of the ends."""
        return self.end is not None


class Memory:
    """Keys and values of one block's attention, and attention over them."""

    def __init__(self, slopes_H: Tensor | None) -> None:
        self._slopes_H = slopes_H
        self._kept: tuple[Tensor, Tensor] | None = None

    def __call__(self, q_BHTC: Tensor, k_BKTC: Tensor, v_BKTC: Tensor) -> Tensor:
        """Attention of new positions over all, (B, H, T, C): several at first, then one each."""
        if self._kept is not None:
            k_BKTC = torch.cat([self._kept[0], k_BKTC], dim=2)
            v_BKTC = torch.cat([self._kept[1], v_BKTC], dim=2)
        self._kept = k_BKTC, v_BKTC
        new, there = q_BHTC.shape[2], k_BKTC.shape[2]
        mask = None
        if self._slopes_H is not None:
            apart_TT = _apart(new, there, q_BHTC.device)
            bias = -self._slopes_H[None, :, None, None] * apart_TT.abs()
            mask = bias.masked_fill(apart_TT < 0, float("-inf")).to(q_BHTC.dtype)
        return F.scaled_dot_product_attention(
            q_BHTC, k_BKTC, v_BKTC, attn_mask=mask,
            is_causal=mask is None and new > 1,
            enable_gqa=q_BHTC.shape[1] != k_BKTC.shape[1],
        )  # fmt: skip

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the texts."""
        if self._kept is not None:
            self._kept = self._kept[0][rows], self._kept[1][rows]


class Reader:
    """A model that remembers what it has read of several texts of one length."""

    def __init__(self, model: Decoder) -> None:
        alibi = model.architecture.positions == "alibi"
        device = model.lm_head.weight.device
        slopes_H = alibi_slopes(model.architecture.heads).to(device) if alibi else None
        self._model = model
        self._memories = [Memory(slopes_H) for _ in model.model.layers]
        self._read = 0

    @torch.no_grad()
    def __call__(self, tokens_BT: Tensor) -> Tensor:
        """Scores of what follows the last of these tokens, fp64 on the CPU, (B, V)."""
        model, begin, end = self._model, self._read, self._read + tokens_BT.shape[1]
        x_BTD = model.model.embed_tokens(tokens_BT)
        if model.architecture.token_types:
            x_BTD = x_BTD + model.model.embed_types(torch.zeros_like(tokens_BT))
        if model.architecture.positions == "learned":
            x_BTD = x_BTD + model.model.embed_positions(
                torch.arange(begin, end, device=x_BTD.device)
            )
        post = model.architecture.norm_order == "post"
        x_BTD = model.model.norm(x_BTD) if post else x_BTD
        tables = (
            None if table is None else table[begin:end] for table in (model.cos_TC, model.sin_TC)
        )
        cos_TC, sin_TC = tables
        for block, memory in zip(model.model.layers, self._memories, strict=True):
            x_BTD, _ = block(x_BTD, Sight(cos_TC, sin_TC, attend=memory))
        last_BTD = x_BTD[:, -1:] if post else model.model.norm(x_BTD[:, -1:])
        self._read = end
        return model.logits(last_BTD)[:, -1].double().cpu()

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the texts, by their rows."""
        rows = rows.to(self._model.lm_head.weight.device)
        for memory in self._memories:
            memory.keep(rows)


def decode(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    count: int,
    *,
    ends: Collection[int],
    temperature: float = 0.0,
    seeds: Sequence[int] | None = None,
) -> list[Written]:
    """What follows each prompt: up to `count` tokens, or as many as the context has room for.

    Args:
        model: A decoder.
        prompts: Ids, at least one each, fewer than the context.
        count: Tokens at most, the end included.
        ends: Ids that end a text.
        temperature: 0 takes the likeliest token; else scores are divided by it and one is drawn.
        seeds: Of each prompt's draws; needed where there are any.
    """
    found = [Written() for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]))
    for length, alike in groupby(order, key=lambda at: len(prompts[at])):
        most = min(count, model.context - length)
        for some in _at_once(alike):
            draws_BT = _draws([seeds[at] for at in some], most) if seeds and temperature else None
            rows = [list(prompts[at]) for at in some]
            texts = [found[at] for at in some]
            _decode_alike(model, rows, texts, most, frozenset(ends), temperature, draws_BT)
    return found


def _decode_alike(
    model: Decoder,
    rows: list[list[int]],
    texts: list[Written],
    count: int,
    ends: frozenset[int],
    temperature: float,
    draws_BT: Tensor | None,
) -> None:
    """Continue prompts of one length; fills `texts`."""
    reader, device = Reader(model), model.lm_head.weight.device
    for text, row in zip(texts, rows, strict=True):
        text.passed += len(row)
    alive = list(range(len(rows)))
    new_BT = torch.tensor(rows, device=device)
    for step in range(count):
        scores_BV = (reader(new_BT) / (temperature or 1.0)).log_softmax(-1)
        if draws_BT is None:
            chosen_B = scores_BV.argmax(-1)
        else:
            chosen_B = _drawn(scores_BV, draws_BT[alive, step])
        nats = scores_BV.gather(-1, chosen_B[:, None])[:, 0].tolist()
        kept = []
        for place, (at, token) in enumerate(zip(alive, chosen_B.tolist(), strict=True)):
            texts[at].nats += nats[place]
            if token in ends:
                texts[at].end = token
                continue
            texts[at].tokens.append(token)
            kept.append(place)
        if not kept or step + 1 == count:
            return
        if len(kept) < len(alive):
            reader.keep(torch.tensor(kept))
        alive = [alive[place] for place in kept]
        new_BT = chosen_B[kept].to(device)[:, None]
        for at in alive:
            texts[at].passed += 1


def log_probabilities(
    model: Decoder, texts: Sequence[Sequence[int]], begins: Sequence[int]
) -> list[list[float]]:
    """Log-probability of every token of each text from its place `begins`, at least 1, on."""
    found: dict[int, list[float]] = {}
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
    for _, alike in groupby(order, key=lambda at: len(texts[at])):
        for some in _at_once(alike):
            for at, nats in zip(some, _read_alike(model, [texts[at] for at in some]), strict=True):
                found[at] = nats[begins[at] - 1 :]
    return [found[at] for at in range(len(texts))]


@torch.no_grad()
def _read_alike(model: Decoder, texts: Sequence[Sequence[int]]) -> Iterator[list[float]]:
    tokens_BT = torch.tensor([list(text) for text in texts], device=model.lm_head.weight.device)
    scores_BTV = model.logits(model(tokens_BT[:, :-1]).hidden_BTD).float().log_softmax(-1)
    nats_BT = scores_BTV.gather(-1, tokens_BT[:, 1:, None])[..., 0]
    yield from nats_BT.double().cpu().tolist()


def _at_once(places: Iterable[int]) -> Iterator[list[int]]:
    listed = list(places)
    return (listed[at : at + AT_ONCE] for at in range(0, len(listed), AT_ONCE))


def _apart(new: int, there: int, device: torch.device) -> Tensor:
    """How far each new position is behind each that is there; below 0 ahead of it."""
    at_T = torch.arange(there, device=device)
    return at_T[there - new :, None] - at_T


def _draws(seeds: Sequence[int], count: int) -> Tensor:
    """Numbers of 0 to 1 for each text and position, (B, T), fp64."""
    made = (
        torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for seed in seeds
    )
    return torch.stack(list(made))


def _drawn(scores_BV: Tensor, draws_B: Tensor) -> Tensor:
    """One token of each row by its probability, (B,)."""
    sums_BV = scores_BV.exp().cumsum(-1)
    # The last sum is 1 but for rounding, and a draw is below it.
    reached = draws_B[:, None] * sums_BV[:, -1:]
    return torch.searchsorted(sums_BV, reached, right=True)[:, 0].clamp(max=scores_BV.shape[1] - 1)
