"""python -m tests.faults [--times N] [NAME …]: tries the faults and prints the table of docs/project/notebook/reliability.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from .harness import Bench
from .table import FAULTS, trials


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, help="of each fault, instead of the number in the table")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAULTS))
    args = parser.parse_args()
    print("| fault | tried | survived | seconds |\n|---|--:|--:|--:|")
    totals = [0, 0]
    for name in args.names or FAULTS:
        fault, survived, started = FAULTS[name], 0, time.perf_counter()
        count = args.times or fault.times
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(Path(folder))
            for i, chance in enumerate(trials(name, count)):
                try:
                    fault.happen(bench, chance)
                    survived += 1
                except Exception:
                    print(f"{name}, trial {i}:\n{traceback.format_exc()}", file=sys.stderr)
        totals = [totals[0] + count, totals[1] + survived]
        print(f"| {fault.what} | {count} | {survived} | {time.perf_counter() - started:.0f} |", flush=True)
    print(f"| all | {totals[0]} | {totals[1]} | |")
    sys.exit(totals[0] != totals[1])


if __name__ == "__main__":
    main()
