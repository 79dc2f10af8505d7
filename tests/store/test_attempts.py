"""Attempts are numbered, the newest rules, and a superseded one notices."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from graftwork.store.attempts import SupersededError, Workspace

from .conftest import make_record


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "work")


def test_numbers_rise_and_the_newest_rules(folder):
    one, two = Workspace(folder), Workspace(folder)
    first = one.claim(first=True)
    first.check()
    second = two.claim(first=True)
    assert (first.number, second.number) == (1, 2)
    second.check()
    with pytest.raises(SupersededError, match=r"attempt 2 on .* has taken this stage over"):
        first.check()
    with pytest.raises(SupersededError):
        one.check()


def test_a_group_of_workers_supersedes_the_one_before_but_not_its_run(folder):
    run = Workspace(folder)
    run.claim(first=True)
    lost, alive = run.claim(), run.claim()
    alive.check()
    run.check()
    with pytest.raises(SupersededError):
        lost.check()
    assert run.attempts() == 3


def test_a_run_that_was_taken_over_starts_no_more_workers(folder):
    old = Workspace(folder)
    old.claim(first=True)
    Workspace(folder).claim(first=True)
    with pytest.raises(SupersededError):
        old.claim()
    assert old.attempts() == 1


def test_of_many_claims_at_once_each_gets_a_number_of_its_own(folder):
    runs = [Workspace(folder) for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda run: run.claim(first=True).number, runs))
    assert sorted(numbers) == list(range(1, 17))


def test_a_claim_that_a_crash_cut_off_keeps_its_number(folder):
    Workspace(folder).claim(first=True)
    (cut,) = Workspace(folder).files().sizes(f"{folder}/attempts")
    open(f"{folder}/attempts/{cut}", "w").close()
    assert Workspace(folder).claim(first=True).number == 2


def test_whoever_comes_after_the_work_was_finished_is_told_so(folder):
    late = Workspace(folder)
    late.claim(first=True)
    late.files().clear(folder)
    with pytest.raises(SupersededError, match="another attempt has finished this stage"):
        late.check()


def test_only_the_newest_run_commits_and_that_ends_all_attempts(store, step):
    late, run = store.workspace(step.uri), store.workspace(step.uri)
    late.claim(first=True)
    run.claim(first=True)
    for workspace, name in ((late, b"late"), (run, b"run")):
        folder = store.staging(step.uri)
        (folder / "a.bin").write_bytes(name)
        draft = make_record(step, store)
        if workspace is late:
            with pytest.raises(SupersededError):
                store.commit(folder, draft, step.uri, late)
            assert store.read_record(step.uri) is None
        else:
            store.commit(folder, draft, step.uri, run)
    assert (store.fetch(step.uri)[1] / "a.bin").read_bytes() == b"run"
    assert run.attempts() == 0
