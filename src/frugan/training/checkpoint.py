"""Checkpoints: directories of safetensors and JSON, written whole or not at all, and verified when read.

checkpoint-000200.064/     kimg
    model.safetensors      the moving average of the generator, for use …
    config.json            … and what it takes to build it and the discriminator
    training.safetensors   the whole training state
    training.json          its counters
    manifest.json          size and SHA-256 of each file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from frugan.errors import FruganError
from frugan.files import read_json, sync, write_text
from frugan.networks import DiscriminatorConfig, GeneratorConfig, save_generator
from frugan.networks.serialization import check_shapes, save_tensors, unfilled
from frugan.training.state import TrainState

PREFIX = "checkpoint-"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint directory on disk."""

    path: Path

    @property
    def facts(self) -> dict[str, Any]:
        """The counters of the state, and the metrics known when it was saved."""
        return _read_json(self.path / "training.json")

    @property
    def images(self) -> int:
        return int(self.facts["images"])

    def verify(self) -> None:
        """Raises `FruganError` naming the first file that is missing, cut short or changed."""
        remedy = "use another checkpoint of the run, or restore this one from a copy"
        try:
            files = {name: (e["bytes"], e["sha256"]) for name, e in _read_json(self.path / MANIFEST)["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise FruganError(f"checkpoint {self.path} is damaged: {MANIFEST} lists no files; {remedy}") from error
        for name, written in files.items():
            file = self.path / name
            if not file.is_file():
                raise FruganError(f"checkpoint {self.path} is incomplete: {name} is missing; {remedy}")
            if (file.stat().st_size, _sha256(file)) != written:
                raise FruganError(f"checkpoint {self.path} is damaged: {name} is not what was written; {remedy}")

    def check_shapes(self, generator: GeneratorConfig, discriminator: DiscriminatorConfig) -> None:
        """Raises `FruganError` where networks of these configurations have weights of other shapes. It reads shapes
        only, no weights.
        """
        try:
            with safetensors.safe_open(self.path / "training.safetensors", "pt") as opened:
                shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError):
            return  # damaged: `recover` says so
        for prefix, network in (("G/", unfilled(generator)), ("D/", unfilled(discriminator))):
            own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
            check_shapes(own, network.state_dict())

    def restore(self, state: TrainState) -> None:
        """Loads the training state, bit for bit."""
        self.verify()
        tensors = safetensors.torch.load_file(self.path / "training.safetensors")
        state.load_state_dict(tensors, _read_json(self.path / "training.json"))


def kimg_name(images: int) -> str:
    """A count of images as kimg, as files of a run are named: 400 → "000000.400". Each count has a name of its own."""
    return f"{images // 1000:06d}.{images % 1000:03d}"


def name_of(state: TrainState) -> str:
    return f"{PREFIX}{kimg_name(state.images)}"


def save(directory: Path, state: TrainState, metrics: Mapping[str, float] | None = None) -> Checkpoint:
    """Writes a checkpoint of `state` into `directory`. One of the same step that is undamaged already is left as it is.

    Args:
        directory: the run's folder of checkpoints.
        state: which is not changed.
        metrics: values to be kept with it.
    """
    final = directory / name_of(state)
    if final.exists():
        try:
            Checkpoint(final).verify()
            return Checkpoint(final)
        except FruganError:
            shutil.rmtree(final)
    temporary = directory / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    directory.mkdir(exist_ok=True)  # without parents, so that a run that was moved away meanwhile is not made anew
    temporary.mkdir()
    try:
        _fill(temporary, state, metrics or {})
        temporary.rename(final)
    except BaseException:  # an unfinished checkpoint is of no use, and a full disk stays full of it
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(directory)
    return Checkpoint(final)


def _fill(folder: Path, state: TrainState, metrics: Mapping[str, float]) -> None:
    """Writes the files of a checkpoint, the manifest last, and waits until the disk has them."""
    tensors, facts = state.state_dict()
    save_tensors(tensors, folder / "training.safetensors")
    save_generator(folder, state.ema, discriminator=state.D.config)
    _write_json(folder / "training.json", {**facts, "metrics": dict(metrics)})
    files = {f.name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in sorted(folder.iterdir())}
    _write_json(folder / MANIFEST, {"format": 1, "files": files})
    for file in folder.iterdir():
        sync(file)


def all_checkpoints(directory: Path) -> list[Checkpoint]:
    """All checkpoints, from the oldest to the newest; unfinished ones have another name and are not seen."""
    return [Checkpoint(p) for p in sorted(directory.glob(f"{PREFIX}*")) if (p / MANIFEST).is_file()]


def latest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; damaged ones are skipped."""
    for checkpoint in reversed(all_checkpoints(directory)):
        try:
            checkpoint.verify()
        except FruganError:
            continue
        return checkpoint
    return None


def prune(directory: Path, *, keep_last: int, keep: set[Path]) -> None:
    """Removes old checkpoints, and the remains of a writer that was killed.

    Args:
        directory: the run's folder of checkpoints.
        keep_last: number of the newest checkpoints to keep.
        keep: further checkpoints to keep.
    """
    for checkpoint in all_checkpoints(directory)[: -keep_last or None]:
        if checkpoint.path not in keep:
            shutil.rmtree(checkpoint.path)
    _remove_unfinished(directory)


def recover(directory: Path) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to resume from, None in a new run, and the reasons why newer ones cannot be used.

    Those are renamed to damaged-…, so that none counts as the newest any more; the remains of a writer that was killed
    are removed. Raises `FruganError` where there are checkpoints, but all are damaged.
    """
    _remove_unfinished(directory)
    found = latest(directory)
    names = sorted(p for p in directory.glob(f"{PREFIX}*") if found is None or p.name > found.path.name)
    if names and found is None:
        raise FruganError(
            f"none of the {len(names)} checkpoints in {directory} is whole; restore one from a copy, or remove that "
            "folder to train from the beginning"
        )
    problems = []
    for path in names:
        try:
            Checkpoint(path).verify()
        except FruganError as error:
            problems.append(str(error))
        aside = path.with_name(f"damaged-{path.name.removeprefix(PREFIX)}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    return found, problems


def _remove_unfinished(directory: Path) -> None:
    for rest in directory.glob(f".{PREFIX}*"):
        shutil.rmtree(rest, ignore_errors=True)


def is_finite(state: TrainState) -> bool:
    """Whether all numbers that further training depends on are finite: weights, averages, optimisers, running means."""
    tensors = [
        tensor
        for name, tensor in state.state_dict()[0].items()
        if tensor.is_floating_point() and not name.startswith("controller/")  # its nan means "not observed"
    ]
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise FruganError(f"{file} cannot be read ({error}); use another checkpoint of the run") from error


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(value, indent=1, sort_keys=True), durable=False)
