"""Projection of an uploaded image, beside the rendering of others: with progress, pause and cancelling.

One at a time. Between two steps it hands the device over to whatever waits for it. A projection that nobody asks after is ended.
"""

from __future__ import annotations

import io
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from frugan.data.decode import read_header
from frugan.errors import FruganError, explain, shown
from frugan.latent.fitting import open_distance
from frugan.latent.fitting.distances import Setting
from frugan.latent.projection import ProjectionConfig, project
from frugan.latent.statistics import statistics_of
from frugan.latent.targets import Targets, read_targets
from frugan.networks import Generator

State = Literal["running", "paused", "done", "failed", "cancelled"]

MOST_BYTES = 32 << 20
MOST_PIXELS = 40_000_000
"""Of an uploaded image."""
SPACES = ("w", "pn", "w+")
_SAMPLES = 10_000
_FORGOTTEN = 20.0
"""Seconds after which a projection ends that nobody has asked after."""


class _Ended(Exception):
    """The projection was cancelled."""


def read_upload(content: bytes, G: Generator) -> Targets:
    """An image file of at most `MOST_PIXELS` as the generator makes images. Raises `FruganError`."""
    try:
        header = read_header(io.BytesIO(content))
    except Exception as error:  # a damaged file can be wrong in any way
        raise FruganError(f"the file cannot be read as an image: {shown(error)}") from error
    if header.height * header.width > MOST_PIXELS:
        raise FruganError(
            f"the image has {header.height}x{header.width} pixels; the explorer takes {MOST_PIXELS:,} at most"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        file.write_bytes(content)
        return read_targets([file], G)


class Projecting:
    """One projection in a thread of its own."""

    def __init__(self, G: Generator, found: Targets, space: Literal["w", "pn", "w+"], device: threading.Lock) -> None:
        self.state: State = "running"
        self.rung, self.step, self.steps, self.distance = "start", 0, 0, 0.0
        self.image, self.ws = found.images[0], torch.zeros(0)
        self.notes, self.error = found.notes, ""
        self._wanted = threading.Event()
        self._wanted.set()
        self._asked = time.monotonic()
        self._arguments = G, found, space, device
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_going(self) -> bool:
        return self.state in ("running", "paused")

    def told(self) -> dict[str, Any]:
        """How it stands, for the page, which shows by asking that it is still there."""
        self._asked = time.monotonic()
        names = ("state", "rung", "step", "steps", "distance", "notes", "error")
        return {name: getattr(self, name) for name in names}

    def pause(self) -> None:
        if self.state == "running":
            self.state = "paused"
            self._wanted.clear()

    def resume(self) -> None:
        if self.state == "paused":
            self.state = "running"
            self._wanted.set()

    def cancel(self) -> None:
        """Ends it after the step at hand."""
        if self.is_going:
            self.state = "cancelled"
            self._wanted.set()

    def join(self) -> None:
        """Waits for its end."""
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._arguments[3]:
                self._project(*self._arguments)
        except _Ended:
            self.state = "cancelled"
        except FruganError as error:
            self.state, self.error = "failed", str(error)
        except Exception as error:
            self.state, self.error = "failed", explain(error) or shown(error)

    def _project(self, G: Generator, found: Targets, space: Literal["w", "pn", "w+"], device: threading.Lock) -> None:
        statistics = statistics_of(G, samples=_SAMPLES)
        distance = open_distance("auto", Setting(G.mapping.w_avg.device))
        watch: Callable[[str, Any], None] = lambda rung, report: self._step(rung, report, device)  # noqa: E731
        made = project(G, found.images, distance, statistics, ProjectionConfig(space), watch=watch)
        self.ws, self.image = made.last.ws[0].cpu(), made.last.images[0].cpu()
        self.distance = float(made.last.distance[0])
        self.state = "done"

    def _step(self, rung: str, report: Any, device: threading.Lock) -> None:
        self.rung, self.step, self.steps = rung, report.step, report.steps
        self.distance, self.image = float(report.distance[0]), report.images[0].clamp(-1, 1)
        device.release()
        try:
            time.sleep(0.001)  # whoever waits for the device has it now
            while not self._wanted.wait(0.2):
                self._look()
            self._look()
        finally:
            device.acquire()

    def _look(self) -> None:
        if self.state == "cancelled" or time.monotonic() - self._asked > _FORGOTTEN:
            raise _Ended
