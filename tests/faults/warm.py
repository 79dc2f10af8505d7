"""`python -m tests.faults.warm SOCKET KIND…`: graftwork's warm process, its forks with a fault.

A fork is what a launcher starts in a local run, too; production code knows nothing of faults.
"""

import sys

import s3fs
from tests.faults import inject

import graftwork.store.remote
import graftwork.store.s3
from graftwork_train import warm

# Imported here once, rather than in every fork.
assert s3fs
assert graftwork.store.remote
assert graftwork.store.s3

if __name__ == "__main__":
    warm.main = inject.main
    warm.serve(sys.argv[1], sys.argv[2:])
