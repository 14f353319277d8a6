"""python -m tests.mutants [-n PROCESSES] [--only SUBSTRING] [--again]: do the tests fail where the code is made wrong?

Each mutation of the table is made in a copy of src, and the tests that the row names must fail on it. First they must pass
on the copy as it is. Results are kept in a file of the temporary folder until the package or those tests change, so that an
interrupted session goes on where it was; `--again` forgets them. The exit code is 1 unless all mutations were killed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from .table import MUTATIONS, PLACE, ROOT, Mutation, fault_of
from .worker import OFFSET, run_pytest

TIMEOUT_S = 300
PRELOADED = ["torch", "numpy", "scipy.stats", "hypothesis", "pytest", "PIL.Image", "yaml", "safetensors.torch", "typer"]
VERDICTS = {OFFSET: "survived", OFFSET + 1: "killed", None: "timed out"}
"""By exit code; any other says that a test cannot be collected: the row is broken."""


def exit_code(mutation: Mutation | None, tests: list[str], timeout: float) -> tuple[int | None, str]:
    """The exit code (None: it took too long) and the end of its output, with the mutation, or without any."""
    with tempfile.TemporaryDirectory(prefix="frugan-mutant-") as scratch:
        copy = Path(scratch) / "src"
        shutil.copytree(ROOT / "src", copy)
        if mutation:
            file = copy / PLACE / mutation.file
            file.write_text(file.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=run_pytest, args=(str(copy), scratch, tests))
        process.start()
        process.join(timeout)
        code = process.exitcode
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.killpg(process.pid, 9)  # pyright: ignore[reportArgumentType]
        process.join()
        output = Path(scratch) / "output.txt"
        return code, output.read_text("utf-8", "replace")[-2000:] if output.exists() else ""


def verdict_on_all(tests: tuple[str, ...]) -> dict[str, Any]:
    """Whether the tests pass where nothing was changed."""
    started = time.perf_counter()
    code, output = exit_code(None, list(tests), 20 * TIMEOUT_S)
    verdict = "passed" if code == OFFSET else "broken"
    return {"verdict": verdict, "output": output, "seconds": round(time.perf_counter() - started, 1)}


def verdict_on(mutation: Mutation) -> dict[str, Any]:
    """What became of a mutation: killed, survived, timed out or broken, and in how many seconds."""
    started = time.perf_counter()
    if fault := fault_of(mutation):
        return {"verdict": "broken", "output": fault, "seconds": 0.0}
    code, output = exit_code(mutation, list(mutation.tests), TIMEOUT_S)
    seconds = time.perf_counter() - started
    return {"verdict": VERDICTS.get(code, "broken"), "output": output, "seconds": round(seconds, 1)}


@cache
def digest_of(files: tuple[str, ...]) -> str:
    """Of all that a verdict rests on: the package, what tests share, and these files of tests."""
    shared = [
        f
        for f in (ROOT / "tests").rglob("*.py")
        if not f.name.startswith("test_") and f.parent != Path(__file__).parent
    ]
    digest = hashlib.sha256()
    for file in sorted([*(ROOT / "src").rglob("*.py"), *shared, *(ROOT / name for name in files)]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def key_of(tests: tuple[str, ...], mutation: Mutation | None = None) -> str:
    """What a result is kept under."""
    files = tuple(sorted({test.partition("::")[0] for test in tests}))
    return json.dumps([digest_of(files), mutation.key if mutation else tests])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("-n", type=int, default=2, metavar="PROCESSES", help="mutations at once (2)")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="rows whose file, reason or test holds this")
    parser.add_argument("--again", action="store_true", help="forget the results of an interrupted session")
    args = parser.parse_args()
    rows = sorted((m for m in MUTATIONS if args.only in f"{m.file} {m.why} {' '.join(m.tests)}"), key=lambda m: m.tests)
    results = Path(tempfile.gettempdir()) / "frugan-mutants.jsonl"
    if args.again:
        results.unlink(missing_ok=True)
    lines = results.read_text("utf-8").splitlines() if results.exists() else []
    found = {entry["key"]: entry for entry in map(json.loads, lines)}
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    os.environ["OMP_NUM_THREADS"] = "1"

    every = tuple(sorted({test for m in rows for test in m.tests}))
    work = [(key_of(every), every, None), *((key_of(m.tests, m), m.tests, m) for m in rows)]

    def judge(item: tuple[str, tuple[str, ...], Mutation | None]) -> None:
        key, tests, mutation = item
        found[key] = {"key": key, **(verdict_on(mutation) if mutation else verdict_on_all(tests))}
        entry = found[key]
        with results.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        about = f"{mutation.file}: {mutation.why}" if mutation else "the tests on the package as it is"
        print(f"{entry['verdict']:9} {entry['seconds']:6.1f} {about}", flush=True)
        if entry["verdict"] not in ("killed", "passed"):
            print(entry["output"], flush=True)

    started = time.perf_counter()
    with ThreadPoolExecutor(args.n) as pool:
        list(pool.map(judge, [item for item in work if item[0] not in found]))
    passed, *verdicts = (found[key]["verdict"] for key, *_ in work)
    counts = Counter(verdicts)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    print(f"{len(rows)} mutations: {summary}; the tests without any: {passed}; {time.perf_counter() - started:.0f} s")
    sys.exit(passed != "passed" or set(counts) != {"killed"})


if __name__ == "__main__":
    main()
