"""Dense models to mixtures of experts and back. Each method registers itself with `upcycle`."""

from graftwork_train.upcycling import (
    aquila_scale_out,
    dense_from_experts,
    drop_upcycling,
    fine_grained_upcycling,
    skywork_upcycling,
    sparse_upcycling,
    virtual_groups,
)
from graftwork_train.upcycling._blocks import similarity
from graftwork_train.upcycling.base import Upcycled, upcycle

__all__ = [
    "Upcycled",
    "aquila_scale_out",
    "dense_from_experts",
    "drop_upcycling",
    "fine_grained_upcycling",
    "similarity",
    "skywork_upcycling",
    "sparse_upcycling",
    "upcycle",
    "virtual_groups",
]
