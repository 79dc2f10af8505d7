"""AquilaMoE's Scale-Up, AKI-Pro: advanced width, depth by blocks repeated in place, groups kept.

Zhang et al., AquilaMoE: Efficient Training for MoE Models with Scale-Up and Scale-Out Strategies,
arXiv:2408.06567, section 3.

    width    units in their order, again and again; new outputs from the block above (AKI)
    depth    src(l) = floor(l · L1 / L2)                      3 to 6 blocks: 0 0 1 1 2 2
    heads    copied inside their group around a key and value head; as many groups as before

The loss starts higher than with copies of a block's own units (`width_by: fpi`), and is to cross it
later. Widths alone, by whole multiples and with `fpi`, keep the function.

Differs from the paper: its index floor(l · L2 / L1) is a slip of the pen, which its own figures
correct; random depth here means blocks drawn anew on top.
"""

from __future__ import annotations

from functools import partial

from graftwork.spec.growth import AkiPro
from graftwork_train.enlarge.depth import deepen, interpolated, stacked
from graftwork_train.enlarge.fresh import draw
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.roles import place
from graftwork_train.enlarge.width import resolve, widen
from graftwork_train.growth.base import Grown, grow
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor


@grow.register
def aki_pro(method: AkiPro, small: State, seed: int) -> Grown:
    """Widen and deepen; `seed` draws further blocks where they are random.

    Raises:
        RunError: the model cannot be grown to these sizes, or its head is tied and must not be.
    """
    now, to = resolve(method, small)
    advanced = method.width_by == "aki"
    maps = Maps(now, to, "tile", seed)
    wide = widen(small, maps, advanced=advanced, tied_head=method.tied_head)
    if method.depth_by == "random":
        order = [*range(now.layers), *[now.layers - 1] * (to.layers - now.layers)]
        state = _redrawn(deepen(wide, order), now.layers, seed)
    else:
        repeat = interpolated if method.depth_by == "interpolated" else stacked
        order = repeat(now.layers, to.layers)
        state = deepen(wide, order)
    fresh = now.layers if method.depth_by == "random" else to.layers
    return Grown(
        state=state,
        origin=tuple(
            _origin(block, now.layers, advanced=advanced) if index < fresh else "drawn at random"
            for index, block in enumerate(order)
        ),
        report={"layers": to.layers, "width": to.width},
    )


def _redrawn(state: State, first: int, seed: int) -> State:
    """The model with all blocks from `first` on drawn as for training from scratch."""
    tensors: dict[str, Tensor] = dict(state.tensors)
    for name, tensor in state.tensors.items():
        block = place(name)[0]
        if block is not None and block >= first:
            make = partial(draw, name, tensor.shape, state.config, seed)
            tensors[name] = Made(tensor.dtype, tensor.shape, make)
    return State(state.config, tensors)


def _origin(block: int, layers: int, *, advanced: bool) -> str:
    above = f", new units of block {block + 1}" if advanced and block + 1 < layers else ""
    return f"block {block}{above}"
