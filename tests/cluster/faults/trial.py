"""One run with one fault: watched from its submission until nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import left
from checkpoints import Seen
from kinds import Fault, NoTargetError, Target
from kubernetes.client import ApiException
from place import Place
from urllib3.exceptions import HTTPError
from workflow import EVERY, Planned, weights

from graftwork.cluster.pipelines import Pipelines, RunState
from graftwork.errors import RunError

Json = dict[str, Any]
LOOK, ASK = 1.0, 3.0
TIMEOUT = 900.0
# Seconds in which a run that its user terminated must be gone, and another one's leftovers.
GONE, TIDY = 30.0, 60.0
# Seconds of a run's beginning: after its submission, and after the start of the training's head.
EARLY = {False: 60.0, True: 20.0}


@dataclass
class Strike:
    """A fault that one run suffers, or several at the same moment.

    Attributes:
        name: Of its kind.
        fault: What it does.
        early: Share of EARLY seconds after the submission, or after the start of the training's
            head, at which it strikes; None where it strikes later.
        share: Share of the training's steps after which it strikes then.
        seed: Of what it hits.
        at: When it struck.
        hit: What.
    """

    name: str
    fault: Fault
    early: float | None
    share: float
    seed: int
    at: float = 0.0
    hit: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def try_at(self, target: Target) -> bool:
        """Do it; False while there is nothing to do it to."""
        with self._lock:
            if self.at:
                return True
            try:
                began = time.time()
                self.hit = self.fault.inject(target)
                self.at = began
            except NoTargetError:
                return False
            return True


class Trial:
    """A run that is watched.

    Args:
        place: The cluster.
        planned: What to run.
        strike: What is done to it; nothing for the run that the others are compared with.
        expected: Digests of an undisturbed one's weights; nothing for that one itself.
    """

    def __init__(
        self,
        place: Place,
        planned: Planned,
        strike: Strike | None = None,
        expected: dict[str, str] | None = None,
    ) -> None:
        self.place, self.planned, self.strike = place, planned, strike
        self.expected = expected
        self.pipelines = Pipelines()
        self.seen = Seen()
        self.run_id = ""
        self.submitted = self.ended = self.head = 0.0
        self.committed = 0
        self.problems: list[str] = []
        self.told: Json = {}
        self._struck = 0.0
        self._state: RunState | None = None
        self._again = 0.0

    def run(self) -> None:
        """Submit, strike, wait for the end, and judge it."""
        try:
            self._watch()
            self.told = self._report()
        except Exception as error:  # one run that cannot be judged does not end the campaign
            traceback.print_exc()
            nothing: Json = {"recovered": None, "lost": 0, "orphans": []}
            name = self.strike.name if self.strike else "none"
            told = {"fault": name, "run": self.run_id, "problems": [repr(error)]}
            self.told = told | nothing | {"survived": False}

    def _watch(self) -> None:
        self.submitted = time.time()
        self.run_id = submit(self.planned.path)
        while not self.ended:
            with contextlib.suppress(ApiException, HTTPError):  # the control plane is busy
                self._look()
                if self.strike and not self._struck:
                    self._strike(self.strike)
                self._ask()
            if time.time() - self.submitted > TIMEOUT:
                self.problems.append(f"not over after {TIMEOUT:.0f} s; cancelled")
                self.pipelines.cancel(self.run_id)
                self.ended = time.time()
            time.sleep(LOOK)

    def _look(self) -> None:
        try:
            self.seen.note(list(self.planned.store.files.sizes(self.planned.work)))
        except RunError:
            return  # the server is the one that is down
        if not self.head and self._training_has_begun():
            self.head = time.time()

    def _training_has_begun(self) -> bool:
        pods = self.place.parts(self.run_id, "head")
        return any(pod.metadata.labels["graftwork.dev/step"] == "base" for pod in pods)

    def _strike(self, strike: Strike) -> None:
        if not self._due(strike):
            return
        committed = self.seen.committed()
        chance = random.Random(strike.seed)
        target = Target(self.place, self.pipelines, self.run_id, chance)
        try:
            if strike.try_at(target):
                self._struck, self.committed = strike.at, committed
        except Exception as error:  # the campaign goes on, and tells of it
            self.problems.append(f"the fault could not be injected: {error}")
            self._struck = time.time()

    def _due(self, strike: Strike) -> bool:
        if strike.at:
            return True
        if strike.early is None:
            return self.seen.committed() >= strike.share * (self.planned.steps - EVERY)
        since = self.head if strike.fault.of_ray else self.submitted
        return bool(since) and time.time() - since >= strike.early * EARLY[strike.fault.of_ray]

    def _ask(self) -> None:
        if time.time() < self._again:
            return
        self._again = time.time() + ASK
        try:
            self._state = self.pipelines.state(self.run_id)
        except RunError:
            return
        if self._state.ended or (self._is_terminated() and self._is_gone()):
            self.ended = time.time()

    def _is_terminated(self) -> bool:
        return bool(self._struck and self.strike and self.strike.name == "terminate")

    def _is_gone(self) -> bool:
        return not left.live(self.place, self.run_id)

    def _report(self) -> Json:
        """What became of it."""
        terminated = self._is_terminated()
        limit = GONE - (time.time() - self._struck) if terminated else TIDY
        orphans = left.after(self.place, self.planned, self.run_id, limit, ended=not terminated)
        if terminated:
            self.ended = time.time()
            if self.ended - self._struck > GONE:
                self.problems.append(f"it was not gone within {GONE:.0f} s")
        succeeded = bool(self._state and self._state.succeeded)
        if not terminated and not succeeded:
            self.problems.append(f"the run ended as {self._state.state if self._state else '?'}")
        if self.strike and not self._struck:
            self.problems.append("the run was over before the fault")
        lost = self._lost(terminated=terminated)
        same = succeeded and (self.expected in (None, weights(self.planned)))
        if succeeded and not same:
            self.problems.append("the weights are not those of the undisturbed run")
        survived = not self.problems and not lost and not orphans
        return {
            "fault": self.strike.name if self.strike else "none",
            "hit": self.strike.hit if self.strike else "",
            "run": self.run_id,
            "instant": round(self._struck - self.submitted, 1) if self._struck else None,
            "committed": self.committed,
            "survived": survived,
            "recovered": self._recovered(terminated=terminated, succeeded=succeeded),
            "lost": lost,
            "same_weights": same if not terminated else None,
            "attempts": len({attempt for _, attempt in self.seen.folders}),
            "orphans": orphans,
            "seconds": round(self.ended - self.submitted, 1),
            "problems": self.problems,
        }

    def _recovered(self, *, terminated: bool, succeeded: bool) -> float | None:
        """Seconds from the fault to the next step that nobody had trained before, or the end."""
        if not self._struck:
            return None
        again = None
        if not terminated:
            last = bool(self.strike and self.strike.fault.of_ray)
            again = self.seen.beyond(self.committed, self._struck, last=last)
        if again is None and (succeeded or terminated):
            again = self.ended
        return round(again - self._struck, 1) if again else None

    def _lost(self, *, terminated: bool) -> int:
        if terminated:
            if weights(self.planned):
                return 0  # it was done before it could be ended
            names = list(self.planned.store.files.sizes(self.planned.work))
            now = Seen()
            now.note(names)
            return max(0, self.committed - now.committed())
        return self.seen.lost(self.committed, self._struck, EVERY)


def submit(path: Path) -> str:
    """Start a run of a spec, as a user does."""
    command = [sys.executable, "-m", "graftwork.cli", "submit", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return str(json.loads(done.stdout)["run_id"])


def side_by_side(actions: list[Callable[[], None]]) -> None:
    """Do all of them at once."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
