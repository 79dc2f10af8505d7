"""What a process that trains on CPU cores does with memory and threads."""

import platform
import subprocess
import sys

import pytest

# Pages that the kernel has to give for a tensor that is as large as one freed before it.
FAULTS = """
import resource, sys, torch
from graftwork_train.loop.cpu import use_cpu
if sys.argv[1] == "kept":
    use_cpu(1)
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def filled():
    before = pages()
    torch.empty(2**24).fill_(1.0)
    return pages() - before
filled()
print(filled(), torch.get_num_threads())
"""


def measured(how):
    command = [sys.executable, "-c", FAULTS, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is the one set")
def test_freed_memory_stays_for_the_next_step_and_the_cores_are_those_asked_for():
    pages, threads = measured("kept")
    assert pages < 100
    assert threads == 1
    # 64 MiB in pages of 4 KiB, or in a few large ones.
    assert measured("given back")[0] > pages
