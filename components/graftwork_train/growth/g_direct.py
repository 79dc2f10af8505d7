"""G_direct: copy units in width and blocks in depth, the direct operator in both directions.

Du et al., Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM
Pre-Training, arXiv:2405.15319, section 3; in width it is Net2Net's (Chen et al., Net2Net:
Accelerating Learning via Knowledge Transfer, arXiv:1511.05641, section 2.2).

    g(j) = j for old units j, else drawn from the old ones
    U[j, i] = W[g_out(j), g_in(i)] / C[g_in(i)]      W (out, in), C the number of copies

In depth it is G_stack. Noise, if asked for, replaces each matrix of the blocks by
(1 - s)·W + s·fresh, which the paper finds slightly better than none at 20%.

With RMSNorm or LayerNorm the function stays only where each dimension of the residual stream is
copied equally often, which random draws do not do; the other sizes keep it at any ratio.

Differs from the paper: query heads are units, drawn within their group where keys and values are
shared; the paper's models share none. Which matrices its noise touches is not said; ours touches
those of the blocks.
"""

from __future__ import annotations

from graftwork.spec.growth import GDirect
from graftwork_train.enlarge.depth import deepen, stacked
from graftwork_train.enlarge.fresh import with_noise
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.width import resolve, widen
from graftwork_train.growth.base import Grown, blocks_of, grow
from graftwork_train.state import State


@grow.register
def g_direct(method: GDirect, small: State, seed: int) -> Grown:
    """Widen by copies, stack, and mix in noise; `seed` draws the copies and the noise.

    Raises:
        RunError: the model cannot be grown to these sizes, or its head is tied and must not be.
    """
    now, to = resolve(method, small)
    wide = widen(small, Maps(now, to, method.map, seed), tied_head=method.tied_head)
    order = stacked(now.layers, to.layers)
    return Grown(
        state=with_noise(deepen(wide, order), method.noise, seed),
        origin=blocks_of(order),
        report={"layers": to.layers, "width": to.width},
    )
