import os
import subprocess
import sys

import pytest

from graftwork import cli
from graftwork.commands.table import COMMANDS


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_with_examples(call, command):
    called = call(command.name, "--help")
    assert called.code == 0
    assert called.out.count(f"graftwork {command.name}") >= 2
    assert "examples:" in called.out


def test_help_lists_every_command(call):
    out = call("--help").out
    for command in COMMANDS:
        assert command.summary in " ".join(out.split())


def test_the_version_is_printed(call):
    assert call("--version").out.startswith("graftwork 0.")


@pytest.mark.parametrize("arguments", [(), ("nosuch",), ("check",), ("plan", "x", "--format", "y")])
def test_a_wrong_call_is_wrong_input(call, arguments):
    called = call(*arguments)
    assert called.code == 2
    assert "usage: graftwork" in called.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_the_commands(call, shell):
    out = call("completion", shell).out
    for command in COMMANDS:
        assert command.name in out


def test_the_completion_script_is_one_that_bash_takes(call, tmp_path):
    script = tmp_path / "completion.bash"
    script.write_text(call("completion", "bash").out)
    done = subprocess.run(
        ["bash", "-c", f'source {script}; COMP_WORDS=(graftwork che); COMP_CWORD=1; '
         '_shtab_graftwork graftwork che graftwork; echo "${COMPREPLY[@]}"'],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["check"]


def test_an_error_of_ours_is_told_as_such_and_traced_on_demand(call, spec, monkeypatch):
    monkeypatch.setenv("GRAFTWORK_DEBUG", "")  # so that what --debug sets is taken back
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: 1 / 0)
    called = call("check", spec)
    assert called.code == 1
    assert "fault of graftwork: ZeroDivisionError" in called.err
    assert "Traceback" not in called.err
    assert "Traceback" in call("check", spec, "--debug").err


def test_a_reader_that_closes_early_is_no_error(spec):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "graftwork.cli", "schema"],
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
