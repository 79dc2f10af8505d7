"""What a stage is given and what it gives back.

A stage reads its inputs, writes files into `Job.out`, and returns an `Outcome`. It never decides
where the artifact goes and never writes the record: `graftwork_train.run` does both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from graftwork import progress
from graftwork.artifact import Record
from graftwork.step import Step
from graftwork.store.attempts import Workspace
from graftwork.store.delivery import Follow, unfollowed
from graftwork.store.ranges import RemoteArtifact

# Files of an artifact that the report reads, whichever stage wrote them.
CURVE = "curve.jsonl"
SUMMARY = "summary.json"


Tokens = Path | RemoteArtifact
"""Where tokens lie: in a folder, or behind a URL, to be read in parts."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """An input that has been fetched and verified.

    Attributes:
        record: Its record.
        path: A local folder with its files; with the small ones only, where there is a `remote`.
        remote: Where the others are read in parts.
    """

    record: Record
    path: Path
    remote: RemoteArtifact | None = None

    @property
    def tokens(self) -> Tokens:
        """Where its tokens are read from."""
        return self.remote or self.path.resolve()


@dataclass(frozen=True, slots=True)
class Job:
    """One step at work.

    Attributes:
        step: What to make.
        out: Empty local folder; its files become the artifact, if the stage returns.
        scratch: Local folder that outlives a failed or killed attempt of the same step.
        fetch: Gives an input's artifact by its position in `step.inputs`, digests verified.
        missing: Positions of inputs whose stages were skipped by their `when`; only `compare`,
            which leaves such arms out, is ever given any.
        workspace: Folder in storage that all attempts at the step and all its workers share, with
            the run's attempt claimed. Default: `scratch`, for a job that nobody else works at.
        follow: Follows a large file of `out` while it is written, so that little is left to do
            once the stage returns; it must not be changed afterwards.
    """

    step: Step
    out: Path
    scratch: Path
    fetch: Callable[[int], Artifact]
    missing: frozenset[int] = frozenset()
    workspace: Workspace | None = None
    follow: Follow = unfollowed

    def shared(self) -> Workspace:
        """The workspace, its attempt claimed."""
        if self.workspace is not None:
            return self.workspace
        alone = Workspace(str(self.scratch.resolve()))
        alone.claim(first=True)
        return alone

    def artifact(self, role: str) -> Artifact:
        """The input with this role, for example `from` or `data`.

        Raises:
            KeyError: the step has no such input.
            graftwork.errors.CorruptArtifactError: its files are not the recorded ones.
        """
        for index, source in enumerate(self.step.inputs):
            if source.role == role:
                return self.fetch(index)
        raise KeyError(role)

    def has(self, role: str) -> bool:
        """Whether the step has an input with this role."""
        return any(source.role == role for source in self.step.inputs)

    def progress(self, done: float, total: float, unit: str, **details: float | str | None) -> None:
        """Tell whoever watches how far the step is."""
        progress.emit("progress", self.step.name, done=done, total=total, unit=unit, **details)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stage did, for its record.

    Attributes:
        metrics: Scalars; models report `loss` (mean held-out loss in nats per token over domains
            weighted by tokens), `loss/<domain>` and `parameters`.
        tokens: Tokens trained on.
        flops: FLOPs of the training.
        workers: Workers that were held, for device seconds.
        sources: By corpus, a digest of what was read.
        notes: Sentences for the report and the log.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    flops: float = 0.0
    workers: int = 1
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
