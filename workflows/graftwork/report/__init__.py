"""The report: one self-contained HTML page per run, and one per stage for a pipeline's viewer.

Light: the standard library and pydantic. Pages load nothing from anywhere; they can be mailed.
"""

from graftwork.report.files import CURVE, SUMMARY, StageFiles, read_files
from graftwork.report.markdown import stage_markdown
from graftwork.report.model import Result, Run, State
from graftwork.report.page import run_html, stage_html, write_report

__all__ = [
    "CURVE",
    "SUMMARY",
    "Result",
    "Run",
    "StageFiles",
    "State",
    "read_files",
    "run_html",
    "stage_html",
    "stage_markdown",
    "write_report",
]
