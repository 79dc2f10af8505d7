"""The models that methods act on: a compact decoder, its experts, its loss, its file format."""

from graftwork_train.nn.hf import load_model, save_model
from graftwork_train.nn.transformer import Decoder

__all__ = ["Decoder", "load_model", "save_model"]
