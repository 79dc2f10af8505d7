"""Growth in width by copied units: bert2BERT's expansion, for both of its initialisations.

    U[j, i] = W[g_out(j), g_in(i)] / C[g_in(i)]      W (out, in); C[u]: copies of input unit u

What comes in is repeated, and each copy divided by how often it is there, so that sums stay; what
goes out is repeated. Biases, norms and embeddings are repeated, the head is divided; where it is
the embedding, the norm before it can be divided in its place. A tensor is calculated when it is
written, so that no more than two are in memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from graftwork.errors import RunError
from graftwork.spec.enlarge import Dimensions
from graftwork_train.enlarge.fresh import check_floats
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.roles import Role, Side, is_norm, moved, place, role
from graftwork_train.layout import BERT, sizes, tied
from graftwork_train.state import State
from graftwork_train.tensorfile import Made, Tensor

HEAD = "lm_head.weight"
TiedHead = Literal["refuse", "untie", "rescale"]
_EMBEDDING = re.compile(r".*(embed_tokens|word_embeddings)\.weight")
# What the head reads; BERT's own `norm` follows the embeddings.
_LAST_NORM = re.compile(r"model\.norm\.(weight|bias)|.*transform\.(norm|LayerNorm)\.(weight|bias)")


class Sizing(Protocol):
    """A word that grows to given sizes."""

    @property
    def name(self) -> str:
        """The method's."""

    def resolve(self, now: Dimensions) -> Dimensions:
        """The sizes after growth, or a ValueError."""


def check_dense(name: str, state: State) -> None:
    """Refuse mixtures of experts.

    Raises:
        RunError: the model is one.
    """
    if sizes(state.config).experts:
        raise RunError(
            f"{name} grows dense models, and this one is a {state.config.get('model_type')}",
            "Grow the dense model first, and upcycle it afterwards.",
        )


def dimensions(state: State) -> Dimensions:
    """The sizes of a checkpoint."""
    size = sizes(state.config)
    return Dimensions(size.layers, size.width, size.heads, size.kv_heads, size.head, size.hidden)


def resolve(method: Sizing, small: State) -> tuple[Dimensions, Dimensions]:
    """The sizes before and after.

    Raises:
        RunError: the model is a mixture of experts, or cannot be grown to these sizes.
    """
    check_dense(method.name, small)
    now = dimensions(small)
    try:
        to = method.resolve(now)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise RunError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from None
    if small.config["model_type"] == BERT and to.heads * to.head != to.width:
        raise RunError(
            f"{to.heads} heads of {to.head} do not fill a width of {to.width}, as BERT's do",
            f"Leave 'heads' out, or give {to.width // to.head}.",
        )
    return now, to


def widen(
    state: State,
    maps: Maps,
    *,
    advanced: bool = False,
    tied_head: TiedHead = "refuse",
    power: int = 0,
) -> State:
    """The model with the widths of `maps`, and as many blocks as before.

    With a `power` the tensors are an optimizer's moments: means of that power of the gradient.
    Where the function is kept, the gradient of a copied output is its share of the old one's, and
    that of a copied input is the old one's: what is divided for weights is not, and the reverse.

    Args:
        state: The small model.
        maps: Which unit is a copy of which.
        advanced: Fill new outputs of a block from the block above (AKI), not from copies.
        tied_head: What becomes of a tied head, as the words of growth say it.
        power: Of the gradient, for moments; 0 for weights.

    Raises:
        RunError: the head is tied and must not be, or a tensor is of a type or role not known.
    """
    if maps.to[1:] == maps.now[1:]:
        return state
    check_floats(state.tensors)
    config = resize(state.config, maps.to)
    sources, rescaled = dict(state.tensors), False
    if tied(state.config) and maps.to.width > maps.now.width:
        rescaled = _part_head(state, sources, config, tied_head)
    whole = _normed_whole(state, maps.now)
    tensors: dict[str, Tensor] = {}
    for name, tensor in sources.items():
        sides = role(name, whole=whole)
        if rescaled and _LAST_NORM.fullmatch(name):
            sides = (Side("residual", into=True),)
        if all(side.axis == "fixed" for side in sides):
            tensors[name] = tensor
            continue
        layer = place(name)[0]
        make = partial(expand, tensor, sides, maps, layer, power)
        if advanced and layer is not None and layer + 1 < maps.now.layers and not is_norm(name):
            make = partial(_advance, make, sources[moved(name, layer + 1)], sides, maps, layer)
        shape = tuple(
            maps.length(side.axis) if side.axis != "fixed" else count
            for side, count in zip(sides, tensor.shape, strict=True)
        )
        tensors[name] = Made(tensor.dtype, shape, make)
    return State(config, tensors)


def _normed_whole(state: State, now: Dimensions) -> bool:
    """Whether norms of queries go over all heads: then they are longer than a head."""
    norms = (t for name, t in state.tensors.items() if name.endswith("q_norm.weight"))
    return any(norm.shape[0] != now.head for norm in norms)


def _part_head(
    state: State, sources: dict[str, Tensor], config: dict[str, Any], tied_head: TiedHead
) -> bool:
    """Untie the head, if so asked; whether it stays tied and the norm before it is divided.

    Raises:
        RunError: neither is asked for, or the family's head cannot be untied.
    """
    embedding = next(name for name in state.tensors if _EMBEDDING.fullmatch(name))
    bert = config["model_type"] == BERT
    if tied_head == "refuse" or (tied_head == "untie" and bert):
        what = f"{embedding} {state.tensors[embedding].shape} is the head as well"
        if tied_head == "untie":
            what = "BERT's head is always tied to the embedding"
        other = "" if bert else "'tied_head: untie' to give the head a matrix of its own, or "
        raise RunError(
            f"{what}, and with more width its scores would be too large",
            f"Write {other}'tied_head: rescale' to divide the norm before it.",
        )
    if tied_head == "untie":
        sources[HEAD], config["tie_word_embeddings"] = state.tensors[embedding], False
    return tied_head == "rescale"


def expand(
    tensor: Tensor, sides: Role, maps: Maps, layer: int | None, power: int = 0
) -> NDArray[Any]:
    """A tensor's values for the large model; with a power, a moment's."""
    values = tensor.values()
    for axis, side in enumerate(sides):
        if side.axis == "fixed":
            continue
        if side.into != bool(power):
            shape = [-1 if dim == axis else 1 for dim in range(values.ndim)]
            copies_E = maps.copies(side.axis, layer).astype(values.dtype).reshape(shape)
            values = values / copies_E ** max(power, 1)
        values = values.take(maps.elements(side.axis, layer), axis=axis)
    return values


def _advance(
    make: partial[NDArray[Any]], above: Tensor, sides: Role, maps: Maps, layer: int
) -> NDArray[Any]:
    """What goes out of new units is that of the block above, expanded by that block's own maps."""
    if sides[0].axis == "fixed":
        return make()
    added = maps.added(sides[0].axis, layer)
    if not added.any():
        return make()
    values = make().copy()
    values[added] = expand(above, sides, maps, layer + 1)[added]
    return values


def resize(config: Mapping[str, Any], to: Dimensions) -> dict[str, Any]:
    """The config with other sizes; the number of blocks stays."""
    resized = {
        **config,
        "hidden_size": to.width,
        "num_attention_heads": to.heads,
        "intermediate_size": to.ffn,
    }
    if "num_key_value_heads" in config or to.kv_heads != to.heads:
        resized["num_key_value_heads"] = to.kv_heads
    if "head_dim" in config or to.heads * to.head != to.width:
        resized["head_dim"] = to.head
    return resized
