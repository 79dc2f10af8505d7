"""A model that thinks: latents sampled after a piece, and weighed before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.latents import BEGIN, END, POSTERIOR, PRIOR, SIGNS
from graftwork_train.data.scoring.passes import forward_flops
from graftwork_train.data.tokenizer import Encoder
from graftwork_train.decoding import decode, log_probabilities
from graftwork_train.nn.transformer import Decoder
from graftwork_train.synthesis._latents import NEVER, Piece


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What was sampled for one piece.

    Attributes:
        latents: Texts; empty where a sample is none.
        logs: Log-weights, minus infinity where a sample is none.
        length: Tokens of the piece.
    """

    latents: list[str]
    logs: list[float]
    length: int


class Thinker:
    """Samples latents by a model and weighs them by the same one.

    Args:
        model: A decoder that was trained on latents.
        encoder: Its tokenizer.
        temperature: Of the samples; weights are by what they were really drawn from.
        tokens: Tokens of a latent at most, its end included.
        weighs: Whether it will think; else it only reads, and need not know the signs.

    Attributes:
        passed: Positions that the model went over.

    Raises:
        RunError: the tokenizer does not know the signs of latents.
    """

    def __init__(
        self,
        model: Decoder,
        encoder: Encoder,
        temperature: float = 1.0,
        tokens: int = 1024,
        *,
        weighs: bool = True,
    ) -> None:
        self.passed = 0
        self._model, self._encoder = model, encoder
        self._temperature, self._tokens = temperature, tokens
        self._tokenizer = Tokenizer.from_str(encoder.text)
        self._signs = {sign: self._sign(sign) for sign in SIGNS} if weighs else {}

    @property
    def flops(self) -> float:
        """Of the positions so far."""
        return forward_flops(self._model, self.passed)

    def fits(self, piece: Piece) -> bool:
        """Whether the context has room for the piece, the signs, and a latent of some tokens."""
        size = sum(ids.size for ids in self._encoder.each([piece.prefix, piece.text]))
        return size + len(SIGNS) + 2 <= self._model.context

    def think(
        self, pieces: Sequence[Piece], samples: int, seeds: Sequence[Sequence[int]]
    ) -> list[Thoughts]:
        """Latents of each piece with their weights; pieces must fit.

        Args:
            pieces: What they are of.
            samples: How many of each.
            seeds: By piece, of each sample.
        """
        parts = [self._parts(piece) for piece in pieces]
        begin, end, prior, posterior = (self._signs[s] for s in (BEGIN, END, PRIOR, POSTERIOR))
        prompts = [[*c, begin, end, *x, begin, posterior] for c, x in parts for _ in range(samples)]
        drawn = decode(
            self._model, prompts, self._tokens, ends={*self._signs.values(), self._encoder.eos},
            temperature=self._temperature, seeds=[one for some in seeds for one in some],
        )  # fmt: skip
        self.passed += sum(one.passed for one in drawn)
        texts, begins, places = [], [], []
        for place, one in enumerate(drawn):
            c, x = parts[place // samples]
            text = [*c, begin, prior, *one.tokens, end, *x]
            if one.end == end and len(text) <= self._model.context:
                texts.append(text)
                begins.append(len(c) + 2)
                places.append(place)
        logs = [NEVER] * len(drawn)
        for place, nats in zip(places, self._weigh(texts, begins), strict=True):
            logs[place] = nats - drawn[place].nats
        latents = [
            self._tokenizer.decode(one.tokens, skip_special_tokens=False) if log > NEVER else ""
            for one, log in zip(drawn, logs, strict=True)
        ]
        return [
            Thoughts(latents[at : at + samples], logs[at : at + samples], len(x))
            for at, (_, x) in zip(range(0, len(drawn), samples), parts, strict=True)
        ]

    def plain(self, pieces: Sequence[Piece]) -> list[tuple[float, int]]:
        """Log-probability of each piece after its prefix, without a latent, and its tokens."""
        parts = [self._parts(piece) for piece in pieces]
        texts, begins = [[*c, *x] for c, x in parts], [len(c) for c, _ in parts]
        found = self._weigh(texts, begins)
        return [(nats, len(x)) for nats, (_, x) in zip(found, parts, strict=True)]

    def guess(self, length: int) -> float:
        """Log-probability of so many tokens to one who knows nothing."""
        return -length * math.log(self._model.vocab)

    def _weigh(self, texts: Sequence[Sequence[int]], begins: Sequence[int]) -> list[float]:
        self.passed += sum(map(len, texts))
        found = log_probabilities(self._model, texts, begins) if texts else []
        return [math.fsum(nats) for nats in found]

    def _parts(self, piece: Piece) -> tuple[list[int], list[int]]:
        prefix, text = self._encoder.each([piece.prefix, piece.text])
        return prefix.tolist(), text.tolist()

    def _sign(self, sign: str) -> int:
        ids = self._encoder.each([sign])[0]
        if ids.size != 1:
            raise RunError(
                f"the model's tokenizer takes {sign!r} for {ids.size} tokens, and latents need it "
                f"as one",
                f"Write 'tokens: [{', '.join(map(repr, SIGNS))}]' in the tokenizer of the prepare "
                f"stage that the model is first trained on.",
            )
        return int(ids[0])
