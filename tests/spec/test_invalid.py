"""Every invalid spec of the collection gets exactly the message that is written beside it.

A case of `invalid/*.cases` is a claim, a change, and the problems that are expected, exactly as
they are printed, without the file's name:

    == a misspelt key of a stage
    - batch: 16 sequences
    + bacth: 16 sequences
    > 47:7: stages.base.train.bacth: unknown key 'bacth'
    >     Did you mean 'batch'?

`-` lines are text that stands once in `invalid/base.yaml`, `+` lines replace it. A case without
`-` lines is a whole spec. `\\t` stands for a tab. After a change of messages,
`python tests/spec/test_invalid.py` writes the expectations anew, to be read in the diff.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from graftwork.errors import SpecError
from graftwork.spec import nodes
from graftwork.spec.load import load

INVALID = Path(__file__).parent / "invalid"
BASE = (INVALID / "base.yaml").read_text(encoding="utf-8")
JARGON = (
    "pydantic",
    "Input should",
    "validation error",
    "http",
    "Value error",
    "type=",
    "Traceback",
)


@dataclass
class Case:
    file: str
    claim: str
    changes: list[tuple[str, str]] = field(default_factory=list)
    expected: str = ""

    @property
    def text(self) -> str:
        spec = BASE
        for old, new in self.changes:
            if not old:
                return new + "\n"
            if spec.count(old) != 1:
                raise ValueError(
                    f"{self.claim}: {old!r} stands {spec.count(old)} times in the base"
                )
            spec = spec.replace(old, new)
        return spec


def read_cases(path: Path) -> list[Case]:
    cases: list[Case] = []
    lines: dict[str, list[str]] = {}
    for line in [*path.read_text(encoding="utf-8").splitlines(), "== end"]:
        mark, text = line[:1], line[2:].replace("\\t", "\t")
        if mark in ("-", "=") and lines.get("+"):
            cases[-1].changes.append(("\n".join(lines.get("-", [])), "\n".join(lines.pop("+"))))
            lines.pop("-", None)
        if mark == "=":
            if cases:
                cases[-1].expected = "\n".join(lines.get(">", []))
            lines = {}
            cases.append(Case(path.stem, line.removeprefix("==").strip()))
        elif mark in ("-", "+", ">"):
            lines.setdefault(mark, []).append(text)
        elif line.strip():
            raise ValueError(f"{path.name}: cannot read the line {line!r}")
    return cases[:-1]


def all_cases() -> list[Case]:
    return [case for path in sorted(INVALID.glob("*.cases")) for case in read_cases(path)]


def error_of(case: Case, folder: Path) -> SpecError:
    path = folder / "spec.yaml"
    path.write_text(case.text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load([path])
    return caught.value


def printed(error: SpecError, folder: Path) -> str:
    path = str(folder / "spec.yaml")
    return str(error).replace(f"{path}:", "").replace(path, "")


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: f"{case.file}: {case.claim}")
def test_an_invalid_spec_gets_exactly_the_expected_message(case, tmp_path):
    assert case.expected, f"{case.claim!r} expects nothing"
    error = error_of(case, tmp_path)
    assert printed(error, tmp_path) == case.expected
    for problem in error.problems:
        assert problem.where.line >= 1
        assert problem.where.column >= 1
        assert problem.remedy, "every problem says what to do"
        assert not any(word in str(problem) for word in JARGON)


@pytest.mark.parametrize(
    "case",
    [case for case in all_cases() if case.file == "yaml"],
    ids=lambda case: case.claim,
)
def test_without_the_c_library_the_messages_are_the_same(case, tmp_path, monkeypatch):
    monkeypatch.setattr(nodes, "_LOADER", yaml.SafeLoader)
    assert printed(error_of(case, tmp_path), tmp_path) == case.expected


def test_the_collection_is_large_and_its_claims_differ():
    claims = [(case.file, case.claim) for case in all_cases()]
    assert len(claims) >= 150
    assert len(set(claims)) == len(claims)


def test_the_spec_that_all_cases_change_is_valid():
    load([INVALID / "base.yaml"])


def rewrite(path: Path, folder: Path) -> None:
    blocks = []
    for case, block in zip(read_cases(path), path.read_text("utf-8").split("\n== "), strict=True):
        change = [line for line in block.splitlines() if line[:1] in ("-", "+")]
        message = printed(error_of(case, folder), folder).replace("\t", "\\t")
        blocks.append([f"== {case.claim}", *change, *(f"> {x}" for x in message.split("\n"))])
    path.write_text("\n\n".join("\n".join(block) for block in blocks) + "\n", encoding="utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for file in sorted(INVALID.glob("*.cases")):
            rewrite(file, Path(name))
