"""The training container's entry, on a real stage."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.store.conftest import as_input, make_record, make_step

from graftwork.artifact import RECORD
from graftwork.spec.data import TextCorpus
from graftwork.spec.stages import Evaluate, Prepare
from graftwork.store import Store, corpus_digest
from graftwork_train import run


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "runs")


@pytest.fixture
def step(tmp_path, root):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for index in range(30):
        (folder / f"{index}.txt").write_text(f"Document {index} is a short one. " * 20)
    step = make_step(root, Prepare.model_validate({"from": ("web",), "context": 32}))
    step = step.model_copy(update={"corpora": {"web": TextCorpus(source="text", uri=str(folder))}})
    return step.model_copy(update={"fingerprint": step.expected_fingerprint()})


@pytest.fixture
def perform(tmp_path, capfd):
    """Run a step's file; exit code and standard error."""

    def call(step):
        path = tmp_path / "step.json"
        path.write_text(step.dumps())
        code = run.main([str(path)])
        return code, capfd.readouterr().err

    return call


def test_a_step_leaves_an_artifact_with_its_record(step, perform):
    assert perform(step)[0] == 0
    record, path = Store(step.storage).fetch(step.uri)
    assert record.kind == "prepare"
    assert record.lineage.keys() == {step.fingerprint}
    assert record.versions["python"] == ".".join(str(part) for part in sys.version_info[:3])
    assert record.peak_memory_bytes > 10**7
    assert record.wall_seconds > 0
    assert (path / "index.json").exists()
    assert Store(step.storage).is_current(step) == record


def test_a_fingerprint_of_another_version_is_refused(step, perform):
    code, err = perform(step.model_copy(update={"fingerprint": "0" * 20}))
    assert code == 2
    assert "was compiled as 00000000000000000000" in err
    assert "same version of graftwork" in err


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"workflow": 1}'])
def test_a_file_that_is_no_step_is_refused(text, tmp_path, capfd):
    (tmp_path / "step.json").write_text(text)
    assert run.main([str(tmp_path / "step.json")]) == 2
    assert "not a step of this version" in capfd.readouterr().err


def test_a_missing_file_or_none_is_wrong_usage(tmp_path, capfd):
    assert run.main([str(tmp_path / "none.json")]) == 2
    assert run.main([]) == 2
    assert "one step file is needed" in capfd.readouterr().err


def test_an_empty_corpus_fails_in_words_and_leaves_nothing(step, perform, tmp_path):
    for path in (tmp_path / "corpus").iterdir():
        path.write_text("")
    code, err = perform(step)
    assert code == 1
    assert err.startswith("graftwork: ")
    assert "Traceback" not in err
    assert not Path(step.uri).exists()
    assert list((Path(step.storage.root) / ".staging").iterdir()) == []


def test_a_corpus_that_changed_after_planning_is_refused(step, perform, tmp_path):
    digests = {"web": corpus_digest(step.corpora["web"], step.storage)}
    step = step.model_copy(update={"source_digests": digests})
    step = step.model_copy(update={"fingerprint": step.expected_fingerprint()})
    assert perform(step)[0] == 0
    (tmp_path / "corpus/0.txt").write_text("Another text.")
    code, err = perform(step)
    assert code == 1
    assert "corpus web has changed since the workflow was planned" in err


def test_a_full_disk_fails_in_words(step, perform):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        code, err = perform(step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1
    assert "file too large" in err
    assert "ulimit" in err
    assert not Path(step.uri).exists()


@pytest.mark.parametrize(
    ("text", "number"),
    [("I/O error: No space left on device (os error 28)", 28), ("[errno 30] cannot write", 30)],
)
def test_what_rust_and_cpp_say_of_a_full_disk_is_understood(text, number):
    assert run.system_error(RuntimeError(text)).errno == number
    assert run.system_error(RuntimeError("shape mismatch (error 28)")) is None


def test_a_fault_of_ours_is_traced_in_the_log_and_told_in_a_line(step, perform, monkeypatch):
    monkeypatch.setattr(run, "perform", lambda body, job: {}["nothing"])
    code, err = perform(step)
    assert code == 1
    assert "KeyError" in err
    assert err.rstrip().splitlines()[-2].startswith("graftwork: this is a fault of graftwork")


def test_a_corrupted_input_is_set_aside_and_has_an_exit_code_of_its_own(step, root, perform):
    perform(step)
    after = make_step(
        root,
        Evaluate.model_validate({"from": "small", "data": "tokens"}),
        as_input(step, "data"),
        as_input(step, "from"),
    )
    index = Path(step.uri) / "index.json"
    index.write_bytes(index.read_bytes()[:-1] + b" ")
    code, err = perform(after)
    assert code == run.EXIT_CORRUPT_INPUT
    assert "index.json has the digest" in err
    assert "set aside as" in err
    assert not Path(step.uri).exists()
    assert len(list(Path(step.uri).parent.glob("*.corrupt-*"))) == 1


def test_lineage_counts_every_ancestor_once(step, root):
    store = Store(step.storage)
    records = {}
    for seed, flops in ((1, 10.0), (2, 20.0)):
        one = step.model_copy(update={"seed": seed, "fingerprint": f"{seed}" * 20})
        records[f"arms.a@{seed}"] = (
            one.uri,
            make_record(one, store).model_copy(
                update={"lineage": {"shared": {"stage": "s", "kind": "train", "flops": flops}}}
            ),
        )
    outcome = run.Outcome(flops=5.0, tokens=3)
    made = run.make_record(step, outcome, records, run.datetime.now(run.UTC), 1.0)
    assert made.lineage.keys() == {"shared", step.fingerprint}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_step_leaves_nothing_behind(step, tmp_path, number):
    (tmp_path / "step.json").write_text(step.dumps())
    program = (
        "import os, sys\n"
        "from graftwork_train import run\n"
        f"run.perform = lambda body, job: os.kill(os.getpid(), {int(number)})\n"
        "sys.exit(run.main([sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "step.json")],
        env=os.environ,
        check=False,
    )
    assert done.returncode == 128 + number
    assert list(Path(step.storage.root).rglob(RECORD)) == []
    assert list((Path(step.storage.root) / ".staging").iterdir()) == []
    assert json.loads((tmp_path / "step.json").read_text())["fingerprint"] == step.fingerprint
