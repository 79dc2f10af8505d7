"""Committees: how several models' answers become one. Each registers itself with `base.combine`."""

from graftwork_train.committees import soft_committee
from graftwork_train.committees.base import combine

__all__ = ["combine", "soft_committee"]
