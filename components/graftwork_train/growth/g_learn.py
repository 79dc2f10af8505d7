"""G_learn: learn a linear map from the small model's weights to the large one's.

Wang et al., Learning to Grow Pretrained Models for Efficient Transformer Training (LiGO),
arXiv:2303.00980, section 3, as it is compared in Du et al., Stacking Your Transformers,
arXiv:2405.15319, section 3.

    V[i] = A_out · (sum_j w[i, j] · W[j]) · A_in^T     i, j: blocks after and before

w is (blocks after, blocks before), one for each kind of tensor; A_out and A_in are (units after,
units before) for the residual stream, the query heads, the key and value heads and the inner units,
shared by all blocks. The small weights stay; only the maps are trained, for some 100 steps on the
language-modelling loss, and what they give then is the large model.

w begins as stacking, A as copies in order (A_in divided by their number) with noise of 0.01, since
exact twins would get equal gradients for ever.

Differs from the paper: whole heads are mapped, not their dimensions, which rotary positions tie
together; A_in has parameters of its own. Biases and norms are mapped as outputs are. A head that
is tied to the embedding is untied where the width grows, or refused. AdamW without decay at a
constant rate; LiGO's own settings are not known to us. The FLOPs counted are those of
training the large model on the same tokens; products of maps and weights come on top uncounted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from graftwork.spec.growth import GLearn
from graftwork.spec.optimizer import AdamW
from graftwork_train.enlarge.fresh import check_floats
from graftwork_train.enlarge.learned import LinearMap, Read
from graftwork_train.enlarge.roles import place
from graftwork_train.enlarge.width import HEAD, resize, resolve
from graftwork_train.growth.base import Grown, Lesson, Values, grow
from graftwork_train.layout import tied
from graftwork_train.loop.loader import Batch, Loader, Source
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import from_disk
from graftwork_train.nn.loss import head_losses
from graftwork_train.optimizers import build
from graftwork_train.state import State
from graftwork_train.tensorfile import Made


@grow.register
def g_learn(method: GLearn, small: State, seed: int, lesson: Lesson) -> Grown:
    """Learn the maps on the lesson's text, and give the model they make.

    Holds both models in memory while it learns.

    Raises:
        RunError: the model cannot be grown to these sizes.
    """
    now, to = resolve(method, small)
    check_floats(small.tensors)
    target = method.target(lesson.card.architecture)
    if tied(small.config) and not target.tie_embeddings:
        small = _untied(small)
    parts = {part for block, part in map(place, small.tensors) if block is not None}
    maps = LinearMap(now, to, sorted(parts), seed)
    first, last = _learn(method, small, maps, seed, lesson)
    tokens = method.steps * method.batch * lesson.text.context
    config = resize(small.config, to) | {"num_hidden_layers": to.layers}
    read = partial(_read, small)
    tensors = {
        name: Made(small.tensors[source].dtype, shape, partial(_values, maps, name, read))
        for name, (source, shape) in maps.layout(small).items()
    }
    return Grown(
        state=State(config, tensors),
        origin=("a learned mixture",) * to.layers,
        report={"layers": to.layers, "width": to.width, "first_loss": first, "last_loss": last},
        notes=(f"While the map was learned the loss went from {first:.4g} to {last:.4g}.",),
        tokens=tokens,
        flops=tokens * target.flops_per_token(lesson.text.vocab, lesson.text.context),
    )


def _untied(small: State) -> State:
    """The model with the embedding as its head's own matrix, too."""
    head = {HEAD: small.tensors["model.embed_tokens.weight"]}
    return State({**small.config, "tie_word_embeddings": False}, {**small.tensors, **head})


def _learn(
    method: GLearn, small: State, maps: LinearMap, seed: int, lesson: Lesson
) -> tuple[float, float]:
    """Train the maps; the loss of the first batch and the mean of the last tenth."""
    held = {name: _read(small, name) for name in small.tensors}
    target = method.target(lesson.card.architecture)
    model = Decoder(target, lesson.text.vocab, lesson.text.context, seed=None)
    names = list(maps.layout(small))
    word = AdamW(name="adamw", weight_decay=0.0)
    optimizer = build(word, maps.parameters)
    source = Source(lesson.text, seed, {"": lesson.cursor})
    loader = Loader(source, method.batch, document_mask=True)
    losses: list[float] = []
    for step in range(method.steps):
        for parameter in maps.parameters.values():
            parameter.grad = None
        made = from_disk({n: maps.compose(n, held.__getitem__) for n in names}, target)
        loss = _loss(model, made, loader.read(step, 0, 1))
        loss.backward()
        optimizer.step(method.rate, torch.ones(()), torch.zeros(()))
        losses.append(float(loss.detach()))
        lesson.progress(step + 1, method.steps, "steps")
    last = losses[-max(1, len(losses) // 10) :]
    return losses[0], sum(last) / len(last)


def _loss(model: Decoder, made: Mapping[str, Tensor], batch: Batch) -> Tensor:
    output = torch.func.functional_call(model, dict(made), (batch.tokens_BT, batch.documents_BT))
    head = made.get("lm_head.weight", made["model.embed_tokens.weight"])
    return head_losses(output.hidden_BTD, head, batch.labels_BT).aim / max(1, batch.predicted)


def _read(small: State, name: str) -> Tensor:
    return torch.from_numpy(small.tensors[name].values().astype(np.float32))


def _values(maps: LinearMap, name: str, read: Read) -> Values:
    with torch.no_grad():
        found: Values = maps.compose(name, read).numpy()
    return found
