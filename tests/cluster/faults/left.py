"""What a run has left behind that nobody will use."""

from __future__ import annotations

import time

from checkpoints import partial
from place import RUN, Place
from workflow import Planned

from graftwork.errors import RunError


def live(place: Place, run_id: str) -> list[str]:
    """RayJobs, RayClusters and pods of a run that are there still."""
    found = [
        f"{kind}/{name}" for kind in ("rayjobs", "rayclusters") for name in place.rays(kind, run_id)
    ]
    pods = place.pods(f"{RUN}={run_id}") + place.pods(f"pipeline/runid={run_id}")
    return found + [f"pod/{pod.metadata.name}" for pod in pods]


def stored(planned: Planned, *, ended: bool) -> list[str]:
    """Leases, parts of checkpoints and uploads in storage.

    Of a run that was terminated whole checkpoints stay: the next run goes on from them.
    """
    files = planned.store.files
    names = list(files.sizes(planned.root))
    found = [name for name in names if name.startswith(".leases/")]
    if ended:
        found += [name for name in names if name.startswith(".work/")]
    else:
        found += partial(list(files.sizes(planned.work)))
    return found + _uploads(planned)


def _uploads(planned: Planned) -> list[str]:
    bucket, _, prefix = planned.root.split("://", 1)[1].partition("/")
    system = planned.store.files.system  # type: ignore[attr-defined] # it is a remote one
    told = system.call_s3("list_multipart_uploads", Bucket=bucket)
    keys = [str(upload["Key"]) for upload in told.get("Uploads", ())]
    return [f"upload of {key}" for key in keys if key.startswith(f"{prefix}/")]


def after(place: Place, planned: Planned, run_id: str, seconds: float, *, ended: bool) -> list[str]:
    """What is left once so many seconds have passed; nothing as soon as nothing is."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = live(place, run_id) + stored(planned, ended=ended)
        except RunError as error:
            found = [f"storage cannot be read: {error}"]
        if not found or time.monotonic() >= end:
            return found
        time.sleep(1)
