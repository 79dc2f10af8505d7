"""What a training tells Prometheus, and that it never waits for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graftwork.errors import RunError
from graftwork.metrics import METRICS_ADDRESS, RUN_VARIABLE, TRAINING, find
from graftwork.spec.resources import Pool
from graftwork_train.loop import exporter, telemetry
from graftwork_train.loop.exporter import PipeSink, serve, sink
from graftwork_train.loop.peak import device_peak, peak_of
from graftwork_train.loop.step import Place
from graftwork_train.stages.base import perform
from graftwork_train.stages.train import train

assert train

# Only of a mixture of experts.
EXPERTS = {"graftwork_expert_balance", "graftwork_expert_max_load"}


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self):
        self.told = []
        self.closed = False

    def send(self, values):
        for name in values:
            find(name)
        self.told.append(dict(values))

    def close(self):
        self.closed = True

    def last(self):
        return {name: value for values in self.told for name, value in values.items()}


@pytest.fixture
def heard(monkeypatch):
    found = Heard()
    monkeypatch.setattr(exporter, "sink", lambda labels: found)
    return found


def with_pool(job, **changes):
    return replace(job, step=job.step.model_copy(update={"pool": Pool(**changes)}))


def test_a_training_tells_every_metric_that_applies(make_job, word, heard):
    stage = word(checkpoint_every=8)
    job = with_pool(make_job(stage), accelerator_peak="1e12 flops/s")
    outcome = perform(stage, job)
    last = heard.last()
    assert set(last) == {metric.name for metric in TRAINING} - EXPERTS
    assert last["graftwork_step"] == last["graftwork_steps_planned"] == 20
    assert last["graftwork_flops_done"] == last["graftwork_flops_planned"] == outcome.flops
    assert last["graftwork_eta_seconds"] == 0
    assert last["graftwork_held_out_loss"] == pytest.approx(outcome.metrics["loss"])
    assert sum(values.get("graftwork_checkpoints", 0) for values in heard.told) == 2
    mfu = last["graftwork_tokens_per_second"] * outcome.flops / outcome.tokens / 1e12
    assert last["graftwork_mfu"] == pytest.approx(mfu)
    assert heard.closed


def test_a_mixture_of_experts_tells_the_load_of_its_experts(make_job, word, heard):
    model = {"layers": 1, "width": 32, "heads": 4, "ffn": 48, "experts": {"count": 4, "top_k": 2}}
    stage = word(model=model)
    perform(stage, make_job(stage))
    assert set(heard.last()) >= EXPERTS
    assert 1 <= heard.last()["graftwork_expert_max_load"] <= 4


def test_no_utilization_is_told_where_the_peak_is_unknown(make_job, word, heard):
    perform(word(), make_job(word()))
    assert "graftwork_mfu" not in heard.last()


def test_a_gradient_that_is_not_finite_is_told_before_the_training_ends(make_job, word, heard):
    stage = word(schedule={"name": "wsd", "peak": 1.0, "warmup": "0 steps"}, clip=1e30, optimizer={
        "name": "adamw", "eps": 1e-30, "weight_decay": 1e30,
    })  # fmt: skip
    with pytest.raises(RunError, match="not finite"):
        perform(stage, make_job(stage))
    assert heard.last()["graftwork_not_finite"] == 1


def test_on_a_cluster_the_end_waits_until_the_failure_has_been_scraped(
    make_job, word, heard, monkeypatch
):
    slept = []
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    monkeypatch.setattr(telemetry.time, "sleep", slept.append)
    monkeypatch.setattr(exporter, "exports", lambda: True)
    test_a_gradient_that_is_not_finite_is_told_before_the_training_ends(make_job, word, heard)
    assert slept == []
    monkeypatch.setenv(RUN_VARIABLE, "run-7")
    test_a_gradient_that_is_not_finite_is_told_before_the_training_ends(make_job, word, heard)
    assert slept == [telemetry.LAST_SECONDS]


def test_without_ray_nothing_is_exported(monkeypatch):
    monkeypatch.delenv(METRICS_ADDRESS, raising=False)
    assert sink({"run": "r"}) is None


def test_only_the_first_worker_exports(monkeypatch, make_job, word):
    asked = []
    monkeypatch.setattr(exporter, "sink", asked.append)
    plan = type("Plan", (), {"peak": None, "labels": {"run": "r"}})
    telemetry.Telemetry(plan, Place(rank=1, workers=2))
    assert asked == []
    telemetry.Telemetry(plan, Place(rank=0, workers=2))
    assert asked == [{"run": "r"}]


def test_an_exporter_that_hangs_or_dies_keeps_nobody():
    # It connects to a Ray that is not there, for longer than this test lasts.
    pipe = PipeSink({"run": "r"}, "127.0.0.1:1")
    values = {metric.name: 1.0 for metric in TRAINING}
    for _ in range(1000):  # more than a pipe holds
        pipe.send(values)
    pipe._process.kill()
    pipe._process.wait()
    pipe.send(values)
    pipe.close()


def test_the_exporter_passes_on_line_by_line(monkeypatch):
    heard = Heard()
    monkeypatch.setattr(exporter, "RaySink", lambda labels: heard)
    serve(['{"graftwork_step": 3}\n', '{"graftwork_loss": 2.5}\n'], {"run": "r"})
    assert heard.told == [{"graftwork_step": 3}, {"graftwork_loss": 2.5}]


@pytest.mark.parametrize(("address", "kept"), [("127.0.0.1:6379", True), ("10.0.0.7:6379", False)])
def test_the_exporter_looks_for_a_cluster_s_ray_on_the_network(monkeypatch, address, kept):
    started = {}
    processes = []

    def start(command, *, env, **options):
        started.update(env)
        processes.append(popen(["true"], **options))
        return processes[-1]

    popen = exporter.subprocess.Popen
    monkeypatch.setattr(exporter.subprocess, "Popen", start)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    PipeSink({}, address).close()
    assert [process.wait(timeout=30) for process in processes] == [0]
    assert started["RAY_ADDRESS"] == address
    assert ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" in started) is kept


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L400", None),
        ("Tesla T4", None),
    ],
)
def test_peaks_are_found_by_a_device_s_whole_name(name, peak):
    assert peak_of(name) == peak


def test_a_cpu_has_no_peak():
    assert device_peak(Place(device=torch.device("cpu"))) is None
