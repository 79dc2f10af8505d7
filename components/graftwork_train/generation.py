"""Text from a model, token by token.

Every token is a pass over all that precede it, up to the model's context: no cache of keys and
values. Samples are a few dozen tokens for a reader's eye, where that costs seconds at most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graftwork_train.nn.transformer import Decoder


def pick(logits_V: Tensor, temperature: float, generator: torch.Generator) -> int:
    """One token from its scores: the likeliest at temperature 0, else drawn.

    Args:
        logits_V: Scores, (V,).
        temperature: Scores are divided by it; below 1 likely tokens become likelier.
        generator: Of the draw, on the CPU, so that every device writes the same.
    """
    scores_V = logits_V.float().cpu()
    if temperature == 0:
        return int(scores_V.argmax())
    # In fp64 and from the largest down: a temperature near 0 overflows nothing.
    scaled_V = (scores_V.double() - scores_V.max()) / temperature
    return int(torch.multinomial(scaled_V.softmax(-1), 1, generator=generator))


@torch.no_grad()
def generate(
    model: Decoder,
    prompt: list[int],
    count: int,
    *,
    eos: int,
    temperature: float,
    generator: torch.Generator,
) -> list[int]:
    """Up to `count` tokens that follow `prompt`; fewer, if the document ends.

    An empty prompt begins a document.
    """
    device = model.lm_head.weight.device
    tokens = list(prompt) or [eos]
    written: list[int] = []
    for _ in range(count):
        window_BT = torch.tensor([tokens[-model.context :]], device=device)
        last_BTD = model(window_BT).hidden_BTD[:, -1:]
        token = pick(model.logits(last_BTD)[0, -1], temperature, generator)
        if token == eos:
            break
        tokens.append(token)
        written.append(token)
    return written
