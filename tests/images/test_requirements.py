"""What goes into the images: each side of the house, at the versions that are tested."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("requirements", ROOT / "images/requirements.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def names(module, image: str) -> set[str]:
    return {module.name(one) for one in module.requirements(image)}


def test_the_launcher_has_kfp_and_neither_torch_nor_ray(module):
    assert "kfp" in names(module, "launcher")
    assert not names(module, "launcher") & {"torch", "ray", "numpy", "pyarrow"}


def test_the_training_image_has_torch_and_ray_with_its_dashboard_and_no_kfp(module):
    assert names(module, "train") >= {"torch", "ray", "pydantic", "fsspec", "s3fs"}
    assert not names(module, "train") & {"kfp", "rich", "shtab"}
    ray = next(one for one in module.requirements("train") if module.name(one) == "ray")
    assert set(re.search(r"\[(.*)\]", ray)[1].split(",")) >= {"default", "data", "train"}


@pytest.mark.parametrize("image", ["launcher", "train"])
def test_everything_in_an_image_has_a_tested_version(module, image):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0].lower() for line in lines if "==" in line}
    assert {one.replace("_", "-") for one in names(module, image)} <= pinned


@pytest.mark.parametrize("image", ["launcher", "train"])
def test_images_do_not_run_as_root_and_leave_no_package_cache(image):
    text = (ROOT / "images" / image / "Dockerfile").read_text(encoding="utf-8")
    last = text[text.rindex("\nFROM") :]
    assert "USER 1000:1000" in last
    assert "org.opencontainers.image.licenses" in last
    assert "PIP_NO_CACHE_DIR=1" in text
    assert text.count("FROM") >= 2


def test_the_images_carry_the_projects_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for image in ("launcher", "train"):
        text = (ROOT / "images" / image / "Dockerfile").read_text(encoding="utf-8")
        assert f"ARG VERSION={version}" in text
