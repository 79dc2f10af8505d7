import io

import pytest
from rich.console import Console

from graftwork.local.display import Lines, LiveTable, details_of, visible
from graftwork.local.watch import Status


def test_lines_are_written_when_a_state_changes_and_not_at_every_look():
    stream = io.StringIO()
    lines = Lines(stream)
    status = Status("a", "train", "running")
    for _ in range(3):
        lines.update([status], [status])
    status.state, status.loss, status.ended = "done", 2.5, 1.0
    lines.update([status], [status])
    first, second = stream.getvalue().splitlines()
    assert first == "a: running"
    assert second.startswith("a: done, loss 2.500")


def test_a_running_step_tells_progress_loss_and_speed():
    status = Status("a", "train", "running", done=1000, total=2000, unit="steps")
    status.loss, status.tokens_per_second = 2.5, 12_000
    assert details_of(status)[:3] == ["1k of 2k steps", "loss 2.500", "12k tokens/s"]


def test_the_live_table_shows_steps_with_their_states():
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=10)
    with LiveTable(console) as table:
        steps = [Status("a", "train", "running", done=1, total=2), Status("b", "grow", "waiting")]
        table.update(steps, steps)
    shown = console.file.getvalue()
    assert "a" in shown
    assert "waiting" in shown


@pytest.mark.parametrize(("current", "first"), [(0, 0), (50, 45), (99, 90)])
def test_of_many_steps_those_around_the_running_one_are_shown(current, first):
    steps = [Status(str(index), "train", ended=float(index < current)) for index in range(100)]
    steps[current].state = "running"
    shown = visible(steps, 10)
    assert len(shown) == 10
    assert shown[0].name == str(first)
    assert steps[current] in shown
