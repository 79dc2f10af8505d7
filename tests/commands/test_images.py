import json


def test_images_lists_what_pods_are_made_of_and_warns_of_tags(call, spec):
    called = call("images", spec)
    assert called.code == 0
    assert called.out.splitlines() == [
        "launcher  graftwork/launcher:0.1.0  (2 steps)",
        "train     graftwork/train:0.1.0  (2 steps)",
    ]
    assert called.err.count("not by a digest") == 2


def test_images_gives_json_to_machines(call, spec):
    digest = "sha256:" + "ab" * 32
    found = json.loads(
        call("images", spec, "--json", "--set", f"execution.image=mine/train:1@{digest}").out
    )
    assert found[1] == {
        "role": "train",
        "image": f"mine/train:1@{digest}",
        "repository": "mine/train",
        "tag": "1",
        "digest": digest,
        "pinned": True,
        "steps": ["tokens", "small"],
    }
    assert found[0]["pinned"] is False
