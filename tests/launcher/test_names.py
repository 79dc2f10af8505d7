import re

import pytest

from graftwork.cluster.names import LENGTH, job_labels, job_name


@pytest.mark.parametrize("step", ["a", "large-s18", "a" * 30, "x" * 25 + "-s2147483647"])
def test_a_job_s_name_is_one_that_kuberay_takes(step):
    name = job_name("0f3c-run", step)
    assert len(name) <= LENGTH
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


def test_a_retried_pod_derives_the_same_name():
    assert job_name("run", "large") == job_name("run", "large")


def test_other_runs_and_other_steps_have_other_names():
    names = {job_name(run, step) for run in ("r1", "r2") for step in ("large", "large-s18")}
    assert len(names) == 4


def test_long_steps_that_begin_alike_have_other_names():
    assert job_name("r", "a" * 40 + "-s1") != job_name("r", "a" * 40 + "-s2")


def test_labels_are_values_that_kubernetes_takes():
    labels = job_labels("84cfba96-c3af", "tour", "base", "a98d7862cf37f2354096")
    assert all(
        re.fullmatch(r"[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?", value) for value in labels.values()
    )
    assert all(len(value) <= 63 for value in labels.values())
