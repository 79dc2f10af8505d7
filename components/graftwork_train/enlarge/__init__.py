"""Parts of surgery that makes a model larger, shared by growth and by upcycling.

What each tensor is made of (`roles`), which unit is a copy of which (`maps`), copies in width
(`width`) and depth (`depth`), parameters beside the old ones (`pad`), fresh draws (`fresh`). All of
it renames tensors or makes recipes for them; nothing is calculated before it is written.
"""

from graftwork_train.enlarge.depth import deepen, interpolated, stacked
from graftwork_train.enlarge.maps import Maps
from graftwork_train.enlarge.pad import pad
from graftwork_train.enlarge.width import dimensions, resize, resolve, widen

__all__ = [
    "Maps",
    "deepen",
    "dimensions",
    "interpolated",
    "pad",
    "resize",
    "resolve",
    "stacked",
    "widen",
]
