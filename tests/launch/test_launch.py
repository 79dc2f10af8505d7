"""One step from its JSON to KFP's outputs; only the training process itself is replaced."""

import json
import threading

import pytest
from tests.store.conftest import as_input, make_record, make_step

from graftwork import launch
from graftwork.errors import RunError
from graftwork.spec.stages import Compare, Evaluate, Prepare
from graftwork.spec.workflow import Stage
from graftwork.store import Store

PREPARE = Prepare.model_validate({"from": ("web",), "context": 64})
EVALUATE = Evaluate.model_validate({"from": "small", "data": "tokens"})


class Output:
    """What KFP gives a component for an output."""

    def __init__(self, path):
        self.path = str(path)
        self.metrics = {}

    def log_metric(self, metric, value):
        self.metrics[metric] = value

    def text(self):
        with open(self.path, encoding="utf-8") as file:
            return file.read()


@pytest.fixture
def outputs(tmp_path):
    return {name: Output(tmp_path / f"kfp/{name}") for name in
            ("record", "metrics", "report", "summary")}  # fmt: skip


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "runs")


@pytest.fixture
def step(root):
    return make_step(root, PREPARE)


@pytest.fixture
def made():
    """Names of the steps that were executed."""
    return []


@pytest.fixture
def execute(made):
    def commit(step, lease, loss=2.5):
        store = Store(step.storage)
        folder = store.staging(step.uri)
        (folder / "a.bin").write_bytes(b"a")
        record = make_record(step, store)
        store.commit(folder, record.model_copy(update={"metrics": {"loss": loss}}), step.uri)
        made.append(step.name)
        return 0

    return commit


def test_a_step_is_made_once_and_its_record_handed_to_kfp(step, outputs, execute, made):
    for _ in range(2):
        assert launch.run_step(step.dumps(), **outputs, execute=execute) == step.uri
    assert made == ["prepare"]
    assert json.loads(outputs["record"].text())["fingerprint"] == step.fingerprint
    assert outputs["metrics"].metrics == {"loss": 2.5}
    assert outputs["report"].text().startswith("<!doctype html>")
    assert outputs["summary"].text().startswith("# prepare")


def test_a_damaged_artifact_is_named_set_aside_and_made_again(step, outputs, execute, made, capsys):
    launch.run_step(step.dumps(), **outputs, execute=execute)
    Store(step.storage).files.write(f"{step.uri}/a.bin", b"X")
    launch.run_step(step.dumps(), **outputs, execute=execute)
    assert made == ["prepare", "prepare"]
    assert "a.bin has the digest" in (out := capsys.readouterr().out)
    assert ".corrupt-" in out


def test_two_launches_at_once_make_the_artifact_once(step, outputs, execute, made):
    begun, go_on = threading.Event(), threading.Event()

    def slowly(step, lease):
        begun.set()
        go_on.wait(10)
        return execute(step, lease)

    launches = [
        threading.Thread(
            target=launch.run_step, args=(step.dumps(),), kwargs={**outputs, "execute": run}
        )
        for run in (slowly, execute)
    ]
    launches[0].start()
    assert begun.wait(10)
    launches[1].start()
    launches[1].join(0.3)
    assert launches[1].is_alive()
    go_on.set()
    for thread in launches:
        thread.join(10)
    assert made == ["prepare"]


def test_a_failed_stage_ends_the_step_with_its_exit_code(step, outputs):
    with pytest.raises(SystemExit) as caught:
        launch.run_step(step.dumps(), **outputs, execute=lambda step, lease: 3)
    assert caught.value.code == 3


def test_a_stage_that_leaves_no_record_has_failed(step, outputs, capsys):
    with pytest.raises(SystemExit) as caught:
        launch.run_step(step.dumps(), **outputs, execute=lambda step, lease: 0)
    assert caught.value.code == 1
    assert "its record is not there" in capsys.readouterr().out


def test_a_step_of_another_version_is_refused_in_words(step, outputs, capsys):
    with pytest.raises(SystemExit) as caught:
        launch.run_step(step.dumps().replace('"seed"', '"sede"'), **outputs)
    assert caught.value.code == 2
    assert "same version of graftwork" in capsys.readouterr().out


