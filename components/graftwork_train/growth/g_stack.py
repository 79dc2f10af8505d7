"""G_stack: stack a trained model's blocks on themselves, in one hop.

Du et al., Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM
Pre-Training, arXiv:2405.15319, section 3 and algorithm 1.

    blocks(large) = blocks(small) o blocks(small) o ... (factor times)
    large[i] = small[i mod l],  i = 0 .. factor * l - 1      (0 1 0 1, never 0 0 1 1)

Embedding, final norm and head are taken once, unchanged. Tied and untied heads, biases and any
dtype are copied as they are, byte for byte; the copies share no storage.

The function is *not* preserved: the loss jumps, then falls fast. What trains the model afterwards
starts with a fresh optimizer and a new warmup, and goes on in the data where the small one stopped.
Gradual stacking, the paper's StackBERT baseline, is several of these stages with training between.

The paper's ablations are options: `interpolated` copies (0 0 1 1), a `part` of the blocks (we take
halves), and `noise`, (1 - s)·W + s·fresh for every matrix of the blocks.

Differs from the paper: nothing in the operator. The paper's fits for when to grow and by how much
are printed with the plan and decide nothing; a factor outside 2 to 4 only earns a warning.
"""

from __future__ import annotations

from graftwork.spec.growth import GStack
from graftwork_train.enlarge.depth import deepen, interpolated, stacked, stacked_part
from graftwork_train.enlarge.fresh import with_noise
from graftwork_train.enlarge.width import check_dense, dimensions
from graftwork_train.growth.base import Grown, blocks_of, grow
from graftwork_train.state import State

# The paper finds the best growth factors between 2 and 4, and recommends 4.
_TRIED = range(2, 5)


@grow.register
def g_stack(method: GStack, small: State, seed: int) -> Grown:
    """Stack `method.factor` copies of the model's blocks; `seed` draws the noise, if there is any.

    Raises:
        RunError: the model is a mixture of experts.
    """
    check_dense(method.name, small)
    layers = dimensions(small).layers
    order = _order(method, layers)
    return Grown(
        state=with_noise(deepen(small, order), method.noise, seed),
        origin=blocks_of(order),
        report={"growth_factor": method.factor, "layers": len(order), "layers_before": layers},
        notes=_warnings(method.factor, layers),
        moments=None if method.noise else lambda state, power: deepen(state, order),
    )


def _order(method: GStack, layers: int) -> list[int]:
    if method.part != "all":
        return stacked_part(layers, method.factor, method.part)
    place = stacked if method.order == "stacked" else interpolated
    return place(layers, layers * method.factor)


def _warnings(factor: int, layers: int) -> tuple[str, ...]:
    notes = []
    if factor not in _TRIED:
        notes.append(
            f"A growth factor of {factor} lies outside the 2 to 4 that the paper found best."
        )
    if layers == 1:
        notes.append("The base has one block; the paper found that too shallow a base grows badly.")
    return tuple(notes)
