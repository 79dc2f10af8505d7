"""Templates for the CI of users: the same plain commands for every forge, doing what they say."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = ROOT / ".github/workflows/graftwork.yml"
ACTION = ROOT / ".github/actions/graftwork/action.yml"
GITLAB = ROOT / "manifests/ci/graftwork.gitlab-ci.yml"
SPEC = """\
metadata: {name: reviewed}
corpora: {python: {source: stdlib}}
stages:
  tokens: {prepare: {from: python, context: 64}}
  small: {train: {data: tokens, model: {layers: 2, width: 32, heads: 2}, budget: 5 steps}}
"""
# What a runner sets by itself.
GIVEN = re.compile(r"GITHUB_|CI_|SPEC$|KFP_EXISTING_TOKEN$|COMMENT_TOKEN$|OLD$")


@dataclass(frozen=True)
class Script:
    """A step: its name, its text, and the names of the variables that it is given."""

    name: str
    text: str
    env: frozenset[str] = frozenset()


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def scripts(source: str, job: str) -> list[Script]:
    """The scripts of `review` or `run`, without what installs graftwork."""
    if source == "workflow":
        whole = load(WORKFLOW)
        part = whole["jobs"][job]
        outer = set(whole["env"]) | set(part.get("env", {}))
        found = [_step(step, outer) for step in part["steps"] if "run" in step]
    elif source == "action":
        steps = load(ACTION)["runs"]["steps"]
        after = {"review": ("check", "compile", "diff", "summary", "comment"), "run": ("submit",)}
        found = [_step(step, set()) for step in steps if step["name"] in ("install", *after[job])]
        assert all(job in step.get("if", job) for step in steps if step["name"] in after[job])
    else:
        whole = load(GITLAB)
        part = whole[f"graftwork-{job}"]
        env = frozenset(whole["variables"]) | frozenset(part["variables"])
        found = [Script(_verb(line), line, env) for line in part["script"]]
    return [script for script in found if script.name != "install"]


def _step(step: dict[str, Any], outer: set[str]) -> Script:
    return Script(step["name"], step["run"], frozenset(outer | set(step.get("env", {}))))


def _verb(line: str) -> str:
    return "comment" if line.startswith("curl") else re.findall(r"graftwork (\w+)", line)[0]


EVERY = ("workflow", "action", "gitlab")


@pytest.mark.parametrize("job", ["review", "run"])
def test_every_forge_runs_the_same_graftwork_commands(job):
    def commands(source: str) -> dict[str, str]:
        own = ("summary", "comment")
        return {one.name: one.text.strip() for one in scripts(source, job) if one.name not in own}

    assert commands("workflow") == commands("action") == commands("gitlab")
    wanted = {"review": ["check", "compile", "diff"], "run": ["submit"]}
    assert list(commands("workflow")) == wanted[job]


@pytest.mark.parametrize("job", ["review", "run"])
@pytest.mark.parametrize("source", EVERY)
def test_scripts_use_only_variables_that_they_are_given(source, job):
    for script in scripts(source, job):
        used = set(re.findall(r"\$\{?([A-Za-z_]+)", script.text))
        assert not {name for name in used - script.env if not GIVEN.match(name)}, script.name


@pytest.mark.parametrize("path", [WORKFLOW, ACTION], ids=["workflow", "action"])
def test_scripts_hold_no_expressions_that_a_branch_name_could_get_into(path):
    steps = load(path)
    found = steps["runs"]["steps"] if path == ACTION else [
        step for job in steps["jobs"].values() for step in job["steps"]
    ]  # fmt: skip
    assert not [step for step in found if "${{" in step.get("run", "")]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A clone with a changed spec on a branch, and stand-ins for the forges' own commands."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "run.yaml").write_text(SPEC)

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    git("add", "run.yaml")
    git("commit", "--quiet", "-m", "one")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    (folder / "run.yaml").write_text(SPEC.replace("5 steps", "7 steps"))
    (folder / "new.yaml").write_text(SPEC.replace("reviewed", "new"))
    for command in ("gh", "curl"):
        stub = tmp_path / "bin" / command
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/{command}.log\n')
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    return folder


def execute(
    source: str, job: str, folder: Path, spec: str = "run.yaml"
) -> subprocess.CompletedProcess[str]:
    """Run a job's scripts one after the other, as a runner does, until one fails."""
    env = {
        **os.environ,
        "PATH": f"{folder.parent}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SPEC": spec,
        "OPTIONS": "--set seed=18",
        "BASE": "origin/main",
        "PULL_REQUEST": "7",
        "GITHUB_STEP_SUMMARY": str(folder.parent / "summary.md"),
        "COMMENT_TOKEN": "secret",
        "CI_API_V4_URL": "https://gitlab.example.com/api/v4",
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "7",
    }
    done = subprocess.CompletedProcess[str]([], 0)
    for script in scripts(source, job):
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script.text],
            cwd=folder, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            break
    return done


@pytest.mark.parametrize("source", EVERY)
def test_a_review_compiles_the_spec_and_comments_what_differs_from_the_base(source, repository):
    done = execute(source, "review", repository)
    assert done.returncode == 0, done.stderr
    assert (repository / "pipeline.ir.yaml").read_text().startswith("components:")
    comment = (repository / "comment.md").read_text()
    assert "- `small`: `train.budget`: `5 steps` → `7 steps`" in comment
    assert "- `small`: `seed`" not in comment
    command = "curl" if source == "gitlab" else "gh"
    sent = (repository.parent / f"{command}.log").read_text().splitlines()
    if source == "gitlab":
        assert "body@comment.md" in sent
        assert sent[-1].endswith("/projects/3/merge_requests/7/notes")
    else:
        assert sent[:3] == ["pr", "comment", "7"]
        assert sent[-2:] == ["--body-file", "comment.md"]
        assert (repository.parent / "summary.md").read_text() == comment


def test_a_review_of_a_new_spec_shows_all_of_it_as_new(repository):
    done = execute("workflow", "review", repository, "new.yaml")
    assert done.returncode == 0, done.stderr
    assert "2 new." in (repository / "comment.md").read_text()


def test_a_review_works_again_where_the_base_was_checked_out_before(repository):
    for _ in range(2):
        done = execute("gitlab", "review", repository)
        subprocess.run(["git", "clean", "-qffdx", "-e", "*.yaml"], cwd=repository, check=True)
        assert done.returncode == 0, done.stderr


def test_a_review_of_a_wrong_spec_fails_and_says_why(repository):
    spec = repository / "run.yaml"
    spec.write_text(spec.read_text().replace("budget", "bugdet"))
    done = execute("workflow", "review", repository)
    assert done.returncode == 2
    assert "bugdet" in done.stderr
    assert not (repository.parent / "gh.log").exists()


def test_a_run_without_a_cluster_fails_the_gate(repository):
    done = execute("workflow", "run", repository)
    assert done.returncode != 0
