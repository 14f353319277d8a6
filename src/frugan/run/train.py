"""Training from data to run directory: `Run.train`, and `frugan.train` for a new run."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack, get_type_hints

import torch

from frugan.config.keywords import TrainKeywords
from frugan.config.options import Options
from frugan.data import DataConfig, Dataset
from frugan.device import choose_device
from frugan.distributed import first_before_others, gather, rank
from frugan.errors import FruganError
from frugan.files import located
from frugan.run.directory import Advance, Record, RunDirectory, lock
from frugan.run.plan import plan
from frugan.run.session import TrainingSession
from frugan.training import threads


class Run(RunDirectory):
    """A run: its directory, and training. `Run.create` begins one, `Run(path)` opens one; `train` starts or continues it."""

    def train(
        self,
        *,
        kimg: float | None = None,
        device: str | torch.device = "auto",
        dataset: Dataset | None = None,
        stop: Callable[[], bool] = lambda: False,
        evaluating: Advance | None = None,
        stepping: Callable[[float], None] = lambda kimg: None,
    ) -> Iterator[Record]:
        """Trains on from the latest checkpoint, yielding a record each tick (docs/reference/run-directory.md lists its fields).

        The directory is locked meanwhile. Where `torch.distributed` is set up, all processes call this and get the same
        records; the first alone writes. On a CPU it computes with the run's own number of threads, as far as there are
        cores.

        Args:
            kimg: the new total; None: that of the configuration.
            device: to train on.
            dataset: the images, if they are open already.
            stop: asked after each step. When it is true, or the iterator is closed, a checkpoint is written and
                training ends.
            evaluating: called with (done, total) images of an evaluation.
            stepping: called with kimg after each step.
        """
        with self.session(
            kimg=kimg, device=device, dataset=dataset, evaluating=evaluating, stepping=stepping
        ) as session:
            yield from session.records(stop)

    @contextmanager
    def session(
        self,
        *,
        kimg: float | None = None,
        device: str | torch.device = "auto",
        dataset: Dataset | None = None,
        evaluating: Advance | None = None,
        stepping: Callable[[float], None] = lambda kimg: None,
    ) -> Iterator[TrainingSession]:
        """A training session that is about to take its first step; arguments as for `train`. It ends with the context."""
        device = choose_device(device) if isinstance(device, str) else device
        with ExitStack() as stack:
            stack.push(self._locate)
            if rank() == 0:
                if self._locked:
                    stack.push(self._locked)
                    self._locked = None
                else:
                    lock(self.path, stack)
            total = kimg or self.config.kimg
            opened = first_before_others(lambda: dataset or self.open_data())
            if device.type == "cpu" and self.config.threads:
                stack.enter_context(threads.using(min(self.config.threads, max(threads.usable_cores(), 1))))
            session = TrainingSession(self, device, opened, total, evaluating=evaluating, stepping=stepping)
            stack.enter_context(closing(session))
            session.begin()
            yield session

    def _locate(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Gives an error of the system that names no file the run's own name."""
        if isinstance(error, OSError):
            located(error, self.path)


def train(
    data: str | Path | DataConfig,
    out: str | Path,
    *,
    device: str = "auto",
    stop: Callable[[], bool] = lambda: False,
    **options: Unpack[TrainKeywords],
) -> Iterator[Record]:
    """Trains a GAN on images, yielding a record each tick: `for record in frugan.train("photos", "runs/photos"): …`

    `options` are the fields of `frugan.config.options.Options`, and of `frugan.data.DataConfig` besides its path
    (docs/reference/options.md explains them). Several processes train together where each calls this within
    `frugan.distributed.joined`. A `UserWarning` says so where preset auto would take a CPU more than a day, and another
    one is taken; where held-out images are near-duplicates of training images; and where a class keeps no training image.
    """
    chosen = choose_device(device)
    run, dataset = begin(data, out, device=chosen, **options)
    return run.train(device=chosen, dataset=dataset, stop=stop)


def begin(
    data: str | Path | DataConfig, out: str | Path, *, device: torch.device, **options: Any
) -> tuple[Run, Dataset]:
    """Plans a run and makes its directory, as `train` does.

    Args:
        data: the images' path, or a configuration.
        out: the new directory.
        device: to train on.
        options: fields of `Options` and, for a path, of `DataConfig`.

    Returns:
        The run, and its images. Raises `FruganError` for an unknown option.
    """
    data_fields = DataConfig.__dataclass_fields__.keys() - {"path"}
    for_data = {k: options.pop(k) for k in list(options) if k in data_fields}
    unknown = options.keys() - Options.__dataclass_fields__.keys()
    if unknown:
        raise FruganError(
            f"unknown option {sorted(unknown)[0]!r}; see frugan.config.options.Options and frugan.data.DataConfig"
        )
    config = data if isinstance(data, DataConfig) else DataConfig(path=str(data), **for_data)
    planned = first_before_others(lambda: plan(Options(**options), config, device=device))
    if planned.note and rank() == 0:
        warnings.warn(f"{planned.note} For preset auto all the same, give preset='auto'.", stacklevel=3)
    for warning in planned.warnings:
        warnings.warn(warning, stacklevel=3)
    run = Run.create(out, planned.config) if rank() == 0 else None
    gather(None)
    return run or Run(out), planned.dataset


def _spelled_out(function: Callable[..., Any]) -> inspect.Signature:
    """Its signature with each keyword of its own, for help and completion in notebooks."""
    given = inspect.signature(function)
    known = {f.name: f.default for owner in (Options, DataConfig) for f in fields(owner) if f.name != "path"}
    types = get_type_hints(TrainKeywords)
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p for p in given.parameters.values() if p.kind != p.VAR_KEYWORD]
    return given.replace(
        parameters=[
            *own,
            *(inspect.Parameter(name, keyword, default=known[name], annotation=types[name]) for name in types),
        ]
    )


train.__signature__ = _spelled_out(train)  # pyright: ignore[reportFunctionMemberAccess]
