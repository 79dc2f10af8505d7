"""The faults: what each one does, to one run or to all of them, and when it may strike."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from place import Place, shell

from graftwork.cluster.pipelines import Pipelines

OUTAGE = 30.0
# Fills the memory of the container that it runs in with processes that are smaller than the
# training, so that the kernel ends the training first, as where that itself had grown.
_EAT = """
import os, sys, time
def size(pid):
    try:
        return int(open(f'/proc/{pid}/statm').read().split()[1]) * 4096
    except OSError:
        return 0
def training():
    found = [(size(p), int(p)) for p in os.listdir('/proc') if p.isdigit() and runs(p)]
    return max(found, default=(0, 0))
def runs(pid):
    try:
        line = open(f'/proc/{pid}/cmdline').read()
    except OSError:
        return False
    return 'graftwork_train.run' in line and 'python' in line.split(chr(0))[0]
target = training()[1]
if not target:
    sys.exit(3)
children = []
while os.path.exists(f'/proc/{target}') and len(children) < 400:
    child = os.fork()
    if not child:
        block = bytearray(64 * 2**20)
        block[::4096] = b'x' * len(block[::4096])
        time.sleep(60)
        os._exit(0)
    children.append(child)
    time.sleep(0.05)
for child in children:
    try:
        os.kill(child, 9)
    except OSError:
        pass
sys.exit(0 if not os.path.exists(f'/proc/{target}') else 4)
"""


class NoTargetError(Exception):
    """There is nothing yet that the fault could hit."""


@dataclass(frozen=True)
class Target:
    """What a fault is done to."""

    place: Place
    pipelines: Pipelines
    run_id: str
    chance: random.Random


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        inject: Does it; returns what it was done to, at once.
        shared: Whether it hits every run of the cluster.
        shape: Of the pool that it needs.
        of_ray: Whether it strikes while the Ray cluster is there, and not at any other time.
    """

    inject: Callable[[Target], str]
    shared: bool = False
    shape: str = "alone"
    of_ray: bool = False


def _one(pods: list[Any], chance: random.Random) -> Any:
    if not pods:
        raise NoTargetError
    return chance.choice(sorted(pods, key=lambda pod: str(pod.metadata.name)))


def _launcher(target: Target) -> str:
    pod = _one(target.place.launchers(target.run_id), target.chance)
    target.place.kill(pod)
    return str(pod.metadata.name)


def _part(kind: str) -> Callable[[Target], str]:
    def inject(target: Target) -> str:
        pod = _one(target.place.parts(target.run_id, kind), target.chance)
        target.place.kill(pod)
        return str(pod.metadata.name)

    return inject


def _system(key: str, selector: str) -> Callable[[Target], str]:
    """Kill the pods of one of the cluster's own controllers."""

    def inject(target: Target) -> str:
        told = target.place.settings.faults.get(key, {})
        pods = target.place.pods(told.get("selector", selector), told.get("namespace"))
        if not pods:
            raise NoTargetError
        for pod in pods:
            target.place.kill(pod)
        return ", ".join(str(pod.metadata.name) for pod in pods)

    return inject


def _storage(target: Target) -> str:
    """Take the S3 server away for OUTAGE seconds, in one of the ways that the settings know."""
    way = target.chance.choice(target.place.settings.faults["storage"])
    shell(way["stop"])

    def bring_back() -> None:
        time.sleep(OUTAGE)
        shell(way["start"])

    # Not a daemon: whatever becomes of the campaign, the server comes back.
    threading.Thread(target=bring_back, name="bring-back").start()
    return str(way.get("name", way["stop"]))


def _memory(target: Target) -> str:
    pod = _one(target.place.parts(target.run_id, "head"), target.chance)
    name = str(pod.metadata.name)
    done = target.place.kubectl(
        "exec", "-i", "-n", target.place.namespace, name, "-c", "ray", "--", "python3", "-c", _EAT
    )
    if done.returncode == 3:
        raise NoTargetError
    if done.returncode == 4:
        raise AssertionError(f"the training of {name} outlived a full memory: {done.stderr}")
    return name


def _terminate(target: Target) -> str:
    target.pipelines.cancel(target.run_id)
    return target.run_id


FAULTS: dict[str, Fault] = {
    "launcher": Fault(_launcher),
    "head": Fault(_part("head"), of_ray=True),
    "worker": Fault(_part("worker"), shape="pair", of_ray=True),
    "memory": Fault(_memory, of_ray=True),
    "terminate": Fault(_terminate),
    "operator": Fault(_system("operator", "app.kubernetes.io/name=kuberay-operator"), shared=True),
    "controller": Fault(_system("controller", "app=workflow-controller"), shared=True),
    "storage": Fault(_storage, shared=True),
}
