"""The commands of the README and of the documentation are run as they stand there.

    <!-- file: my.yaml -->        above a block: the block is a file of that name
    <!-- test: slow -->           above a block: it takes more than a few seconds
    <!-- test: exits with 2 -->   above a block: its last command ends with this code
    <!-- test: skip because … --> above a block: it cannot run here, and why

In `bash` blocks every line is a command. In `console` blocks commands follow `$ `; the other lines
are output, and each must occur in what the commands print, where `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
KNOWN_NOTES = re.compile(r"file: \S+|test: (slow|exits with \d+|skip because .+)|\s*")
_BLOCK = re.compile(
    r"(?:^<!--[ ]*(?P<note>.*?)[ ]*-->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file."""

    language: str
    text: str
    line: int
    note: str = ""

    @property
    def file(self) -> str:
        """The file that the block is, or nothing."""
        return self.note.removeprefix("file:").strip() if self.note.startswith("file:") else ""

    @property
    def is_run(self) -> bool:
        return self.language in ("bash", "console") and not self.skip

    @property
    def slow(self) -> bool:
        return self.note == "test: slow"

    @property
    def skip(self) -> str:
        """Why the block is not run, or nothing."""
        return self.note.removeprefix("test: skip because ") if "test: skip" in self.note else ""

    @property
    def code(self) -> int:
        match = re.fullmatch(r"test: exits with (\d+)", self.note)
        return int(match[1]) if match else 0

    @property
    def script(self) -> str:
        """The block's commands, for bash."""
        if self.language == "bash":
            return self.text
        lines, going_on = [], False
        for line in self.text.splitlines():
            if going_on or line.startswith("$ "):
                lines.append(line if going_on else line[2:])
                going_on = line.endswith("\\")
        return "\n".join(lines) + "\n"

    @property
    def output(self) -> list[re.Pattern[str]]:
        """The lines of output that the block promises."""
        if self.language == "bash":
            return []
        shown, going_on = [], False
        for line in self.text.splitlines():
            command = going_on or line.startswith("$ ")
            going_on = command and line.endswith("\\")
            if not command and line.strip(" …"):
                shown.append(re.compile(".*".join(re.escape(p.strip()) for p in line.split("…"))))
        return shown


def blocks(markdown: str) -> list[Block]:
    """The fenced blocks of a Markdown file, in its order."""
    return [
        Block(
            match["language"],
            match["text"],
            markdown.count("\n", 0, match.start("language")) + 1,
            match["note"] or "",
        )
        for match in _BLOCK.finditer(markdown)
    ]


BLOCKS = {page.name: blocks(page.read_text(encoding="utf-8")) for page in PAGES}
RUN = [
    pytest.param(
        page, block, id=f"{page}:{block.line}", marks=[pytest.mark.slow] if block.slow else []
    )
    for page, found in BLOCKS.items()
    for block in found
    if block.is_run
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """For each page a folder as its reader has it: the specs, and the files that the page shows."""
    made = {}
    for page, found in BLOCKS.items():
        made[page] = tmp_path_factory.mktemp("clone")
        shutil.copytree(ROOT / "specs", made[page] / "specs")
        for block in found:
            if block.file:
                path = made[page] / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
    return made


def bash(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    tools = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip


@pytest.mark.parametrize(("page", "block"), RUN)
def test_commands_work_as_the_page_shows_them(page, block, folders):
    done = bash(block.script, folders[page])
    assert done.returncode == block.code, done.stdout + done.stderr
    for line in block.output:
        assert line.search(done.stdout + done.stderr), f"{line.pattern!r} is not in:\n{done.stdout}"


def test_the_readme_shows_commands_and_a_spec():
    shown = BLOCKS["README.md"]
    assert any(block.is_run for block in shown)
    assert any(block.language == "yaml" for block in shown)


def test_notes_above_blocks_are_of_the_known_kinds():
    notes = [block.note for found in BLOCKS.values() for block in found]
    unknown = [note for note in notes if not KNOWN_NOTES.fullmatch(note)]
    assert not unknown


def test_a_block_is_read_with_its_note_its_commands_and_its_output():
    text = "a\n\n<!-- test: slow -->\n```console\n$ echo a \\\n  b\na … b\n$ true\n```\n"
    (block,) = blocks(text)
    assert block.slow
    assert block.line == 4
    assert block.script == "echo a \\\n  b\ntrue\n"
    assert [pattern.pattern for pattern in block.output] == ["a.*b"]


def test_a_block_can_be_a_file_be_skipped_or_fail():
    text = (
        "<!-- file: a.yaml -->\n```yaml\nx: 1\n```\n"
        "<!-- test: skip because it needs a cluster -->\n```bash\nfalse\n```\n"
        "<!-- test: exits with 2 -->\n```bash\nexit 2\n```\n"
    )
    file, skipped, failing = blocks(text)
    assert (file.file, file.is_run) == ("a.yaml", False)
    assert (skipped.skip, skipped.is_run) == ("it needs a cluster", False)
    assert (failing.code, failing.is_run) == (2, True)


def test_a_command_that_fails_is_noticed(tmp_path):
    assert bash("false\ntrue\n", tmp_path).returncode == 1
