"""Runs the arms of a case in turn, each in a process of its own, and puts what they measured into one table.

An arm is a function of (device, settings) that returns figures by name. Arms take turns (A B A B), so that what else runs
on the machine meets all of them; ratios are taken within a round, and their median is what counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

Figures = dict[str, float]


class Skip(Exception):
    """An arm that cannot run here, and why."""


@dataclass(frozen=True)
class Case:
    """The first of the `arms` is ours. `figure`: what they are compared by, less is better. `settings` go to each arm."""

    title: str
    arms: dict[str, Callable[..., Figures]]
    figure: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True)
class Outcome:
    """Of one arm: each round's figures, or why there are none. `ratio`: how many times ours its figure is."""

    rounds: list[Figures]
    skipped: str | None = None
    ratio: float | None = None


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(run: Callable[[], object], device: str, *, repeats: int = 1) -> float:
    """Mean wall-clock time of one call."""
    synchronise(device)
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    synchronise(device)
    return (time.perf_counter() - started) / repeats


class Peak:
    """Peak memory in MB from here on: allocated on a GPU, else resident above what the process holds now."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
            self.before = _resident("VmRSS")

    def megabytes(self) -> float:
        return torch.cuda.max_memory_allocated() / 1e6 if self.cuda else _resident("VmHWM") - self.before


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1.024e-3 for line in lines if line.startswith(name))


def work(case: Case, arm: str, threads: int) -> None:
    """In a process of its own: prints the arm's figures, or why it was skipped, as the last line."""
    torch.set_num_threads(threads)
    try:
        print(json.dumps(case.arms[arm]("cpu", **case.settings)))
    except (Skip, ModuleNotFoundError) as error:
        print(json.dumps({"skipped": str(error)}))


def run_case(name: str, case: Case, *, rounds: int, threads: int, deadline: float, scratch: Path) -> dict[str, Outcome]:
    """Every arm `rounds` times, in turn; none is begun after `deadline` (`time.monotonic`)."""
    environment = os.environ | {
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads)),
        "FRUGAN_CACHE": str(scratch),
    }
    found: dict[str, list[Figures]] = {arm: [] for arm in case.arms}
    skipped: dict[str, str] = {}
    for _ in range(rounds):
        for arm in case.arms:
            if arm in skipped:
                continue
            if time.monotonic() > deadline:
                skipped[arm] = "no time left"
                continue
            job = ["--job", name, arm, "--threads", str(threads)]
            command = [sys.executable, "-m", "benchmarks", *job]
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            if done.returncode:
                skipped[arm] = f"failed: {(done.stderr.strip().splitlines() or [done.returncode])[-1]}"
                continue
            figures = json.loads(done.stdout.splitlines()[-1])
            if "skipped" in figures:
                skipped[arm] = figures["skipped"]
            else:
                found[arm].append(figures)
    ours = next(iter(case.arms))
    outcomes = {}
    for arm, figures in found.items():
        pairs = [theirs[case.figure] / own[case.figure] for theirs, own in zip(figures, found[ours]) if case.figure]
        outcomes[arm] = Outcome(figures, skipped.get(arm), statistics.median(pairs) if pairs else None)
    return outcomes


def as_table(name: str, case: Case, outcomes: Mapping[str, Outcome]) -> str:
    """Markdown: medians, the spread where there is more than one round, and the ratio."""
    columns = list(dict.fromkeys(key for outcome in outcomes.values() for row in outcome.rounds for key in row))
    lines = [f"### {name}: {case.title}", ""]
    headings = columns + [f"{case.figure}, times ours"] * bool(case.figure)
    lines += [f"| | {' | '.join(headings)} |", f"|---|{'--:|' * len(headings)}"]
    for arm, outcome in outcomes.items():
        if not outcome.rounds:
            lines.append(f"| {arm} | {outcome.skipped} |{' |' * (len(headings) - 1)}")
            continue
        cells = []
        for column in columns:
            values = [figures[column] for figures in outcome.rounds if column in figures]
            spread = f" ({_number(min(values))}–{_number(max(values))})" if len(values) > 1 else ""
            cells.append(f"{_number(statistics.median(values))}{spread}" if values else "")
        if case.figure:
            cells.append(f"{outcome.ratio:.2f}" if outcome.ratio else "")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *([case.notes, ""] if case.notes else [])])


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_facts(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, Any]:
    """For JSON: case → arm → rounds, skipped, ratio."""
    return {case: {arm: asdict(outcome) for arm, outcome in arms.items()} for case, arms in outcomes.items()}
