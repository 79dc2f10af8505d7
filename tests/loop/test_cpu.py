"""What a process that trains on CPU cores does with memory and threads."""

import os
import platform
import subprocess
import sys

import pytest

# Pages that the kernel has to give for a step that holds as much as the steps before it.
FAULTS = """
import resource, sys, torch
from graftwork_train.loop.cpu import use_cpu
if sys.argv[1] == "kept":
    use_cpu(1)
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    before = pages()
    held = [torch.empty(2**22).fill_(1.0) for _ in range(8)]
    return pages() - before
print(min(step() for _ in range(8)), torch.get_num_threads())
"""


def measured(how):
    command = [sys.executable, "-c", FAULTS, how]
    # So that without us all is given back; else it depends on where the heap happens to end.
    given_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1048576"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=given_back)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is the one set")
def test_freed_memory_stays_for_the_next_step_and_the_cores_are_those_asked_for():
    assert measured("kept") == (0, 1)
    assert measured("given back")[0] > 1000
