import pytest

from graftwork.plan import plan
from graftwork.plan.images import images

DIGEST = "sha256:" + "0123456789abcdef" * 4


def of(build, image: str):
    return images(plan(build(execution={"launcher_image": image})))[0]


def test_each_image_is_listed_once_with_the_steps_that_use_it(build):
    pools = {"big": {"image": "mine/train:2"}}
    train = {"data": "tokens", "model": {"layers": 2, "width": 64, "heads": 2}, "budget": "9 steps"}
    workflow = build({"small": {"train": {**train, "pool": "big"}}}, pools=pools)
    found = images(plan(workflow))
    assert [(one.role, one.name) for one in found] == [
        ("launcher", "graftwork/launcher:0.1.0"),
        ("train", "graftwork/train:0.1.0"),
        ("train", "mine/train:2"),
    ]
    assert len(found[0].steps) == len(workflow.stages)
    assert found[2].steps == ("small",)


@pytest.mark.parametrize(
    ("name", "repository", "tag", "digest"),
    [
        ("mine", "mine", "", ""),
        ("mine:1", "mine", "1", ""),
        ("host:5000/a/mine", "host:5000/a/mine", "", ""),
        ("host:5000/a/mine:1.2", "host:5000/a/mine", "1.2", ""),
        (f"host:5000/a/mine:1.2@{DIGEST}", "host:5000/a/mine", "1.2", DIGEST),
        (f"mine@{DIGEST}", "mine", "", DIGEST),
    ],
)
def test_a_name_is_read_as_container_runtimes_read_it(build, name, repository, tag, digest):
    found = of(build, name)
    assert (found.repository, found.tag, found.digest) == (repository, tag, digest)


def test_only_a_whole_digest_is_not_warned_of(build):
    assert of(build, f"mine:1@{DIGEST}").warning == ""
    assert "the tag '1'" in of(build, "mine:1").warning
    assert "no tag" in of(build, "mine").warning
    assert "is no digest" in of(build, f"mine@{DIGEST[:-1]}").warning
