"""What a training refuses before any worker is held, and what it makes of its words."""

import pickle

import numpy as np
import pytest

from graftwork.errors import CorruptArtifactError, RunError
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Continue
from graftwork_train.loop.plan import Start, make_plan


@pytest.fixture
def plan(make_job, word):
    """The plan of a stage: `plan(stage fields, job=…, start=…, vocab=…, longest=…)`."""

    def build(job=None, start=None, vocab=64, longest=16, **changes):
        stage = word(**changes)
        made = make_job(stage, **(job or {}))
        architecture = stage.model
        return make_plan(
            made, stage, architecture, vocab=vocab, longest=longest, start=start or Start()
        )

    return build


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab": 50}, r"^data: the tokens are of a vocabulary of 64, the model has 50"),
        ({"longest": 8}, r"^data: sequences have 16 tokens, the model was made for 8"),
        ({"job": {"steps": None, "epochs": 0.01}}, r"is less than one batch of 8 new sequences"),
        ({"job": {"sequences": 7, "workers": 2}}, r"7 sequences cannot be divided among 2"),
        (
            {"mixture": {"code": 0.5, "poems": 0.5}},
            r"the mixture names the domain 'poems', and the tokens have none to train on",
        ),
        (
            {"mixture": [
                {"at": "0%", "weights": {"code": 1.0}},
                {"at": "30 steps", "weights": {"prose": 1.0}},
            ]},
            r"phase at 30 steps would begin at step 30 and end at step 20 of 20",
        ),
        (
            {"mixture": [
                {"at": "0%", "weights": {"code": 1.0}},
                {"at": "1%", "weights": {"prose": 1.0}},
            ]},
            r"phase at 0% would begin at step 0 and end at step 0 of 20",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_what_to_do(plan, arguments, message):
    with pytest.raises(RunError, match=message) as caught:
        plan(**arguments)
    assert caught.value.remedy.endswith(".")


def test_a_shard_of_another_length_is_refused(plan, make_job, tokens, tmp_path):
    folder = tokens(tmp_path / "cut")
    data = (folder / "code.train.bin").read_bytes()
    (folder / "code.train.bin").write_bytes(data[:-6])
    with pytest.raises(CorruptArtifactError, match=rf"code\.train\.bin has {len(data) - 6} bytes"):
        plan(job={"inputs": {"data": folder}})


def test_an_id_that_is_not_in_the_vocabulary_is_named_with_its_shard(plan, tokens, tmp_path):
    folder = tokens(tmp_path / "ids")
    ids = np.fromfile(folder / "prose.train.bin", dtype="<u2")
    ids[:] = 64
    ids.tofile(folder / "prose.train.bin")
    loader = plan(job={"inputs": {"data": folder}}, mixture={"prose": 1.0}).loader()
    with pytest.raises(CorruptArtifactError, match=r"prose\.train\.bin holds token 64, above 63"):
        loader.read(0)


def test_phases_begin_at_steps_of_new_sequences(plan):
    made = plan(mixture=[
        {"at": "0%", "weights": {"code": 1.0}},
        {"at": "50%", "weights": {"prose": 1.0}},
        {"at": "1536 tokens", "weights": {"code": 0.5, "prose": 0.5}},
    ])  # fmt: skip
    assert [begin for begin, _ in made.phases()] == [0, 10 * 8, 12 * 8]
    domains = [[domain for _, (domain, _) in made.loader().places(step)] for step in (9, 10, 12)]
    assert [len(set(one)) for one in domains] == [1, 1, 2]


def test_a_plan_reaches_workers_whole(plan):
    made = plan(mixture={"code": 0.5, "prose": 0.5})
    sent = pickle.loads(pickle.dumps(made))
    assert sent == made
    assert [p for _, p in sent.loader().places(3)] == [p for _, p in made.loader().places(3)]


def test_a_continued_stage_goes_on_in_every_stream_of_its_own_data(make_job, tokens, tmp_path):
    cursor = {"data0": 40, "data0/code": 7, "data0/prose": 5, "other0/code": 99}
    shared = tokens(tmp_path / "t")

    def made(mixture, **changes):
        fields = {
            "from": "base", "data": "tokens", "budget": "20 steps",
            "schedule": {"name": "cosine"}, "mixture": mixture,
        }  # fmt: skip
        stage = Continue.model_validate(fields | changes)
        job = make_job(stage, inputs={"from": shared, "data": shared})
        architecture = Architecture.model_validate({"layers": 2, "width": 32, "heads": 4})
        start = Start(cursor)
        plan = make_plan(job, stage, architecture, vocab=64, longest=16, start=start)
        return plan.loader().new.cursor(0)

    assert made({"code": 0.5, "prose": 0.5}) == {"code": 7, "prose": 5}
    assert made(None) == {"": 40}
    assert made(None, data_cursor="restart") == {"": 0}
