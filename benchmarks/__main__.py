"""Everything that this machine's CPU can run, against its peers, as one table. (On a GPU: `benchmarks.gpu`.)

    python -m benchmarks [--only train-32 generate-256] [--rounds 3] [--threads 2] [--out benchmark]

Writes OUT.json and OUT.md. The peers are no dependencies of frugan: those that cannot be imported are named and left out
(benchmarks/peers.py says how to get them). `--minutes` ends it: what has not begun by then is listed as such.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.cases import CASES
from frugan.tracking import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases, or the beginnings of their names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out", type=Path, default=Path("benchmark"))
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        harness.work(CASES[args.job[0]], args.job[1], args.threads)
        return
    only = tuple(args.only or ("",))
    chosen = {name: case for name, case in CASES.items() if name.startswith(only)}
    if not chosen:
        parser.error(f"no case begins with {' or '.join(only)}; there are {', '.join(CASES)}")
    deadline = time.monotonic() + 60 * args.minutes

    torch.set_num_threads(args.threads)
    machine = environment()
    heading = (
        f"{machine['cpu']}, {args.threads} of {machine['usable_cores']} cores; "
        f"{', '.join(gpu['name'] for gpu in machine['gpus']) or 'no GPU'}; "
        f"PyTorch {machine['packages']['torch']}, Python {machine['python']}; {machine['started']}.\n"
        "Medians (least–most) of interleaved rounds; the ratio is the median of those within a round.\n"
    )
    print(heading, flush=True)
    tables, outcomes = [heading], {}
    with tempfile.TemporaryDirectory() as scratch:
        limits = {"threads": args.threads, "deadline": deadline, "scratch": Path(scratch)}
        for name, case in chosen.items():
            outcomes[name] = harness.run_case(name, case, rounds=args.rounds, **limits)
            tables.append(harness.as_table(name, case, outcomes[name]))
            print(tables[-1], flush=True)
            facts = {"machine": machine, "rounds": args.rounds, "cases": harness.as_facts(outcomes)}
            args.out.with_suffix(".json").write_text(json.dumps(facts, indent=1), "utf-8")
            args.out.with_suffix(".md").write_text("\n".join(tables), "utf-8")


if __name__ == "__main__":
    main()
