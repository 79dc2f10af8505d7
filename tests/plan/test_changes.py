from graftwork.compile import compile_plan
from graftwork.plan import plan
from graftwork.plan.changes import changes, flat
from graftwork.plan.changes_markdown import changes_as_markdown


def kinds(found) -> dict[str, str]:
    return {change.name: change.kind for change in found.steps}


def test_a_plan_does_not_differ_from_itself(build):
    one = plan(build())
    found = changes(one, one)
    assert set(kinds(found).values()) == {"same"}
    assert found.shared == ()
    assert "The plan is the same." in changes_as_markdown("x", found, "a: 1\n", "a: 1\n")


def test_a_changed_stage_makes_everything_that_follows_anew(build):
    factor = {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 3}}}
    found = changes(plan(build({"scratch": None, "verdict": None})), plan(
        build({"scratch": None, "verdict": None, "stacked": factor})
    ))  # fmt: skip
    assert kinds(found) == {
        "tokens": "same", "small": "same", "stacked": "changed", "large": "remade",
    }  # fmt: skip
    stacked = next(change for change in found.steps if change.name == "stacked")
    assert stacked.keys == (("grow.method.factor", "2", "3"),)
    large = next(change for change in found.steps if change.name == "large")
    assert large.keys == ()
    assert large.after.flops > large.before.flops


def test_another_pool_moves_a_stage_and_makes_nothing_anew(build):
    pools = {"fast": {"cpus_per_worker": 8}}
    tokens = {"prepare": {"from": "python", "context": 128, "pool": "fast"}}
    found = changes(plan(build()), plan(build({"tokens": tokens}, pools=pools)))
    assert kinds(found).pop("tokens") == "moved"
    assert {kind for name, kind in kinds(found).items() if name != "tokens"} == {"same"}


def test_what_all_stages_share_is_told_once(build):
    found = changes(plan(build()), plan(build(storage={"root": "s3://b/runs"})))
    assert found.shared == (("storage.root", "–", "s3://b/runs"),)
    assert set(kinds(found).values()) == {"same"}


def test_stages_come_and_go(build):
    small, whole = plan(build({"scratch": None, "verdict": None})), plan(build())
    assert kinds(changes(small, whole))["verdict"] == "added"
    assert kinds(changes(whole, small))["verdict"] == "removed"
    assert set(kinds(changes(None, whole)).values()) == {"added"}
    assert set(kinds(changes(whole, None)).values()) == {"removed"}


def test_markdown_names_stages_keys_flops_and_the_size_of_the_pipelines_difference(build):
    train = {"data": "tokens", "model": {"layers": 2, "width": 64, "heads": 2, "ffn": 128}}
    old = plan(build())
    new = plan(build({"small": {"train": {**train, "budget": "80 steps"}}}))
    text = changes_as_markdown("run.yaml", changes(old, new), compile_plan(old), compile_plan(new))
    assert text.startswith("### graftwork: `run.yaml`\n")
    assert "- `small`: `train.budget`: `40 steps` → `80 steps`" in text
    row = next(line for line in text.splitlines() if line.startswith("| `small`"))
    before, after = (cell.strip() for cell in row.split("|")[4:6])
    assert before != after
    assert '-small: budget":"40 steps"' in text
    assert '+small: budget":"80 steps"' in text


def test_markdown_stays_below_what_a_forge_takes(build):
    def many(context: int):
        body = {"from": "python", "context": context, "tokenizer": "bytes", "pool": f"p{context}"}
        pools = {f"p{context}": {"env_secrets": {f"V{i}": "a/" + "k" * 200 for i in range(9)}}}
        stages = {f"s{i:03d}": {"prepare": body} for i in range(80)}
        return plan(build(stages, pools=pools))

    old, new = many(64), many(128)
    text = changes_as_markdown("run.yaml", changes(old, new), compile_plan(old), compile_plan(new))
    assert 8_000 < len(text) < 60_000
    assert "and 20 more" in text
    assert "more keys" in text
    assert "more lines" in text


def test_keys_are_dotted_and_plain_lists_are_one_value():
    assert flat({"a": {"b": [1, 2], "c": [{"d": "e"}]}, "f": None}) == {
        "a.b": "[1, 2]", "a.c.0.d": "e", "f": "null",
    }  # fmt: skip
