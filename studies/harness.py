"""What the studies share: many runs, side by side, each taken up where it stopped."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import torch

import frugan
from frugan.data import DataConfig
from frugan.data.tools import draw_avatars
from frugan.run.train import Run
from frugan.tracking import read_stats

Runs = Mapping[Path, tuple[DataConfig, dict[str, Any]]]


def arguments(doc: str | None, *, out: str, kimg: float) -> argparse.ArgumentParser:
    """A parser with the options that every study has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kimg", type=float, default=kimg)
    parser.add_argument("--samples", type=int, default=2000, help="generated images in an evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads a run")
    parser.add_argument("--out", type=Path, default=Path("runs") / out)
    return parser


def avatars(style: str, count: int, out: Path, size: int = 32) -> Path:
    """A folder of avatars, drawn where it is not there yet."""
    if not out.exists():
        draw_avatars(style, count, size, out)
    return out


def finish(out: Path, data: DataConfig, kimg: float, threads: int, options: dict[str, Any]) -> str:
    """Trains to `kimg`, from wherever the run is."""
    torch.set_num_threads(threads)
    if (out / "config.yaml").exists():
        records = Run(out).train(kimg=kimg)
    else:
        records = frugan.train(data, out, kimg=kimg, **{"preset": "tiny", **options})
    for _ in records:
        pass
    return out.name


def workers(jobs: int) -> ProcessPoolExecutor:
    """So many processes side by side, a new one for each task; they end with this one, even if it is killed."""
    return ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_end_with_parent, max_tasks_per_child=1
    )


def _end_with_parent() -> None:
    def watch() -> None:
        parent = parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def finish_all(runs: Runs, args: argparse.Namespace) -> None:
    """Trains all, `args.jobs` at a time."""
    with workers(args.jobs) as pool:
        started = [
            pool.submit(finish, out, data, args.kimg, args.threads, options) for out, (data, options) in runs.items()
        ]
        for job in started:
            print("finished", job.result(), flush=True)


def curve(out: Path, metric: str = "kid_full", factor: float = 1e3) -> list[tuple[float, float]]:
    """(kimg, metric · factor) of each evaluation during training."""
    name = f"metric/{metric}"
    return [(r["kimg"], r[name] * factor) for r in read_stats(out / "stats.jsonl") if r.get(name) is not None]


def tail(out: Path, names: Iterable[str], kimg: float) -> dict[str, float]:
    """Means of fields of the records over the last `kimg`."""
    records = read_stats(out / "stats.jsonl")
    last = [r for r in records if r["kimg"] > records[-1]["kimg"] - kimg]
    values = {name: [r[name] for r in last if r.get(name) is not None] for name in names}
    return {name: sum(v) / len(v) if v else float("nan") for name, v in values.items()}
