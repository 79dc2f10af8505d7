import pytest

from graftwork.errors import RunError
from graftwork.spec.data import StdlibCorpus
from graftwork.store import artifacts

from .conftest import EVALUATE, as_input, make_step


@pytest.fixture
def chain(root, step, commit):
    """A step, and a step made from it, both committed."""
    after = make_step(root, EVALUATE, as_input(step, "data"), seed=1)
    commit(step, {"a": b"1"})
    commit(after, {"b": b"1"})
    return step, after


def test_a_step_is_done_when_its_record_files_and_inputs_are_current(store, chain):
    step, after = chain
    assert store.state(step).record is not None
    assert store.is_current(after).inputs["data"].fingerprint == step.fingerprint


def test_an_input_that_was_rebuilt_to_the_same_content_changes_nothing(store, chain, commit):
    step, after = chain
    commit(step, {"a": b"1"})
    assert store.is_current(after) is not None


def test_an_input_that_was_rebuilt_to_other_content_outdates_what_was_made_from_it(
    store, chain, commit
):
    step, after = chain
    commit(step, {"a": b"2"})
    assert store.is_current(step) is not None
    state = store.state(after)
    assert state.reason == "its input prepare has changed"
    assert not state.corrupt


def test_a_missing_or_damaged_input_outdates_what_was_made_from_it(store, chain):
    step, after = chain
    store.set_aside(step.uri)
    assert store.state(after).reason == "its input prepare has changed"


def test_an_input_that_is_left_out_now_outdates_what_was_made_with_it(store, chain):
    step, after = chain
    store.skip(step, "when base.loss < 1 is not met")
    assert store.skipped(after, after.inputs[0]) == "when base.loss < 1 is not met"
    assert "skipped now" in store.state(after).reason
    store.unskip(step)
    assert store.is_current(after) is not None


def test_another_fingerprint_at_the_same_place_is_corruption(store, chain):
    step, _ = chain
    other = step.model_copy(update={"seed": 3})
    assert store.state(other).record is not None
    moved = step.model_copy(update={"fingerprint": "0" * 20})
    store.files.move(step.uri, moved.uri)
    assert store.state(moved).corrupt


def test_another_python_outdates_what_was_made_from_its_library(
    store, root, step, commit, monkeypatch
):
    corpora = {"web": StdlibCorpus(source="stdlib")}
    step = step.model_copy(update={"corpora": corpora})
    commit(step, {"a": b"1"})
    assert store.is_current(step) is not None
    monkeypatch.setattr(artifacts, "python_version", lambda: "3.99.0")
    assert store.state(step).reason == "it was made from another Python's library"


def test_large_artifacts_are_skipped_by_size_and_verified_by_their_readers(
    store, chain, monkeypatch
):
    step, _ = chain
    (artifacts.local_path(step.uri) / "a").write_bytes(b"X")
    assert store.state(step).corrupt
    monkeypatch.setattr(artifacts, "VERIFIED_BYTES", 0)
    assert store.is_current(step) is not None
    with pytest.raises(RunError, match="digest"):
        store.fetch(step.uri)


def test_inputs_of_one_role_are_told_apart_by_seed(step):
    arms = [as_input(step.model_copy(update={"seed": seed}), "arms.a") for seed in (17, 18)]
    after = step.model_copy(update={"inputs": (*arms, as_input(step, "arms.b"))})
    assert [key for key, _ in artifacts.keyed_inputs(after)] == ["arms.a@17", "arms.a@18", "arms.b"]
