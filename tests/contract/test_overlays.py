"""Overlays that ship go with the quickstart; they change where it runs, not what it makes."""

from pathlib import Path

import pytest

from graftwork.planned import plan_files

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "specs/quickstart.yaml"
OVERLAYS = sorted((ROOT / "specs/overlays").glob("*.yaml"))


def test_there_are_overlays():
    assert ROOT / "specs/overlays/kind.yaml" in OVERLAYS


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_leaves_every_fingerprint_as_it_is(overlay):
    def fingerprints(*files: Path) -> dict[str, str]:
        steps = [planned.step for planned in plan_files(list(files)).steps]
        return {step.name: step.fingerprint for step in steps}

    assert fingerprints(QUICKSTART, overlay) == fingerprints(QUICKSTART)
