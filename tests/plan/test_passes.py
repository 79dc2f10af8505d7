"""What models cost that only read or write: told by the plan, in no total."""

import pytest

from graftwork.plan import plan
from graftwork.units import format_number

PARTS = ("stacked", "large", "scratch", "verdict")


def told(build, stage, corpus, name="it"):
    gone = dict.fromkeys(PARTS)
    made = plan(build({**gone, name: stage}, corpora={"python": corpus}))
    (step,) = [planned for planned in made.steps if planned.step.stage == name]
    assert not step.cost.flops
    return [note.text for note in made.notes if note.step == name and "passes" in note.text], made


LIMITED = {"source": "jsonl", "uri": "x", "limit": "1M"}


@pytest.mark.parametrize(
    "method",
    [{"name": "perplexity"}, {"name": "embedding_dedup"}, {"name": "got_d", "target": "python"}],
)
def test_a_model_that_scores_goes_over_every_token_once(build, method):
    stage = {"select": {"from": "python", "method": method | {"model": "small"}}}
    (text,), made = told(build, stage, LIMITED)
    (small,) = [planned.cost for planned in made.steps if planned.step.stage == "small"]
    # 1 MB is 250 thousand tokens, and forward alone is a third of training.
    expected = small.flops / small.tokens / 3 * 250_000
    assert text.startswith(f"scoring by small takes about {format_number(expected)} FLOPs")
    assert told(build, {"select": {"from": "python", "method": method}}, LIMITED)[0] == []


def test_several_models_read_the_sample_alone(build):
    method = {"name": "preselect", "models": ["small", "small"], "sample": 100}
    (text,), made = told(build, {"select": {"from": "python", "method": method}}, LIMITED)
    (small,) = [planned.cost for planned in made.steps if planned.step.stage == "small"]
    expected = 2 * small.flops / small.tokens / 3 * 100 * 512 / 4
    assert f"about {format_number(expected)} FLOPs" in text


def test_a_model_that_writes_reads_its_prompts_too(build):
    method = {"name": "wrap", "chunk": 100}
    writer = {"name": "model", "from": "small", "max_tokens": 50}
    stage = {"synthesize": {"from": "python", "limit": "40k", "method": method, "writer": writer}}
    (text,), made = told(build, stage, LIMITED)
    (small,) = [planned.cost for planned in made.steps if planned.step.stage == "small"]
    # 100 pieces of 100 tokens, with the prompt's own 80, and 50 written for each at most.
    expected = small.flops / small.tokens / 3 * 100 * (100 + 80 + 50)
    assert text.startswith(f"writing by small takes about {format_number(expected)} FLOPs")


def test_without_a_bound_the_cost_is_said_to_be_unknown(build):
    stage = {"select": {"from": "python", "method": {"name": "perplexity", "model": "small"}}}
    gone = dict.fromkeys(PARTS)
    made = plan(build({**gone, "it": stage}, corpora={"python": {"source": "jsonl", "uri": "x"}}))
    assert any("is not known, since nothing bounds the text" in note.text for note in made.notes)
