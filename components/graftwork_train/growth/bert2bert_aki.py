"""bert2BERT's advanced knowledge initialisation (AKI): new units from the block above.

Chen et al., bert2BERT: Towards Reusable Pretrained Language Models, arXiv:2110.07143, section 3.

    U[j] of block l = FPI(W of block l)[j]        for old outputs j
                      FPI(W of block l + 1)[j]    for new ones, by that block's own maps

for every linear weight and bias of a block; embeddings, norms and the head are as with FPI, and so
is the last block, which has none above. Copies of a unit differ from the start, where FPI's twins
get the same gradients for ever. The function is not preserved: the loss starts higher, and is to
cross FPI's later. The wider blocks are then stacked to the new depth.

Differs from the paper: the order of copies (see bert2bert_fpi); what a "new" head is follows the
groups of shared keys and values. That the last block falls back to FPI is our reading.
"""

from __future__ import annotations

from graftwork.spec.growth import Bert2bertAki
from graftwork_train.enlarge.depth import deepen, stacked
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.width import resolve, widen
from graftwork_train.growth.base import Grown, grow
from graftwork_train.state import State


@grow.register
def bert2bert_aki(method: Bert2bertAki, small: State, seed: int) -> Grown:
    """Widen with units of the block above, and stack; `seed` draws copies that are not tiled.

    Raises:
        RunError: the model cannot be grown to these sizes, or its head is tied and must not be.
    """
    now, to = resolve(method, small)
    maps = Maps(now, to, method.map, seed)
    wide = widen(small, maps, advanced=True, tied_head=method.tied_head)
    order = stacked(now.layers, to.layers)
    return Grown(
        state=deepen(wide, order),
        origin=tuple(_origin(block, now.layers) for block in order),
        report={"layers": to.layers, "width": to.width},
    )


def _origin(block: int, layers: int) -> str:
    above = f", new units of block {block + 1}" if block + 1 < layers else ""
    return f"block {block}{above}"