def conditional(root, step, text):
    after = make_step(root, EVALUATE, as_input(step, "data"))
    stage = Stage.model_validate({"evaluate": EVALUATE, "when": text})
    return after.model_copy(update={"spec": stage, "condition": as_input(step, "when")})


@pytest.fixture
def base(step, execute, made):
    """A step that is done, with a loss of 2.5."""
    execute(step, None)
    made.clear()
    return step


def test_a_step_whose_condition_is_met_is_made(root, base, outputs, execute, made):
    after = conditional(root, base, "prepare.loss < 3")
    assert launch.run_step(after.dumps(), **outputs, execute=execute) == after.uri
    assert made == ["evaluate"]


def test_a_step_whose_condition_is_not_met_is_left_out_with_all_that_follow(
    root, base, outputs, execute, made
):
    after = conditional(root, base, "prepare.loss < 2")
    reason = "skipped: when prepare.loss < 2 is not met: it is 2.5"
    assert launch.run_step(after.dumps(), **outputs, execute=execute) == reason
    assert json.loads(outputs["record"].text())["skipped"] in reason
    last = make_step(root, EVALUATE, as_input(after, "data"), seed=3)
    assert launch.run_step(last.dumps(), **outputs, execute=execute) == (
        "skipped: evaluate was skipped"
    )
    assert made == []


def test_a_condition_that_is_met_later_lifts_the_skip(root, base, outputs, execute, made):
    launch.run_step(conditional(root, base, "prepare.loss < 2").dumps(), **outputs, execute=execute)
    after = conditional(root, base, "prepare.loss < 3")
    launch.run_step(after.dumps(), **outputs, execute=execute)
    assert made == ["evaluate"]
    assert Store(base.storage).skipped(base, as_input(after, "data")) == ""


def test_a_condition_on_an_unknown_metric_names_those_there_are(root, base, outputs, capsys):
    after = conditional(root, base, "prepare.lss < 2")
    with pytest.raises(SystemExit):
        launch.run_step(after.dumps(), **outputs)
    out = capsys.readouterr().out
    assert "prepare has no metric lss" in out
    assert "It has loss" in out


def comparison(root, *arms):
    labels = [f"a{index}" for index in range(len(arms))]
    body = Compare.model_validate({"arms": {label: f"s{label}" for label in labels}})
    step = make_step(root, PREPARE)
    inputs = tuple(as_input(arm, f"arms.{label}") for label, arm in zip(labels, arms, strict=True))
    stage = Stage.model_validate({"compare": body})
    return step.model_copy(
        update={"name": "verdict", "stage": "verdict", "spec": stage, "inputs": inputs}
    )


def test_a_comparison_leaves_skipped_arms_out_while_two_remain(root, base, capsys):
    store = Store(base.storage)
    arms = [base.model_copy(update={"stage": name, "name": name}) for name in "xyz"]
    verdict = comparison(root, *arms)
    store.skip(arms[0], "when base.loss < 1 is not met")
    assert launch.skip_reason(verdict, store) == ""
    assert "a0 is left out of the comparison: x was skipped" in capsys.readouterr().out
    store.skip(arms[1], "when base.loss < 1 is not met")
    with pytest.raises(RunError, match="fewer than two arms"):
        launch.skip_reason(verdict, store)


def test_reports_link_to_the_metrics_where_a_grafana_is_named(step, outputs, execute, monkeypatch):
    execution = step.execution.model_copy(update={"grafana": "https://grafana.example.com"})
    step = step.model_copy(update={"execution": execution})
    launch.run_step(step.dumps(), **outputs, execute=execute)
    for page in ("report", "summary"):
        assert "https://grafana.example.com/d/graftwork-training?" in outputs[page].text()
        assert "var-run=%24__all" in outputs[page].text()
    monkeypatch.setenv(launch.RUN_VARIABLE, "run-7")
    launch.run_step(step.dumps(), **outputs, execute=execute)
    assert "var-run=run-7" in outputs["summary"].text()
