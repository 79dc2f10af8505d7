"""`make images` takes whichever builder works, and says so where none does."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NEEDED = ("bash", "sed", "git", "dirname")


@pytest.fixture
def build(tmp_path):
    """Call the script with stand-ins for builders: by name, whether `info` succeeds."""

    def run(builders: dict[str, bool], *images: str, **env: str):
        folder = tmp_path / "bin"
        folder.mkdir()
        for tool in NEEDED:
            found = next(
                path
                for part in os.environ["PATH"].split(":")
                if (path := Path(part, tool)).exists()
            )
            (folder / tool).symlink_to(found)
        log = tmp_path / "log"
        log.touch()
        for name, works in builders.items():
            stub = folder / name
            stub.write_text(
                "#!/usr/bin/env bash\n"
                f'if [ "$1" = info ]; then exit {0 if works else 1}; fi\n'
                f'echo "{name} $*" >> {log}\n'
            )
            stub.chmod(0o755)
        (folder / "env").symlink_to("/usr/bin/env")
        done = subprocess.run(
            [folder / "bash", ROOT / "images/build", *images],
            env={"PATH": str(folder), **env}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done, log.read_text().splitlines()

    return run


def test_a_docker_without_its_server_is_passed_over(build):
    done, calls = build({"docker": False, "podman": True, "buildah": True})
    assert done.returncode == 0, done.stderr
    assert [call.split()[:2] for call in calls] == [["podman", "build"]] * 2
    assert calls[0].endswith(f"-f images/launcher/Dockerfile -t graftwork/launcher:{VERSION} .")
    assert calls[1].endswith(f"-f images/train/Dockerfile -t graftwork/train:{VERSION} .")


def test_buildah_builds_with_the_base_and_options_that_are_asked_for(build):
    done, calls = build({"buildah": True}, "train", BASE="b:1", BUILD_OPTIONS="--isolation chroot")
    assert done.returncode == 0, done.stderr
    assert len(calls) == 1
    assert calls[0].startswith("buildah build --layers ")
    assert "--build-arg BASE=b:1 --isolation chroot -f images/train/Dockerfile" in calls[0]


def test_without_a_builder_it_says_what_to_install(build):
    done, calls = build({"docker": False})
    assert done.returncode == 1
    assert "podman nor buildah" in done.stderr
    assert not calls
