"""The marker that makes a checkpoint current: JSON that ends with a digest of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graftwork.errors import RunError
from graftwork_train.loop.reading import BrokenError
from graftwork_train.loop.snapshot import digest

FORMAT = 3
MARKER = "checkpoint.json"


def sealed(content: Mapping[str, Any]) -> bytes:
    """The marker's bytes; `content` is plain data."""
    return json.dumps(dict(content) | {"digest": _digest(content)}).encode()


def opened(uri: str, data: bytes | None, identity: str) -> dict[str, Any]:
    """What was sealed.

    Args:
        uri: The checkpoint's folder, for messages.
        data: The marker's bytes; None where there is none.
        identity: Fingerprint of what is trained.

    Raises:
        BrokenError: it is damaged, or an older version wrote it.
        RunError: a newer version wrote it, or it is of another training. Whoever passed it over
            would train anew, and remove in the end what somebody may want.
    """
    found = json_object(MARKER, data)
    version = found.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise RunError(
            f"the checkpoint {uri} has the format {version}, and this version of graftwork reads "
            f"{FORMAT}",
            "Go on with the version that wrote it, or remove the checkpoint to begin anew.",
        )
    if version != FORMAT:
        raise BrokenError(f"it has the format {version}, an older version's")
    claimed = found.pop("digest", None)
    if claimed != _digest(found):
        raise BrokenError(f"{MARKER} is not what was written")
    if found.get("identity") != identity:
        raise RunError(
            f"the checkpoint {uri} is of the training {found.get('identity')}, and this one is "
            f"{identity}",
            "Remove it, or put it back where it was written.",
        )
    return found


def _digest(content: Mapping[str, Any]) -> str:
    return digest(memoryview(json.dumps(dict(content), sort_keys=True).encode()))


def json_object(name: str, data: bytes | None) -> dict[str, Any]:
    """A JSON object.

    Raises:
        BrokenError: the data is none.
    """
    try:
        found = json.loads(data or b"")
    except ValueError as error:
        raise BrokenError(f"{name} cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise BrokenError(f"{name} is no object")
    return found
