"""bert2BERT's function-preserving initialisation (FPI): widen by copies, then stack.

Chen et al., bert2BERT: Towards Reusable Pretrained Language Models, arXiv:2110.07143, section 3.

    g(j) = j for j < d, else an old unit        C[u] = how many j have g(j) = u
    U[j, i] = W[g_out(j), g_in(i)] / C[g_in(i)]                            W (out, in)

One map for the residual stream, shared by embeddings, norms and what every block reads and writes;
a map of heads and one of inner units for each block. Embeddings, norms and biases are copied, the
head is divided. After that the blocks are stacked to the new depth, the rest being top blocks.

Heads and inner units keep the function at any ratio. The residual stream does at a whole multiple
with every dimension copied equally often (`tile`, `balanced`), where norms see the same mean and
variance as before. Query heads are copied inside their group, or whole groups are.

Differs from the paper: it draws copies at random (`map: random`), which norms turn into a change
even at a whole multiple; the default takes units in their order, as AquilaMoE does. A tied head
would multiply the scores: it is untied, or the norm before it divided, or it is refused.
"""

from __future__ import annotations

from graftwork.spec.growth import Bert2bertFpi
from graftwork_train.enlarge.depth import deepen, stacked
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.width import resolve, widen
from graftwork_train.growth.base import Grown, blocks_of, grow
from graftwork_train.state import State


@grow.register
def bert2bert_fpi(method: Bert2bertFpi, small: State, seed: int) -> Grown:
    """Widen and stack; `seed` draws the copies, unless they are tiled.

    Raises:
        RunError: the model cannot be grown to these sizes, or its head is tied and must not be.
    """
    now, to = resolve(method, small)
    maps, order = Maps(now, to, method.map, seed), stacked(now.layers, to.layers)

    def larger(state: State, power: int = 0) -> State:
        wide = widen(state, maps, tied_head=method.tied_head, power=power)
        return deepen(wide, order)

    return Grown(
        state=larger(small),
        moments=None if method.tied_head == "untie" else larger,
        origin=blocks_of(order),
        report={"layers": to.layers, "width": to.width},
    )
