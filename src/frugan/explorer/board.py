"""Board of runs: curves laid over each other, sample grids side by side, settings that differ, evaluation cards, live.

It reads run directories as they are written and needs nothing of the processes that train. With control it also stops a run
(SIGTERM to the process that holds its lock, which saves a checkpoint first) and resumes one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from frugan.checks import beside
from frugan.command_line import command
from frugan.config.migrations import migrated
from frugan.errors import FruganError, shown
from frugan.explorer.page import csp, hash_source
from frugan.explorer.server import Refused
from frugan.files import read_yaml
from frugan.metrics import EvaluationCard, compare
from frugan.run.directory import LAUNCHER_LOCK, RunDirectory, runs_of
from frugan.tracking.jsonl import finite, read_stats
from frugan.tracking.report.charts import thin
from frugan.tracking.report.page import find_samples, flat

MOST_RUNS = 200
_DISK_EVERY = 60.0
"""Seconds between two looks at a run's size."""


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Run directories among the paths, and directly within those that are folders of runs. Raises `FruganError` for none."""
    found: list[Path] = []
    for path in (Path(os.path.abspath(path)) for path in paths):
        if not path.is_dir():
            raise FruganError(f"{path} is neither a run nor a folder of runs: no such directory{beside(path)}")
        inside = runs_of(path)
        if not inside:
            raise FruganError(
                f"{path} holds no runs: nothing in it has a config.yaml; train one with {command('train')}"
            )
        found += [run for run in inside if run not in found]
    if len(found) > MOST_RUNS:
        raise FruganError(f"{len(found)} runs are more than a board shows ({MOST_RUNS}); name fewer")
    return found


def run_names(homes: Sequence[Path]) -> dict[Path, str]:
    """A name for each run: that of its directory, or its whole path where several have that name."""
    counts = Counter(home.name for home in homes)
    return {home: home.name if counts[home.name] == 1 else str(home) for home in homes}


class Board:
    """The answers: all runs as JSON, their sample grids, and stopping and resuming where that is allowed."""

    def __init__(self, paths: Sequence[Path], *, control: bool = False) -> None:
        self._known = find_runs(paths)
        """Runs by the number in their address, which stays the same when others come or go."""
        self.paths, self.control = list(paths), control
        self._sizes: dict[Path, tuple[float, int]] = {}
        self._resumed: dict[Path, tuple[subprocess.Popen[bytes], IO[bytes]]] = {}

    def routes(self) -> list[Route]:
        return [
            Route("/", self.page),
            Route("/runs", self.runs),
            Route("/runs/{run:int}/samples/{name}", self.sample),
            Route("/runs/{run:int}/{what}", self.act, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        html, policy = board_page()
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    async def runs(self, request: Request) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(self.told))
        except FruganError as error:  # the folder was moved, or all runs were
            raise Refused(str(error)) from None

    async def sample(self, request: Request) -> Response:
        home, name = self._run(request), request.path_params["name"]
        if f"samples/{name}" not in {image.src for image in find_samples(home)}:
            raise HTTPException(404, "no such sample grid")
        return FileResponse(home / "samples" / name)

    async def act(self, request: Request) -> Response:
        """Stops or resumes a run."""
        home, what = self._run(request), request.path_params["what"]
        if not self.control:
            raise HTTPException(403, "start the board with --control to stop and resume runs")
        try:
            if what == "stop":
                await run_in_threadpool(stop_run, home)
            elif what == "resume":
                await run_in_threadpool(self._resume, home)
            else:
                raise HTTPException(404, "stop or resume")
        except FruganError as error:
            raise Refused(str(error)) from None
        return JSONResponse({})

    def told(self) -> dict[str, Any]:
        """The content of the page."""
        names = run_names(find_runs(self.paths))
        self._known += [home for home in names if home not in self._known]
        runs = [{"id": self._known.index(home), **self._told(home), "name": name} for home, name in names.items()]
        return {"control": self.control, "runs": runs, "cards": card_tables(names)}

    def close(self) -> None:
        """Runs that were resumed from here go on."""
        for _, said in self._resumed.values():
            said.close()
        self._resumed.clear()

    def _run(self, request: Request) -> Path:
        number = request.path_params["run"]
        if number >= len(self._known):
            raise HTTPException(404, "no such run")
        return self._known[number]

    def _told(self, home: Path) -> dict[str, Any]:
        try:
            run = RunDirectory(home)
            status, facts = run.status(), run.report("run.json")
        except FruganError as error:  # half written, or damaged
            return {"status": "unreadable", "sentence": str(error)}
        pending = status.name != "running" and self._is_alive(home)
        return {
            "status": "pending" if pending else status.name,
            "sentence": "its process is starting or ending" if pending else status.sentence,
            "kimg": status.kimg,
            "total_kimg": status.total_kimg,
            "warnings": [
                *self._failure(home),
                *(shown(w, 1000) for w in facts.get("warnings", []) if isinstance(w, str)),
            ],
            "curves": curves(read_stats(home / "stats.jsonl")),
            "samples": [{"src": image.src, "label": image.label, "kimg": image.kimg} for image in find_samples(home)],
            "settings": dict(flat(_settings(home))),
            "disk": self._disk(home),
        }

    def _disk(self, home: Path) -> int:
        seen, size = self._sizes.get(home, (-_DISK_EVERY, 0))
        if time.monotonic() - seen > _DISK_EVERY:
            size = sum(_size(file) for file in home.rglob("*"))
            self._sizes[home] = time.monotonic(), size
        return size

    def _resume(self, home: Path) -> None:
        if RunDirectory(home).status().name == "running":
            raise FruganError(f"{home.name} is running")
        if self._is_alive(home):
            raise FruganError(f"{home.name} is starting or ending: wait a moment")
        if home in self._resumed:
            self._resumed.pop(home)[1].close()
        said = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", "frugan", "resume", str(home.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        self._resumed[home] = process, said

    def _is_alive(self, home: Path) -> bool:
        """Whether the process of a resume from here goes on: before it trains, while it does, and until it has ended."""
        return home in self._resumed and self._resumed[home][0].poll() is None

    def _failure(self, home: Path) -> list[str]:
        """A sentence on a resume from here that has failed."""
        process, said = self._resumed.get(home, (None, None))
        if process is None or said is None or not process.poll():
            return []
        said.seek(0)
        return [f"could not be resumed: {shown(said.read().decode('utf-8', 'replace').strip(), 1000)}"]


def curves(records: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    """Every figure of the records by name: [kimg, values], thinned out."""
    names = dict.fromkeys(name for record in records for name in record if name not in ("kimg", "images"))
    found = {}
    for name in names:
        points = [(finite(r.get("kimg")), finite(r.get(name))) for r in records if not isinstance(r.get(name), Mapping)]
        pairs = np.array([(x, y) for x, y in points if x is not None and y is not None], np.float64).reshape(-1, 2)
        if len(pairs):
            kept = pairs[thin([pairs[:, 1]])]
            found[name] = [kept[:, 0].round(3).tolist(), [float(f"{v:.5g}") for v in kept[:, 1]]]
    return found


def card_tables(names: Mapping[Path, str]) -> list[dict[str, Any]]:
    """Evaluation cards in tables of those that were measured alike; `differs` says why a table is not the first one's."""
    tables: list[tuple[EvaluationCard, list[dict[str, Any]]]] = []
    for home, card, name in _cards(names):
        row = {"run": names[home], "card": name, "values": {k: float(f"{v:.5g}") for k, v in card.values.items()}}
        for first, rows in tables:
            if first.protocol == card.protocol:
                rows.append(row)
                break
        else:
            tables.append((card, [row]))
    return [{"rows": rows, "differs": _difference(tables[0][0], first)} for first, rows in tables]


