"""Trackers of other programs: a run's records, sample grids and configuration in Weights & Biases, MLflow or Aim.

Each is an optional package, imported when a run opens it. The run keeps its names there in trackers.json, so that a resume
continues the same tracked run. A service that fails while the run trains is told of once; training goes on without it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from frugan.checks import check_choice
from frugan.errors import FruganError, shown
from frugan.files import plain, read_json, read_yaml, write_json
from frugan.telemetry import no_telemetry
from frugan.tracking.report.page import find_samples, flat
from frugan.tracking.tensorboard import TensorBoard
from frugan.tracking.tracker import Record, Tracker

PROJECT = "frugan"
"""Project or experiment that runs go to, unless the service's own environment variable names another."""
KEPT = "trackers.json"

Names = Mapping[str, str]
"""How a service names a run, and where it keeps it."""


class Service(Protocol):
    """A run as another program has it. The arguments of its class are:

    Args:
        home: the run's directory.
        config: the run's configuration, as plain values.
        kept: the names of the run there, where it was tracked before; else None.
    """

    names: Names

    def send(self, values: Mapping[str, float], grids: Sequence[Path], images: int) -> None:
        """Sends a record.

        Args:
            values: scalars by name.
            grids: PNG files of sample grids.
            images: the number of images that training has seen.
        """
        ...

    def close(self) -> None: ...


class Wandb:
    """A run of Weights & Biases, with the count of images as the horizontal axis. See `Service`."""

    def __init__(self, home: Path, config: Mapping[str, Any], kept: Names | None) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._image: Any = wandb.Image
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", home.resolve().name),
            id=kept["id"] if kept else None,
            resume="allow" if kept else None,
            dir=str(home),
            config=dict(config),
        )
        self.names: Names = {"id": str(self._run.id)}
        self._run.define_metric("images")
        self._run.define_metric("*", step_metric="images")

    def send(self, values: Mapping[str, float], grids: Sequence[Path], images: int) -> None:
        """See `Service`."""
        shown_grids = {"samples": [self._image(str(grid), caption=grid.stem) for grid in grids]} if grids else {}
        self._run.log({**values, **shown_grids, "images": images})

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow: metrics by the count of images, sample grids as artifacts, the configuration as parameters.

    See `Service`.
    """

    def __init__(self, home: Path, config: Mapping[str, Any], kept: Names | None) -> None:
        with no_telemetry():
            import mlflow  # pyright: ignore[reportMissingImports]
            from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]

        self._metric: Any = Metric
        where = (kept or {}).get("uri") or os.environ.get("MLFLOW_TRACKING_URI") or mlflow.get_tracking_uri()
        self._client: Any = mlflow.MlflowClient(tracking_uri=where)
        if kept:
            self._id = kept["id"]
            self._client.update_run(self._id, status="RUNNING")
        else:
            self._id = self._begin(home.resolve().name)
            settings = iter([Param(name, text[:500]) for name, text in flat(config)])
            while some := list(islice(settings, 100)):  # the most that one request takes
                self._client.log_batch(self._id, params=some)
        self.names: Names = {"id": self._id, "uri": where}

    def _begin(self, name: str) -> str:
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(title)
        experiment = found.experiment_id if found else self._client.create_experiment(title)
        return self._client.create_run(experiment, run_name=name).info.run_id

    def send(self, values: Mapping[str, float], grids: Sequence[Path], images: int) -> None:
        """See `Service`."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[self._metric(name, x, now, images) for name, x in values.items()])
        for grid in grids:
            self._client.log_artifact(self._id, str(grid), "samples")

    def close(self) -> None:
        self._client.set_terminated(self._id)


class Aim:
    """A run of Aim, in the repository that AIM_REPO names, or in the working directory's. See `Service`."""

    def __init__(self, home: Path, config: Mapping[str, Any], kept: Names | None) -> None:
        import aim  # pyright: ignore[reportMissingImports]

        self._image: Any = aim.Image
        where = (kept or {}).get("repo") or os.environ.get("AIM_REPO") or str(Path.cwd())
        self._run: Any = aim.Run(
            run_hash=kept["id"] if kept else None,
            repo=where,
            experiment=PROJECT,
            capture_terminal_logs=False,
            system_tracking_interval=None,
        )
        if not kept:
            self._run.name = home.resolve().name
            self._run["config"] = dict(flat(config))
        self.names: Names = {"id": str(self._run.hash), "repo": where}

    def send(self, values: Mapping[str, float], grids: Sequence[Path], images: int) -> None:
        """See `Service`."""
        for name, value in values.items():
            self._run.track(value, name=name, step=images)
        for grid in grids:
            self._run.track(self._image(str(grid)), name="samples", step=images)

    def close(self) -> None:
        self._run.close()


