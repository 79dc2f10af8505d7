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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinds import FAULTS
from place import Place, enter, read_settings
from table import table
from trial import Strike, Trial, side_by_side
from workflow import Planned, plan, share, weights

Json = dict[str, Any]
# Share of the faults that strike before the training's first step, or in its first ones.
BEGINNING = 0.3


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=24, help="how many runs with a fault")
    parser.add_argument("--seed", type=int, default=0, help="of what is hit, and when")
    parser.add_argument("--together", type=int, default=2, help="how many runs side by side")
    parser.add_argument("--minutes", type=float, default=90, help="no run begins later than that")
    parser.add_argument(
        "--only", action="append", choices=sorted(FAULTS), help="these faults; may be repeated"
    )
    parser.add_argument(
        "--reference", action="append", default=[], metavar="SHAPE=ROOT",
        help="an earlier campaign's undisturbed run, in place of another one",
    )  # fmt: skip
    parser.add_argument("--save", type=Path, help="write all results into this JSON file")
    parser.add_argument(
        "--go-on", action="store_true", help="keep the runs in the file, and make those that lack"
    )
    parser.add_argument(
        "--again", action="append", default=[], choices=sorted(FAULTS),
        help="with --go-on: make all runs of this fault anew; may be repeated",
    )  # fmt: skip
    found = parser.parse_args()
    if found.go_on and not found.save:
        parser.error("--go-on needs the file of --save")
    if found.again and not found.go_on:
        parser.error("--again makes runs of an earlier campaign anew: give --go-on as well")
    return found


def schedule(
    names: list[str], runs: int, done: list[str], together: int, chance: random.Random
) -> list[list[Strike]]:
    """Who is hit by what: rounds of runs side by side, their faults in random order.

    A fault that hits the whole cluster hits all runs of its round, at the same moment.
    """
    drawn = [names[number % len(names)] for number in range(runs)]
    for name in done:
        if name in drawn:
            drawn.remove(name)
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
        early = chance.random() if chance.random() < BEGINNING else None
        return Strike(name, FAULTS[name], early, chance.random(), chance.randrange(2**31))

    if FAULTS[names[0]].shared:
        return [strike(names[0])] * len(names)
    return [strike(name) for name in names]


class Campaign:
    """All runs.

    Args:
        place: The cluster.
        folder: For specs.
        results: Of runs that were made earlier.
        write: Takes what is told of each run.
    """

    def __init__(
        self, place: Place, folder: Path, results: list[Json], write: Callable[[str], object]
    ) -> None:
        self.place, self.folder, self._write = place, folder, write
        self.undisturbed: dict[str, Planned] = {}
        self.results = results

    def references(self, shapes: list[str], roots: dict[str, str]) -> None:
        """A run of each shape that nothing disturbs, for what the others are compared with.

        Args:
            shapes: Of pools.
            roots: By shape, where an earlier campaign's lies already.
        """
        plans = {
            shape: plan(self.place.settings, self.folder, shape, roots.get(shape, ""))
            for shape in shapes
        }
        trials = [Trial(self.place, plans[shape]) for shape in shapes if shape not in roots]
        side_by_side([trial.run for trial in trials])
        for trial in trials:
            self._tell(trial.told)
        if not all(weights(planned) for planned in plans.values()):
            raise SystemExit("an undisturbed run did not succeed")
        self.undisturbed = plans

    def round(self, strikes: list[Strike]) -> None:
        """Runs side by side, and what became of them."""
        trials = [self._trial(strike) for strike in strikes]
        side_by_side([trial.run for trial in trials])
        for trial in trials:
            self._tell(trial.told)
            self.results.append({"date": _today(), **trial.told})
            if trial.told["survived"]:
                trial.planned.store.files.clear(trial.planned.root)

    def _trial(self, strike: Strike) -> Trial:
        undisturbed = self.undisturbed[strike.fault.shape]
        planned = plan(self.place.settings, self.folder, strike.fault.shape)
        share(undisturbed, planned)
        return Trial(self.place, planned, strike, weights(undisturbed))

    def _tell(self, told: Json) -> None:
        self._write(json.dumps(told) + "\n")


def main() -> int:
    arguments = parse()
    settings = read_settings()
    enter(settings)
    names = [name for name in FAULTS if not arguments.only or name in arguments.only]
    if not settings.faults.get("storage") and "storage" in names:
        names.remove("storage")
        sys.stderr.write("the settings name no way to stop the storage: that is left out\n")
    out = sys.stdout  # kfp's client has another one in its place for moments

    def write(text: str) -> None:
        out.write(text)
        out.flush()

    end = time.monotonic() + 60 * arguments.minutes
    results = _earlier(arguments.save, arguments.again) if arguments.go_on else []
    done = [str(one["fault"]) for one in results]
    rounds = schedule(
        names, arguments.runs, done, arguments.together, random.Random(arguments.seed)
    )
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Place(settings), Path(folder), results, write)
        shapes = {strike.fault.shape for one in rounds for strike in one}
        campaign.references(sorted(shapes), dict(one.split("=", 1) for one in arguments.reference))
        for strikes in rounds:
            if time.monotonic() < end:
                campaign.round(strikes)
            if arguments.save:
                _save(arguments.save, arguments.seed, campaign)
    write(table(results))
    complete = len(results) == arguments.runs
    return 0 if complete and all(one["survived"] for one in results) else 1


def _earlier(path: Path, again: list[str]) -> list[Json]:
    """Runs of a campaign so far, but for those of faults that are tried anew."""
    found = json.loads(path.read_text(encoding="utf-8"))
    runs = [{"date": found["date"], **one} for one in found["runs"]]
    return [one for one in runs if one["fault"] not in again]


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _save(path: Path, seed: int, campaign: Campaign) -> None:
    document = {
        "date": _today(),
        "seed": seed,
        "survived": sum(one["survived"] for one in campaign.results),
        "runs": campaign.results,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
