"""What a training tells Prometheus: the points of its curve as the registry's metrics.

It only ever sees numbers that the host has already, once a logging interval, so that publishing
them makes nobody wait. Where they go is the exporter's business; without one they go nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from graftwork.metrics import LOCAL
from graftwork_train.loop import exporter
from graftwork_train.loop.peak import device_peak
from graftwork_train.loop.plan import Plan
from graftwork_train.loop.step import Place

# Before the first window has ended nobody knows how long one takes.
FIRST_REPORT_SECONDS = 600.0
# A failing process stays until Ray has sent its last values on and they have been scraped once.
LAST_SECONDS = 20.0

_OF_A_POINT = {
    "loss": "graftwork_loss",
    "learning_rate": "graftwork_learning_rate",
    "grad_norm": "graftwork_grad_norm",
    "tokens_per_second": "graftwork_tokens_per_second",
    "data_wait": "graftwork_data_wait_ratio",
    "flops": "graftwork_flops_done",
    "step": "graftwork_step",
    "balance": "graftwork_expert_balance",
    "max_load": "graftwork_expert_max_load",
}


class Telemetry:
    """Publishes one training's metrics; only the first worker does.

    Args:
        plan: The training's.
        place: This worker's.
    """

    def __init__(self, plan: Plan, place: Place) -> None:
        self._plan, self._place = plan, place
        peak = plan.peak or device_peak(place)
        self._peak = peak * place.workers if peak else None
        self._sink = exporter.sink(plan.labels) if place.rank == 0 else None
        self._step = 0

    def begin(self, step: int, restarts: int) -> None:
        """Tell of a training that is at `step`, and has gone on from checkpoints so often."""
        self._step = step
        now = time.time()
        self._send(
            {
                "graftwork_step": step,
                "graftwork_steps_planned": self._plan.steps,
                "graftwork_flops_done": self._plan.flops(step),
                "graftwork_flops_planned": self._plan.flops(self._plan.steps),
                "graftwork_restarts": restarts,
                "graftwork_sparsity": self._plan.sparsity(step),
                "graftwork_not_finite": 0,
                "graftwork_progress_timestamp_seconds": now,
                "graftwork_report_seconds": FIRST_REPORT_SECONDS,
                "graftwork_checkpoint_timestamp_seconds": now,
            }
        )

    def window(self, point: Mapping[str, Any]) -> None:
        """Tell of a window of steps, by its point of the curve."""
        rate = point["tokens_per_second"]
        seconds = self._plan.tokens_per_step / rate
        done, self._step = point["step"] - self._step, point["step"]
        values = {name: point[key] for key, name in _OF_A_POINT.items() if key in point}
        values |= {
            "graftwork_sparsity": self._plan.sparsity(point["step"]),
            "graftwork_step_seconds": seconds,
            "graftwork_eta_seconds": (self._plan.steps - point["step"]) * seconds,
            "graftwork_progress_timestamp_seconds": time.time(),
            "graftwork_report_seconds": done * seconds,
            "graftwork_checkpoint_interval_seconds": self._plan.word.checkpoint_every * seconds,
        }
        if self._peak is not None:
            before = self._plan.flops(point["step"] - done)
            flops = (self._plan.flops(point["step"]) - before) / (done * self._plan.tokens_per_step)
            values["graftwork_mfu"] = rate * flops / self._peak
        self._send(values)

    def held_out(self, loss: float) -> None:
        """Tell of the held-out loss, in nats per token."""
        self._send({"graftwork_held_out_loss": loss})

    def checkpoint(self, seconds: float) -> None:
        """Tell of a checkpoint that has held the training up for so long."""
        self._send(
            {
                "graftwork_checkpoint_seconds": seconds,
                "graftwork_checkpoint_timestamp_seconds": time.time(),
                "graftwork_checkpoints": 1,
            }
        )

    def not_finite(self) -> None:
        """Tell that the training fails for a gradient that is not finite; all workers call it.

        Returns once that has had the time to reach Prometheus: the process, and after it its pod,
        is about to end. In a local run it returns at once.
        """
        self._send({"graftwork_not_finite": 1})
        if exporter.exports() and self._plan.labels.get("run", LOCAL) != LOCAL:
            time.sleep(LAST_SECONDS)

    def close(self) -> None:
        """Let go of the exporter."""
        if self._sink is not None:
            self._sink.close()

    def _send(self, values: Mapping[str, float]) -> None:
        if self._sink is not None:
            self._sink.send(values)
