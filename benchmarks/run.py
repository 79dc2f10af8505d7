"""Run benchmarks and keep their results with date and machine class.

    python benchmarks/run.py                 # those of the language, the compiler and the local run
    python benchmarks/run.py train data      # others by name
    python benchmarks/run.py --save          # and write benchmarks/results/<date>-<machine>.json

Each benchmark is a script of this folder that prints one JSON object. Figures are ratios within
one run wherever something is compared; absolute seconds are only worth their machine class.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DEFAULT = ("check", "compile", "local")


def machine_class() -> str:
    """Processor architecture, cores and Python, without a name that tells whose machine it is."""
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return f"{platform.machine()}-{os.cpu_count()}cores-{python}"


def run(name: str) -> object:
    """One benchmark's result."""
    print(f"{name} …", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Run what was asked for and print or keep it."""
    names = sorted(path.stem for path in HERE.glob("*.py"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(names)}")
    parser.add_argument("--save", action="store_true", help="keep the results under results/")
    arguments = parser.parse_args()
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": machine_class(),
        "results": {name: run(name) for name in arguments.names or DEFAULT},
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.save:
        path = HERE / "results" / f"{result['date']}-{result['machine']}.json"
        path.write_text(text + "\n")
        print(f"kept as {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
