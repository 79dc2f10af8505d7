"""Habits of the whole repository: nothing of one machine in it, no pickles, nothing left undone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("workflows", "components")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
TEXT = {
    ".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".jsonl", ".sh", ".css", ".js",
    ".html", ".cfg", ".ini", ".in", "",
}  # fmt: skip

# Built here from parts, so that this file does not hold what it looks for.
MACHINE = re.compile(
    "|".join(
        [
            "/" + r"work/(main|shared)\b",
            "/" + r"root/",
            "/" + r"home/\w+/",
            "/" + r"tmp/(bash_jobs|demo|brief)",
            "/" + r"Users/\w+",
        ]
    )
)
HOSTS = re.compile(
    "|".join(
        [
            r"\bpypi\." + r"org",
            r"files\." + r"pythonhosted",
            r"index-url" + r"\s*=?\s*https?:",
            r"download\." + r"pytorch\.org",
            r"artifact" + r"ory",
            r"registry\." + r"npmjs",
        ]
    )
)
UNDONE = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")
PICKLES = {
    "pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib",
}  # fmt: skip
UNSAFE_CALLS = {"torch.load", "torch.save", "np.load", "numpy.load", "yaml.load", "eval", "exec"}


def source_files() -> list[Path]:
    return sorted(path for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(tree: ast.AST) -> set[str]:
    """Names of what is called; numpy's `load` counts only where it may unpickle."""
    return {
        ast.unparse(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and not any(ast.unparse(keyword) == "allow_pickle=False" for keyword in node.keywords)
    }


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def texts(tracked: list[Path]) -> list[tuple[str, str]]:
    return [
        (name(path), path.read_text(encoding="utf-8", errors="replace"))
        for path in tracked
        if path.suffix in TEXT
    ]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        (MACHINE, "a path of one machine"),
        (HOSTS, "a package registry"),
    ],
    ids=["machine", "registry"],
)
def test_nothing_of_one_machine_is_in_the_repository(tracked, pattern, what):
    found = [
        f"{file}: {match[0]}"
        for file, text in texts(tracked)
        if file != name(Path(__file__))
        for match in [pattern.search(text)]
        if match
    ]
    assert not found, f"{what}: {found}"


def test_nothing_is_left_undone(tracked):
    found = [
        f"{file}: {match[0]}"
        for file, text in texts(tracked)
        if file.endswith((".py", ".yaml", ".toml", ".css", ".js", ".sh"))
        for match in [UNDONE.search(text)]
        if match
    ]
    assert not found


@pytest.mark.parametrize("path", source_files(), ids=name)
def test_no_pickle_and_nothing_that_runs_what_it_reads(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not imported(tree) & PICKLES
    assert not calls(tree) & UNSAFE_CALLS


@pytest.mark.parametrize("path", source_files(), ids=name)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long


@pytest.mark.parametrize("path", source_files(), ids=name)
def test_every_module_says_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, "begin the file with a docstring"


@pytest.mark.parametrize("path", source_files(), ids=name)
def test_no_error_is_swallowed(path):
    swallowed = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
        and all(isinstance(part, ast.Pass) for part in node.body)
    ]
    assert not swallowed


def test_source_roots_are_no_packages():
    for folder in SOURCES:
        assert not (ROOT / folder / "__init__.py").exists()


def test_test_names_are_sentences(tracked):
    short = [
        f"{name(path)}: {node.name}"
        for path in tracked
        if path.is_relative_to(ROOT / "tests")
        and path.name.startswith("test_")
        and path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and node.name.count("_") < 3
    ]
    assert not short, "a test's name is its claim"
