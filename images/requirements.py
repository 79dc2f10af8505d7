"""What an image installs beside graftwork itself: pyproject.toml, read for one side of the house.

    python3 images/requirements.py launcher|train > requirements.txt

The launcher's image has the dependencies of the light side. The training image has the extras
that stages may want and what of the light side the containers import: neither kfp, which wants
exact versions of what others want newer, nor what only a terminal needs.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
LIGHT_ONLY = {"kfp", "rich", "shtab"}
EXTRAS = ("train", "spacy")
# KubeRay asks the head's dashboard how a job is, and the dashboard is in Ray's extra `default`.
DASHBOARD = "default"


def requirements(image: str) -> list[str]:
    """The requirements of an image, one a line of a requirements file.

    Args:
        image: `launcher` or `train`.
    """
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    light: list[str] = project["dependencies"]
    if image == "launcher":
        return light
    shared = [one for one in light if name(one) not in LIGHT_ONLY]
    extras = project["optional-dependencies"]
    return [*shared, *(with_dashboard(one) for extra in EXTRAS for one in extras[extra])]


def name(requirement: str) -> str:
    """The distribution that a requirement asks for."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower()


def with_dashboard(requirement: str) -> str:
    """Ray's requirement with its dashboard; any other as it is."""
    if name(requirement) != "ray" or DASHBOARD in requirement:
        return requirement
    return requirement.replace("ray[", f"ray[{DASHBOARD},", 1)


if __name__ == "__main__":
    if sys.argv[1:] not in (["launcher"], ["train"]):
        sys.exit("usage: requirements.py launcher|train")
    sys.stdout.write("\n".join(requirements(sys.argv[1])) + "\n")
