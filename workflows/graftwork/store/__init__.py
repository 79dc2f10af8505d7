"""Storage: artifacts that are whole or absent, leases on them, and the files of corpora.

A local root is served with the standard library alone. `graftwork.store.remote`, the only
importer of fsspec, is loaded when a URL with a scheme is met, because fsspec costs more time
than a step that is already done may take.
"""

from graftwork.store.artifacts import State, Store
from graftwork.store.corpora import FileInfo, corpus_digest, find, has_changed, open_file

__all__ = ["FileInfo", "State", "Store", "corpus_digest", "find", "has_changed", "open_file"]
