"""GOT-D: keep the documents that optimal transport pulls hardest towards a target.

Kang et al., Get more for less: Principled Data Selection for Warming Up Fine-Tuning in LLMs,
arXiv:2405.02774, section 3. After a light training on D_U the model's effective distribution is
l D_U + (1 - l) D_P; to bring it closest to a target D_R in optimal transport is to choose

    D_U = argmin  D_U . dOT(D_S, D_R) / dD_S,      D_S the candidates, which stand for D_P
    gradient_i = f_i - mean over j != i of f_j,    f the dual potential on the candidates

so the documents with the most negative gradients are kept. That is not to match the target: what
the candidates hold too little of is taken, and nothing else. `away` turns the sign: it takes what
lies farthest from a target of unwanted text.

Shapes: embeddings (documents, dimensions), costs |x - y|^2 (sample, sample of the target).

Differs from the paper: its embeddings are a small pretrained encoder's, here a model's of the spec
or hashed words, less their mean; the regularisation counts in parts of the mean cost, so that it
means the same for each. In place of its two stages for millions of documents, one transport is
solved between samples, and f of the other documents follows from g, as it does in each iteration.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from graftwork.spec.scored import GotD
from graftwork_train.data.scoring.embedding import Hashed, Pooled, Vectors, embeddings, unit
from graftwork_train.data.scoring.transport import calibrated, duals, extended, squared_distances
from graftwork_train.data.stream import Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, best_share, select

_BLOCK = 4096


@select.register
def got_d(method: GotD, documents: Stream, context: Context) -> Verdicts:
    """Keep the share with the most negative gradients; the score is the negative gradient."""
    torch.set_num_threads(context.cores)
    embed: Hashed | Pooled = Hashed(method.dimensions, word_ngrams=1)
    if method.model is not None:
        device = "cuda" if context.gpu and torch.cuda.is_available() else "cpu"
        embed = Pooled.load(context.folder("model"), device)
    candidates, spent = embeddings(documents, embed)
    target, more = embeddings(context.opened("target"), embed)
    mean = candidates.mean(axis=0)
    gradient = context.once(
        "gradient",
        lambda: {
            "each": _gradients(unit(candidates - mean), unit(target - mean), method, context.seed)
        },
    )["each"]
    scores = (gradient if method.away else -gradient).astype(np.float32)
    codes = np.ones(len(scores), np.int16)
    codes[best_share(scores, method.keep)] = 0
    metrics = {
        "target_documents": float(len(target)),
        "gradient_kept": float(gradient[codes == 0].mean()),
        "gradient_dropped": float(gradient[codes == 1].mean()) if codes.any() else 0.0,
        **{name: cost + more[name] for name, cost in spent.items()},
    }
    return Verdicts(scores, codes, (KEPT, "outside_the_share"), metrics)


def _gradients(
    candidates: Vectors, target: Vectors, method: GotD, seed: int
) -> npt.NDArray[np.float64]:
    """Calibrated gradient of each candidate: float64 (candidates,), in parts of the mean cost."""
    generator = np.random.default_rng(seed)
    some = np.sort(generator.permutation(len(candidates))[: method.sample])
    goal = target[np.sort(generator.permutation(len(target))[: method.sample])]
    cost = squared_distances(candidates[some], goal)
    scale = float(cost.mean()) or 1.0
    f, g = duals(cost / scale, method.regularisation)
    if len(some) == len(candidates):
        return calibrated(f)
    blocks = [candidates[at : at + _BLOCK] for at in range(0, len(candidates), _BLOCK)]
    parts = [
        extended(squared_distances(block, goal) / scale, g, method.regularisation)
        for block in blocks
    ]
    return calibrated(np.concatenate(parts))
