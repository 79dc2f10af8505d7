"""Documentation and source of the Python that runs: text on every machine, nothing downloaded.

Domains: `prose` is the language reference (`pydoc_data.topics`) and the docstrings of the standard
library, one document a topic and a module; `code` its source files; `tests` its test suites,
where they are installed. Sources are parsed, never imported. Files come in the order of a hash of
their names, so that a `limit` takes a fair sample and not the first letters of the alphabet.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from graftwork.errors import RunError
from graftwork.spec.data import StdlibCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.base import Part, parts, read
from graftwork_train.data.corpora.fields import faults
from graftwork_train.data.documents import Broken, Document, Item

_TESTS = frozenset({"test", "tests", "idle_test"})
_FOREIGN = ("site-packages", "dist-packages", "__pycache__")
# A docstring of fewer words is a label, not English.
_WORDS = 12


def library() -> Path:
    """Folder of the standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def version() -> str:
    """The Python whose library is read, for the record."""
    return f"python-{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"


@parts.register
def stdlib_parts(corpus: StdlibCorpus, name: str, storage: Storage) -> list[Part]:
    """Every domain is a piece, with the limit for itself.

    Raises:
        RunError: a domain has no files on this machine.
    """
    found = []
    for domain in corpus.domains:
        size = sum(path.stat().st_size for path in _sources(domain))
        if not size:
            raise RunError(
                f"corpus {name}: the standard library at {library()} has no source for {domain!r}",
                "Leave the domain out, or use a Python that is installed with its sources.",
            )
        # About a sixth of the library's source is docstrings; the size only serves the progress.
        size = size // 6 if domain == "prose" else size
        found.append(Part(name, domain, f"{name}/{domain}", size, corpus.limit))
    return found


@read.register
def read_stdlib(corpus: StdlibCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The documents of one domain."""
    if part.url == "prose":
        yield from _reference(part)
    for path in _sources(part.url):
        relative = path.relative_to(library()).as_posix()
        name = f"{part.name}/{relative}"
        try:
            with tokenize.open(path) as file:
                text = file.read()
            if part.url == "prose":
                text = docstrings(text)
        except (OSError, SyntaxError, UnicodeDecodeError, RecursionError) as error:
            yield Broken("not_readable", str(path), str(error), "file")
            continue
        fault = faults(text)
        if not fault:
            yield Document(name, text, part.url, {"path": relative})
        elif fault != "empty":
            yield Broken(fault, str(path), "", "file")


def docstrings(source: str) -> str:
    """The docstrings of a module, its classes and functions that are long enough to be English.

    Raises:
        SyntaxError: the source is not Python of this version.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in other people's strings
        tree = ast.parse(source)
    kept = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
            words = text.split()
            if len(words) >= _WORDS and sum(map(str.isalpha, words)) > len(words) / 2:
                kept.append(text)
    return "\n\n".join(kept)


def _reference(part: Part) -> Iterator[Item]:
    for topic in sorted(topics, key=_shuffled):
        text = topics[topic].strip()
        if len(text.split()) >= _WORDS:
            yield Document(f"{part.name}/topics/{topic}", text, part.url, {"topic": topic})


def _sources(domain: str) -> list[Path]:
    root = library()
    found = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _FOREIGN]
        tests = not _TESTS.isdisjoint(Path(folder).relative_to(root).parts)
        if tests == (domain == "tests"):
            found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found, key=lambda path: _shuffled(path.relative_to(root).as_posix()))


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
