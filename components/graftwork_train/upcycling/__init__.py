"""Turning a dense model into a mixture of experts. Each method registers itself with `upcycle`."""

from graftwork_train.upcycling import sparse_upcycling
from graftwork_train.upcycling.base import Upcycled, upcycle

__all__ = ["Upcycled", "sparse_upcycling", "upcycle"]
