"""The ledger of samples: it names what was used, and notices another order."""

import json
from collections import Counter

import pytest

from graftwork.errors import RunError
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.ledger import Ledger, samples
from graftwork_train.loop.loader import Loader, Source


@pytest.fixture
def make(tmp_path, tokens):
    folder = tokens(tmp_path / "t")

    def build(seed=1, weights=None, cursor=None, replayed=0):
        phases = [(0, weights)] if weights else []
        new = Source(TokenShards.open(folder), seed, cursor, phases=phases)
        older = Source(TokenShards.open(folder), 5) if replayed else None
        return Loader(new, 8, True, older, replayed)

    return build


def filled(loader, steps):
    ledger = Ledger(loader)
    for step in range(steps):
        ledger.add(step, loader.digest(step))
    return ledger


def stored(ledger, step):
    return json.loads(json.dumps(ledger.state(step)))


def test_the_cursors_say_how_far_every_stream_was_read(make):
    assert stored(filled(make(), 5), 5)["streams"][0]["cursor"] == {"": 40}
    mixed = make(weights={"code": 0.75, "prose": 0.25}, cursor={"code": 3}, replayed=2)
    data, replay = stored(filled(mixed, 4), 4)["streams"]
    # 24 new sequences in all, on top of the three of an earlier stage.
    assert data["cursor"] == {"code": 21, "prose": 6}
    assert replay["cursor"] == {"": 8}


def test_a_ledger_that_went_on_is_the_ledger_of_a_straight_training(make):
    straight = stored(filled(make(), 60), 60)
    resumed = Ledger(make())
    resumed.resume(stored(filled(make(), 33), 33))
    for step in range(33, 60):
        resumed.add(step, make().digest(step))
    assert stored(resumed, 60) == straight
    assert straight["anchor"]["step"] == 44


def test_a_batch_that_was_taken_and_not_trained_on_is_not_in_the_state(make):
    ahead = filled(make(), 31)
    assert stored(ahead, 30)["digest"] == stored(filled(make(), 30), 30)["digest"]


def test_going_back_and_forth_without_a_checkpoint_asks_the_order_only(make, monkeypatch):
    loader = make()
    ledger = filled(loader, 1400)
    asked = []
    digest = Loader.digest
    monkeypatch.setattr(
        Loader, "digest", lambda self, step: asked.append(step) or digest(self, step)
    )
    ledger.add(1200, digest(loader, 1200))
    assert stored(ledger, 1201)["digest"] == stored(filled(loader, 1201), 1201)["digest"]
    # From the nearest step that was remembered on, and not from the first.
    assert asked[:176] == list(range(1024, 1200))


def test_going_back_to_an_earlier_step_forgets_what_came_after(make):
    loader = make()
    ledger = filled(loader, 60)
    ledger.resume(stored(filled(loader, 20), 20))
    for step in range(20, 25):
        ledger.add(step, loader.digest(step))
    assert stored(ledger, 25) == stored(filled(loader, 25), 25)


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"cursor": {"": 8}}, {"weights": {"code": 0.5, "prose": 0.5}}]
)
def test_another_order_is_noticed_when_a_training_goes_on(make, other):
    state = stored(filled(make(), 10), 10)
    with pytest.raises(RunError, match="in another order") as caught:
        Ledger(make(**other)).resume(state)
    assert "step 10" in caught.value.what


def test_samples_writes_out_what_every_step_used(make):
    loader = make(weights={"code": 0.5, "prose": 0.5}, replayed=2)
    written = list(samples(loader, 3, 40))
    for step in range(3, 40):
        mine = [sample for sample in written if sample.step == step]
        assert [(s.domain, s.row) for s in mine] == [place for _, place in loader.places(step)]
        assert [s.role for s in mine] == ["data"] * 6 + ["replay.data"] * 2
    first = [s for s in samples(loader, 0, 40) if s.role == "data" and s.domain == "prose"]
    epochs = Counter(sample.epoch for sample in first)
    length = loader.new.lengths()["prose"]
    assert epochs[0] == min(length, len(first))
    assert len({sample.row for sample in first if sample.epoch == 0}) == epochs[0]
