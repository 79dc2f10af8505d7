"""Where remote artifacts are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$GRAFTWORK_CACHE or ~/.cache/graftwork."""
    named = os.environ.get("GRAFTWORK_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "graftwork"
