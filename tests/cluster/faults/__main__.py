"""Runs of a small workflow on a cluster, each with a fault at a random instant.

    python tests/cluster/faults --runs 24 --seed 1 --save results.json

README.md of the folder above says what is needed. Prints a line of JSON for every run, and a
table at the end; the exit code is 0 where all of them survived.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kinds import FAULTS
from place import Place, enter, read_settings
from table import table
from trial import Pace, Strike, Trial, side_by_side
from workflow import Planned, plan, share

Json = dict[str, Any]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=24, help="how many runs with a fault")
    parser.add_argument("--seed", type=int, default=0, help="of what is hit, and when")
    parser.add_argument("--together", type=int, default=2, help="how many runs side by side")
    parser.add_argument("--minutes", type=float, default=90, help="no run begins later than that")
    parser.add_argument(
        "--only", action="append", choices=sorted(FAULTS), help="these faults; may be repeated"
    )
    parser.add_argument("--save", type=Path, help="write all results into this JSON file")
    return parser.parse_args()


def schedule(
    names: list[str], runs: int, together: int, chance: random.Random
) -> list[list[Strike]]:
    """Who is hit by what: rounds of runs side by side, their faults in random order.

    A fault that hits the whole cluster hits all runs of its round, at the same moment.
    """
    drawn = [names[number % len(names)] for number in range(runs)]
    local = [name for name in drawn if not FAULTS[name].shared]
    chance.shuffle(local)
    rounds = [local[first : first + together] for first in range(0, len(local), together)]
    for name in sorted({name for name in drawn if FAULTS[name].shared}):
        count = drawn.count(name)
        rounds += [[name] * min(together, count - first) for first in range(0, count, together)]
    chance.shuffle(rounds)
    return [_strikes(names, chance) for names in rounds]


def _strikes(names: list[str], chance: random.Random) -> list[Strike]:
    def strike(name: str) -> Strike:
        share_ = 0.03 + 0.87 * chance.random()
        return Strike(name, FAULTS[name], share_, chance.randrange(2**31))

    if FAULTS[names[0]].shared:
        return [strike(names[0])] * len(names)
    return [strike(name) for name in names]


class Campaign:
    """All runs."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.paces: dict[str, Pace] = {}
        self.data: Planned | None = None
        self.results: list[Json] = []

    def reference(self, shape: str) -> None:
        """A run that nothing disturbs, for what the others are compared with."""
        trial = self._trial(shape, None)
        trial.run()
        told = trial.report()
        self._tell(told)
        if not told["survived"]:
            raise SystemExit(f"the undisturbed run did not succeed: {told}")
        self.paces[shape] = trial.measured()
        if self.data is None:
            self.data = trial.planned

    def round(self, strikes: list[Strike]) -> None:
        """Runs side by side, and what became of them."""
        trials = [self._trial(strike.fault.shape, strike) for strike in strikes]
        side_by_side([trial.run for trial in trials])
        for trial in trials:
            told = trial.report()
            self._tell(told)
            self.results.append(told)
            if told["survived"]:
                trial.planned.store.files.clear(trial.planned.root)

    def _trial(self, shape: str, strike: Strike | None) -> Trial:
        planned = plan(self.place.settings, self.folder, shape)
        if self.data is not None:
            share(self.data, planned)
        return Trial(self.place, planned, strike, self.paces.get(shape))

    def _tell(self, told: Json) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def main() -> int:
    arguments = parse()
    settings = read_settings()
    enter(settings)
    names = [name for name in FAULTS if not arguments.only or name in arguments.only]
    if not settings.faults.get("storage") and "storage" in names:
        names.remove("storage")
        sys.stderr.write("the settings name no way to stop the storage: that is left out\n")
    end = time.monotonic() + 60 * arguments.minutes
    rounds = schedule(names, arguments.runs, arguments.together, random.Random(arguments.seed))
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Place(settings), Path(folder))
        for shape in sorted({strike.fault.shape for one in rounds for strike in one}):
            campaign.reference(shape)
        for strikes in rounds:
            if time.monotonic() < end:
                campaign.round(strikes)
    results = campaign.results
    text = table(results)
    sys.stdout.write(text)
    if arguments.save:
        _save(arguments.save, arguments.seed, campaign)
    done = len(results) == arguments.runs
    return 0 if done and all(one["survived"] for one in results) else 1


def _save(path: Path, seed: int, campaign: Campaign) -> None:
    document = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "seed": seed,
        "undisturbed_seconds": {
            shape: round(pace.whole, 1) for shape, pace in campaign.paces.items()
        },
        "survived": sum(one["survived"] for one in campaign.results),
        "runs": campaign.results,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
