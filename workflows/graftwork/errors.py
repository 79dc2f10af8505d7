"""What graftwork raises at its users: where, what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Where:
    """A place in a spec: file, 1-based line and column, and the dotted key."""

    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.key) if part)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with the input, with its remedy."""

    where: Where
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if str(self.where) else self.what
        return f"{text}\n    {self.remedy}" if self.remedy else text

    def as_json(self) -> dict[str, object]:
        """The problem as a flat JSON object, for `--json`."""
        return {
            "file": self.where.file,
            "line": self.where.line,
            "column": self.where.column,
            "key": self.where.key,
            "what": self.what,
            "remedy": self.remedy,
        }


class GraftworkError(Exception):
    """Base of every error that is meant for the user; `exit_code` is the process's."""

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}\n    {remedy}" if remedy else what)

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes whole, whatever their constructors take."""
        return _revive, (type(self), self.args, self.__dict__)


def _revive(
    kind: type[GraftworkError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> GraftworkError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class SpecError(GraftworkError):
    """The input is wrong. Carries every problem found, in the order of the file."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        if not self.problems:
            raise AssertionError("a SpecError needs at least one problem")
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(GraftworkError):
    """A command was called in a way it cannot serve, for example with a missing file."""

    exit_code = 2


class RunError(GraftworkError):
    """A stage could not do its work, and the user can do something about it."""


class CorruptArtifactError(RunError):
    """An artifact's files are not the ones its record was written for."""

    def __init__(self, uri: str, what: str) -> None:
        self.uri = uri
        super().__init__(
            f"{uri}: {what}",
            "Run the workflow again: the artifact is set aside and its stage is rebuilt.",
        )
