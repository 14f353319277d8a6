"""Projection of an uploaded image, dragging of points and editing by words, with progress, pause and stop.

One at a time, beside the rendering of others: between two steps a fit hands the device over to whatever waits for it. One that
nobody asks after is ended.
"""

from __future__ import annotations

import io
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from frugan.data.decode import read_header
from frugan.errors import FruganError, explain, shown
from frugan.latent.direction import Direction
from frugan.latent.drag import DragConfig, Point, drag
from frugan.latent.edit import Truncation
from frugan.latent.fitting import FitReport, open_distance
from frugan.latent.fitting.distances import Setting
from frugan.latent.projection import ProjectionConfig, Space, project
from frugan.latent.statistics import statistics_of
from frugan.latent.targets import Targets, read_targets
from frugan.latent.text import JointModel, prompt_vector
from frugan.latent.text.search import find_seeds
from frugan.latent.text.styleclip import sample_ws, shared_direction, strength_for
from frugan.networks import Generator

State = Literal["running", "paused", "done", "failed", "cancelled"]

MOST_BYTES = 32 << 20
MOST_PIXELS = 40_000_000
"""Of an uploaded image."""
_SAMPLES = 10_000
_KEPT = 0.25
"""How far an edit by words moves images, in distances between two samples."""
_BEST = 16
FORGOTTEN = 20.0
"""Seconds after which a fit ends that nobody has asked after."""


class _Ended(Exception):
    """The fit was cancelled."""


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
        try:
            return read_targets([file], G)
        except FruganError as error:  # the page's user knows no file of the server
            raise FruganError(str(error).replace(str(file), "the file")) from error


