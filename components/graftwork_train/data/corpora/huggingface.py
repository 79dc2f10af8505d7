"""Hugging Face datasets in a folder: saved by `save_to_disk`, or a clone of the repository.

`save_to_disk` leaves Arrow streams and a `state.json` that lists them, one folder per split where
there are several. A repository holds Parquet or JSON lines, and the split is in the file's name
(`train-00000-of-00002.parquet`) or in a folder's. Both are read with pyarrow alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from graftwork import store
from graftwork.errors import RunError
from graftwork.spec.data import HuggingFaceCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora import jsonl, parquet
from graftwork_train.data.corpora.base import Part, file_parts, parts, read
from graftwork_train.data.corpora.fields import columns
from graftwork_train.data.documents import Broken, Item

STATE = "state.json"
# Names of splits that repositories use; a file that names none of them belongs to `train`.
_KNOWN = ("train", "validation", "valid", "val", "dev", "test", "eval")
_OWN = ("dataset_info.json", STATE, "dataset_dict.json", "dataset_infos.json")


@parts.register
def huggingface_parts(corpus: HuggingFaceCorpus, name: str, storage: Storage) -> list[Part]:
    """The files of the split.

    Raises:
        RunError: there is no such split, or the dataset is stored in a way that is not read.
    """
    suffixes = (".arrow", STATE, *parquet.SUFFIXES, *jsonl.SUFFIXES)
    found = file_parts(name, corpus.uri, storage, suffixes)
    states = [part for part in found if part.url.endswith("/" + STATE)]
    if states:
        return _saved(corpus, found, states, storage)
    data = [part for part in found if not part.url.endswith(_OWN)]
    kept = [part for part in data if _split_of(part, corpus.split) == corpus.split]
    if not kept:
        raise _no_split(corpus, name, {_split_of(part, corpus.split) for part in data})
    return kept


@read.register
def read_huggingface(corpus: HuggingFaceCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The rows of one file as documents."""
    if part.url.endswith(".arrow"):
        yield from _read_arrow(corpus, part, storage)
    elif part.url.endswith(parquet.SUFFIXES):
        yield from parquet.read_table(corpus, part, storage)
    else:
        yield from jsonl.read_lines(corpus, part, storage)


def _saved(
    corpus: HuggingFaceCorpus, found: list[Part], states: list[Part], storage: Storage
) -> list[Part]:
    """Files that `state.json` lists, in its order."""
    by_folder = {part.url.rsplit("/", 1)[0]: part for part in states}
    several = len(by_folder) > 1 or all(_folder_name(url) in _KNOWN for url in by_folder)
    kept = []
    for folder, part in sorted(by_folder.items()):
        state = _state(part, storage)
        split = _folder_name(folder) if several else state.get("_split") or corpus.split
        if split != corpus.split:
            continue
        if state.get("_indices_files") or state.get("_indices_data_files"):
            raise RunError(
                f"corpus {part.corpus}: {folder} is a view of a dataset, with rows picked by index",
                "Write it out with flatten_indices() before save_to_disk().",
            )
        listed = [f"{folder}/{entry['filename']}" for entry in state.get("_data_files", [])]
        known = {one.url: one for one in found}
        missing = [url for url in listed if url not in known]
        if missing:
            raise RunError(
                f"corpus {part.corpus}: {missing[0]} is missing", f"{part.url} lists it."
            )
        kept += [known[url] for url in listed]
    if not kept:
        raise _no_split(corpus, states[0].corpus, {_folder_name(url) for url in by_folder})
    return kept


def _state(part: Part, storage: Storage) -> dict[str, Any]:
    try:
        with store.open_file(part.url, "rb", storage) as file:
            state = json.loads(file.read())
    except ValueError as error:
        raise RunError(f"corpus {part.corpus}: {part.url} is not JSON: {error}") from error
    if not isinstance(state, dict):
        raise RunError(f"corpus {part.corpus}: {part.url} is not the state of a dataset")
    return state


def _split_of(part: Part, wanted: str) -> str:
    """The split that a file of a repository belongs to, by its name or its folders'."""
    words = re.split(r"[/._-]+", part.name[len(part.corpus) :])
    named = [word for word in words if word == wanted or word in _KNOWN]
    return named[-1] if named else "train"


def _folder_name(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1]


def _no_split(corpus: HuggingFaceCorpus, name: str, present: set[str]) -> RunError:
    splits = ", ".join(sorted(present)) or "none"
    return RunError(
        f"corpus {name}: no split {corpus.split!r} at {corpus.uri}; there is {splits}",
        "Set the corpus's 'split' to one of those.",
    )


def _read_arrow(corpus: HuggingFaceCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    row = 0
    try:
        with store.open_file(part.url, "rb", storage) as file, pa.ipc.open_stream(file) as stream:
            names = stream.schema.names
            missing = [name for name in columns(corpus) if name not in names]
            if missing:
                yield parquet.missing_columns(part, missing, names)
                return
            for batch in stream:
                wanted = batch.select(columns(corpus))
                for start in range(0, wanted.num_rows, parquet.ROWS):
                    piece = wanted.slice(start, parquet.ROWS)
                    yield from parquet.rows(corpus, part, piece, row + start)
                row += wanted.num_rows
    except parquet.DAMAGE as error:
        what = str(error).splitlines()[0]
        yield Broken("not_readable", part.url, f"after row {row}: {what}", "file")
