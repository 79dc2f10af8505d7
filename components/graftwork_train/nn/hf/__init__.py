"""Models as folders: `from_pretrained` reads what is written here, and the reverse.

A model is saved as the Hugging Face family that can express it, one module a family; what none
expresses keeps graftwork's own names, beside `graftwork.json` alone.
"""

from graftwork_train.nn.hf.config import architecture_of, hf_config
from graftwork_train.nn.hf.files import (
    CONFIG,
    GENERATION,
    GRAFTWORK,
    INDEX,
    WEIGHTS,
    Tensors,
    load_tensors,
    save_tensors,
)
from graftwork_train.nn.hf.folder import ModelCard, Saved, fill, load_card, load_model, save_model
from graftwork_train.nn.hf.names import from_disk, to_disk

__all__ = [
    "CONFIG",
    "GENERATION",
    "GRAFTWORK",
    "INDEX",
    "WEIGHTS",
    "ModelCard",
    "Saved",
    "Tensors",
    "architecture_of",
    "fill",
    "from_disk",
    "hf_config",
    "load_card",
    "load_model",
    "load_tensors",
    "save_model",
    "save_tensors",
    "to_disk",
]