class Fit:
    """A fit that runs in a thread of its own.

    Args:
        work: called with the fit; it calls `report` after each step.
        device: held while the device is in use.
        image: shown until the first step, `[C, H, W]`, or None.
        notes: for the page.
    """

    def __init__(
        self,
        work: Callable[[Fit], None],
        device: threading.Lock,
        image: Tensor | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.state: State = "running"
        self.rung, self.step, self.steps = "start", 0, 0
        self.distance: float | None = None
        self.image = torch.zeros(1, 1, 1) if image is None else image
        self.ws = self.offset = torch.zeros(0)
        """In the end `[num_ws, w_dim]`, and what is added to its styles, `[ΣC]`, or nothing."""
        self.result: Any = None
        """What else was found in the end, as JSON."""
        self.notes, self.error = list(notes), ""
        self._wanted = threading.Event()
        self._wanted.set()
        self._asked = time.monotonic()
        self._work, self._device = work, device
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

    def report(
        self, rung: str, step: int, steps: int, distance: float | None = None, image: Tensor | None = None
    ) -> None:
        """Records a step; lets whatever waits for the device have it, and waits itself while the fit is paused.

        Args:
            rung: name of the stage.
            step, steps: number of the step, and of all.
            distance: of the image from its target, if there is one.
            image: so far, `[C, H, W]` in [-1, 1]; None: as before.
        """
        self.rung, self.step, self.steps, self.distance = rung, step, steps, distance
        self.image = self.image if image is None else image
        self._device.release()
        try:
            time.sleep(0.001)  # whoever waits for the device has it now
            while not self._wanted.wait(0.2):
                self._look()
            self._look()
        finally:
            self._device.acquire()

    def _run(self) -> None:
        try:
            with self._device:
                self._work(self)
            self.state = "done"
        except _Ended:
            self.state = "cancelled"
        except FruganError as error:
            self.state, self.error = "failed", str(error)
        except Exception as error:
            self.state, self.error = "failed", explain(error) or shown(error)

    def _look(self) -> None:
        if self.state == "cancelled" or time.monotonic() - self._asked > FORGOTTEN:
            raise _Ended


def start_projection(G: Generator, found: Targets, space: Space, device: threading.Lock) -> Fit:
    """Begins to find an image in the latent space of a generator, in a thread.

    Args:
        G: the generator.
        found: the image.
        space: where to look.
        device: held while the device is in use.
    """

    def work(fit: Fit) -> None:
        def watch(rung: str, report: FitReport) -> None:
            fit.report(rung, report.step, report.steps, float(report.distance[0]), report.images[0].clamp(-1, 1))

        statistics = statistics_of(G, samples=_SAMPLES)
        distance = open_distance("auto", Setting(G.mapping.w_avg.device))
        last = project(G, found.images, distance, statistics, ProjectionConfig(space), watch=watch).last
        fit.ws, fit.image, fit.distance = last.ws[0].cpu(), last.images[0].cpu(), float(last.distance[0])
        if last.offset is not None:
            fit.offset = last.offset[0].cpu()

    return Fit(work, device, found.images[0], found.notes)


def start_drag(
    G: Generator, ws: Tensor, handles: Sequence[Point], targets: Sequence[Point], device: threading.Lock
) -> Fit:
    """Begins to drag points of an image to other places, in a thread.

    Args:
        G: the generator.
        ws: of the image, `[1, num_ws, w_dim]`.
        handles, targets: (x, y) in pixels.
        device: held while the device is in use.
    """

    def image(of: Tensor) -> Tensor:
        with torch.no_grad():
            return G.synthesis(of, noise="const").clamp(-1, 1)[0].cpu()

    def work(fit: Fit) -> None:
        config = DragConfig()
        for report in drag(G, ws.to(G.mapping.w_avg.device), handles, targets, config):
            fit.ws = report.ws[0].cpu()
            fit.report("drag", report.step, config.steps, float(report.distances.max()), image(report.ws))

    return Fit(work, device, image(ws.to(G.mapping.w_avg.device)))


def start_words(
    G: Generator,
    model: JointModel,
    text: str,
    device: threading.Lock,
    keep: Callable[[Direction], dict[str, Any]],
) -> Fit:
    """Begins to look for one direction towards a text, and for the strength at which images move by `_KEPT`, in a thread.

    The result is {"direction": what `keep` returns for it, "strength": the strength}.

    Args:
        G: the generator.
        model: the joint model.
        text: the text.
        device: held while the device is in use.
        keep: takes the direction, and returns the page's description of it.
    """

    def work(fit: Fit) -> None:
        vector, name = prompt_vector(model, text), text.strip()
        statistics = statistics_of(G, samples=_SAMPLES, progress=partial(fit.report, "statistics"))
        found = shared_direction(G, model, vector, statistics, name=name, progress=partial(fit.report, "direction"))
        fit.report("strength", 0, 1)
        strength = strength_for(G, found, sample_ws(G, 8, 1 << 30, 0.7), kept=_KEPT)
        told = keep(replace(found, slider=(-2 * strength, 2 * strength)))
        fit.result = {"direction": told, "strength": strength}

    return Fit(work, device)


def start_search(
    G: Generator,
    model: JointModel,
    text: str,
    seeds: Sequence[int],
    c: Tensor | None,
    psi: float,
    device: threading.Lock,
) -> Fit:
    """Begins to look for the seeds whose images fit a text, in a thread.

    The result is a list of [seed, similarity], best first.

    Args:
        G: the generator.
        model: the joint model.
        text: the text.
        seeds: to look at.
        c: their label `[K]`, or None for a generator without.
        psi: truncation of the images.
        device: held while the device is in use.
    """

    def work(fit: Fit) -> None:
        vector, labels = prompt_vector(model, text), None if c is None else c.to(G.mapping.w_avg.device)
        progress = partial(fit.report, "seeds")
        found = find_seeds(G, model, vector, seeds, c=labels, truncation=Truncation(psi), progress=progress)
        fit.result = [[one.seed, round(one.similarity, 4)] for one in found[:_BEST]]

    return Fit(work, device)
