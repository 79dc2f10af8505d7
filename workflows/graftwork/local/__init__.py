"""The local run: the compiled pipeline by KFP's own subprocess runner, watched and cleaned up.

`worker` is a process of its own that runs the pipeline; `run` starts it, reads the steps' progress
from a file, shows it, and sees to it that nothing is left behind.
"""