def _cards(homes: Iterable[Path]) -> Iterator[tuple[Path, EvaluationCard, str]]:
    for home in homes:
        for file in sorted((home / "evaluations").glob("*.json"))[:50]:
            try:
                yield home, EvaluationCard.load(file), file.stem
            except FruganError:  # no card, or one half written
                continue


def _difference(first: EvaluationCard, other: EvaluationCard) -> str:
    try:
        compare(first, other)
    except FruganError as error:
        return shown(error, 1000)
    return ""


def stop_run(home: Path) -> None:
    """Asks the process that trains in a run directory to save and end. Raises `FruganError` where none is found."""
    pid = training_process(home)
    if pid is None:
        raise FruganError(f"no process on this machine is seen to train {home.name}; stop it where it runs")
    os.kill(pid, signal.SIGTERM)


def training_process(home: Path) -> int | None:
    """The process that holds the lock of a run directory, the launcher's first; None where the system does not tell."""
    try:
        held = Path("/proc/locks").read_text("ascii")
    except OSError:
        return None
    for name in (LAUNCHER_LOCK, ".lock"):
        try:
            found = os.stat(home / name)
        except OSError:
            continue
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        if (match := re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) +{place} ", held)) and int(match[1]) > 0:
            return int(match[1])
    return None


@cache
def board_page() -> tuple[str, str]:
    """The page, with its scripts and styles inside, and its policy."""
    own, charts = files("frugan.explorer") / "assets" / "board", files("frugan.tracking.report") / "assets"
    texts = [(charts / "uPlot.iife.min.js").read_text("utf-8"), (own / "board.js").read_text("utf-8")]
    library = f"/* Charts by uPlot.\n{(charts / 'uPlot.LICENSE').read_text('utf-8')}*/\n{texts[0]}"
    styles = [(charts / "uPlot.min.css").read_text("utf-8"), (own / "board.css").read_text("utf-8")]
    html = (own / "board.html").read_text("utf-8")
    for mark, text in zip(("library", "script", "charts", "style"), (library, texts[1], *styles)):
        html = html.replace(f"<!-- {mark} -->", text)
    hashes = [" ".join(hash_source(text) for text in some) for some in ((library, texts[1]), styles)]
    policy = {"default-src": "'none'", "script-src": hashes[0], "style-src": f"{hashes[1]}", "img-src": "'self' data:"}
    policy |= {"connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
    return html, csp(policy)


def _settings(home: Path) -> Any:
    """A run's settings, by the names of today, so that runs from before a change compare with later ones."""
    try:
        found = read_yaml(home / "config.yaml")
    except (OSError, ValueError):
        return {}
    return migrated(found) if isinstance(found, dict) else found


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # it went meanwhile
        return 0