class _Row(NamedTuple):
    """A service: the package that it needs (of the extra of its name), and how a run of it is opened or continued."""

    package: str
    open: Callable[[Path, Mapping[str, Any], Names | None], Service]


SERVICES: dict[str, _Row] = {
    "wandb": _Row("wandb", Wandb),
    "mlflow": _Row("mlflow", MLflow),
    "aim": _Row("aim", Aim),
}
TRACKERS = ("tensorboard", *SERVICES)
"""Names of what a run can send its records to."""


class Forwarded:
    """A tracker that sends the numbers of each record, and the sample grids that are new, to a service.

    Args:
        name: of the service.
        service: what sends.
        home: the run's directory.
        tell: called once with a sentence on a service that fails, and on each failure that comes after a record got
            through.
        sent: whether the grids that are there already have been sent.
    """

    def __init__(self, name: str, service: Service, home: Path, tell: Callable[[str], None], *, sent: bool) -> None:
        self.name, self.service, self.home, self.tell = name, service, home, tell
        self._sent = _grids(home) if sent else {}
        self._fails = False

    def log(self, record: Record) -> None:
        """See `Tracker`. Other things than finite numbers are left out."""
        values = {name: plain(value) for name, value in record.items()}
        images = int(values["images"] if "images" in values else values["kimg"] * 1000)
        numbers = {n: float(x) for n, x in values.items() if isinstance(x, int | float) and n != "images"}
        grids = _grids(self.home)
        new = [grid for grid, written in grids.items() if self._sent.get(grid) != written]
        if self._try(lambda: self.service.send(numbers, new, images)):
            self._sent = grids

    def close(self) -> None:
        """See `Tracker`."""
        self._try(self.service.close)

    def _try(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except Exception as error:  # another program's, of any kind
            if not self._fails:
                self.tell(f"{self.name} does not take records any more ({shown(error, 200)}); training goes on")
            self._fails = True
            return False
        self._fails = False
        return True


def parse_trackers(text: str) -> tuple[str, ...]:
    """ "tensorboard,wandb" → names, each once; "none" → (). Raises `FruganError`."""
    if text.strip() == "none":
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        check_choice("--tracker", name, (*TRACKERS, "none") if len(names) == 1 else TRACKERS)
    return names


def check_trackers(names: Sequence[str]) -> None:
    """Raises `FruganError` for one that there is not, or whose package is not installed."""
    for name in names:
        check_choice("tracker", name, TRACKERS)
        if name in SERVICES and find_spec(SERVICES[name].package) is None:
            raise FruganError(
                f"tracker {name} needs the package {SERVICES[name].package}: pip install 'frugan[{name}]'"
            )


def open_tracker(name: str, home: Path, tell: Callable[[str], None], *, purge_after: int | None = None) -> Tracker:
    """A tracker of a run directory by its name; what the directory tells of earlier ones is continued.

    Args:
        name: of the tracker.
        home: the run's directory.
        tell: called with a sentence on each failure.
        purge_after: see `TensorBoard`.

    Raises `FruganError` where the service cannot be had.
    """
    if name == "tensorboard":
        return TensorBoard(home / "tensorboard", purge_after=purge_after)
    check_trackers([name])
    every = _kept(home)
    try:
        service = SERVICES[name].open(home, read_yaml(home / "config.yaml"), every.get(name))
    except Exception as error:  # another program's, of any kind
        raise FruganError(
            f"tracker {name} cannot begin: {shown(error, 500)}; fix that, or take it out of trackers in "
            f"{home / 'config.yaml'}"
        ) from error
    write_json(home / KEPT, {**every, name: service.names})
    return Forwarded(name, service, home, tell, sent=name in every)


def _kept(home: Path) -> dict[str, Names]:
    try:
        return read_json(home / KEPT)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise FruganError(f"{home / KEPT} is damaged ({shown(error)}); restore it, or remove it") from error


def _grids(home: Path) -> dict[Path, int]:
    """Sample grids of a run and when each was written."""
    files = [home / image.src for image in find_samples(home)]
    return {file: file.stat().st_mtime_ns for file in files}
